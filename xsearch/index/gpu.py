"""Limits of FAISS's classic GPU indexes, checked before building one."""

from __future__ import annotations

import logging
import subprocess
from typing import Any

from xsearch.index.library import load_faiss

__all__ = ["GPU_MOST", "GPU_SUBS", "GPU_SUB_DIMS", "copy_for", "free_bytes", "obstacle", "to_gpu"]

LOG = logging.getLogger("xsearch")

# FAISS wiki "Faiss on the GPU", Limitations: number of sub-quantisers; 56 and more need float16 tables
GPU_SUBS = (1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96)
GPU_SUB_DIMS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32)  # dimensions per sub-quantiser
GPU_MOST = 2048  # k and nprobe
SHARED = 49_152  # bytes of shared memory for the lookup tables of one query, 256 entries per sub-quantiser
SCRATCH = 3 << 29  # bytes: 1.5 GiB, reserved by faiss.StandardGpuResources
ID_BYTES = 8  # an int64 per vector


def obstacle(n: int, dim: int, sub: int, lists: int, *, free: int | None, float16: bool = True) -> str | None:
    """Return why the GPU cannot hold this IVF-PQ index, None if it can.

    n vectors of `dim` dimensions, `sub` 8-bit sub-quantisers, `lists` inverted lists. free: bytes of free
    GPU memory, None if unknown. float16: lookup tables in half precision.
    """
    if sub not in GPU_SUBS:
        return f"{sub} quantisers, supported are {', '.join(map(str, GPU_SUBS))}"
    if dim % sub or dim // sub not in GPU_SUB_DIMS:
        return f"{dim} dimensions in {sub} parts"
    if sub * 256 * (2 if float16 else 4) > SHARED:
        return f"tables of {sub} quantisers without float16"
    needed = n * (sub + ID_BYTES) + lists * dim * 4 + SCRATCH
    if free is not None and needed > free:
        return f"{needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free"
    return None


def free_bytes() -> int | None:
    """Return the free memory of the first GPU as reported by nvidia-smi, None if unavailable."""
    command = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]  # MiB
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
        return int(output.split()[0]) << 20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def copy_for(device: str, index: Any) -> Any | None:
    """Copy an index `to_gpu` if it is for "cuda"; None without a GPU, or if its memory does not suffice."""
    if device != "cuda" or not load_faiss().get_num_gpus():
        return None
    try:
        return to_gpu(index)
    except RuntimeError as error:
        LOG.warning("the CPU searches the index, which is not on the GPU: %s", str(error).rsplit(": ", 1)[-1])
        return None


def to_gpu(index: Any, *, shared: bool = True) -> Any:
    """Copy an IVF-PQ index to all GPUs, its lists sharded, with float16 tables.

    shared: False copies it to the first one, as for training: shards would each learn codes of their own.
    """
    faiss = load_faiss()
    if faiss.get_num_gpus() == 1 or not shared:
        options = faiss.GpuClonerOptions()
        options.useFloat16 = True
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index, options)
    options = faiss.GpuMultipleClonerOptions()
    options.useFloat16, options.shard = True, True  # with a common quantizer, a search cannot choose nprobe
    return faiss.index_cpu_to_all_gpus(index, co=options)
