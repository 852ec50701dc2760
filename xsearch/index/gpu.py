"""What FAISS's classic GPU code can do, known before the work."""

from __future__ import annotations

import subprocess
from importlib import import_module
from typing import Any

__all__ = ["GPU_MOST", "GPU_SUBS", "GPU_SUB_DIMS", "free_bytes", "obstacle", "to_gpu"]

# FAISS wiki "Faiss on the GPU", Limitations: quantisers, of which 56 and more need float16 tables
GPU_SUBS = (1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96)
GPU_SUB_DIMS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32)  # dimensions of each
GPU_MOST = 2048  # k and nprobe
SHARED = 49_152  # bytes that the tables of one query, 256 entries per quantiser, share
SCRATCH = 3 << 29  # bytes: 1.5 GiB that faiss.StandardGpuResources reserves
ID_BYTES = 8


def obstacle(n: int, dim: int, sub: int, lists: int, *, free: int | None, float16: bool = True) -> str | None:
    """Why n vectors of `dim` dimensions, `sub` 8-bit quantisers and `lists` lists cannot be on it, or None.

    free: bytes of its memory, None if that is not known. float16: whether the tables are of this type.
    """
    if sub not in GPU_SUBS:
        return f"{sub} quantisers, it has {', '.join(map(str, GPU_SUBS))}"
    if dim % sub or dim // sub not in GPU_SUB_DIMS:
        return f"{dim} dimensions in {sub} parts"
    if sub * 256 * (2 if float16 else 4) > SHARED:
        return f"tables of {sub} quantisers without float16"
    needed = n * (sub + ID_BYTES) + lists * dim * 4 + SCRATCH
    if free is not None and needed > free:
        return f"{needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free"
    return None


def free_bytes() -> int | None:
    """Of the first GPU's memory, as the driver says; None if it does not."""
    ask = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]  # MiB
    try:
        told = subprocess.run(ask, capture_output=True, text=True, check=True, timeout=10).stdout
        return int(told.split()[0]) << 20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def to_gpu(index: Any) -> Any:
    """A copy of an IVF-PQ index on all GPUs, its lists shared out; float16 tables."""
    faiss: Any = import_module("faiss")
    count = faiss.get_num_gpus()
    if count == 1:
        options = faiss.GpuClonerOptions()
        options.useFloat16 = True
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index, options)
    options = faiss.GpuMultipleClonerOptions()
    options.useFloat16, options.shard, options.common_ivf_quantizer = True, True, True
    return faiss.index_cpu_to_all_gpus(index, co=options)
