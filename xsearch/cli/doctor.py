"""`doctor`: whether everything that xsearch needs works on this machine."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import typer

from xsearch.cli import options, output
from xsearch.cli.table import print_table
from xsearch.errors import UsageError, XsearchError
from xsearch.types import DEFAULT_COLLECTION

__all__ = ["doctor"]

PACKAGES = ("torch", "faiss", "duckdb", "pyarrow", "numpy", "PIL", "av", "librosa", "soundfile", "tokenizers")


def doctor(
    folder: options.Folder = DEFAULT_COLLECTION,
    model: options.Model = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
) -> None:
    """Check that what xsearch needs works on this machine.

    Exits with 1 if something does not.
    """
    rows = []
    broken = 0
    checks: dict[str, Callable[[], str]] = {
        "xsearch": _version,
        **{name: partial(_package, name) for name in PACKAGES},
        "GPU": _gpu,
        "Ray": _ray,
        "FAISS": _faiss,
        "ffmpeg": _ffmpeg,
        "threads": _threads,
        "model": partial(_model, model),
        "precision": partial(_precision, model, device, dtype),
        "model folder": _home,
        "collection": partial(_writable, folder),
    }
    for name, check in checks.items():
        try:
            rows.append((name, "ok", check()))
        except (ImportError, OSError, XsearchError) as problem:
            rows.append((name, "BROKEN", " ".join(str(problem).split())))
            broken += 1
    print_table(("check", "", "finding"), rows)
    if broken:
        output.note(f"{broken} of {len(rows)} checks failed; the findings above say why")
        raise typer.Exit(1)


def _version() -> str:
    from importlib.metadata import version

    machine = f"{platform.system()} {platform.machine()}"
    return f"{version('xsearch')} on Python {platform.python_version()}, {machine}"


def _package(name: str) -> str:
    from importlib import import_module

    return str(import_module(name).__version__)


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        return "none; everything runs on the CPU"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def _ray() -> str:
    from xsearch.cluster import describe

    try:
        return describe()
    except UsageError:
        return "not installed; ingest --engine ray needs it: pip install 'xsearch[cluster]'"


def _precision(model: str | None, device: str, dtype: str) -> str:
    from xsearch.backend import load_backend, model_source

    backend = load_backend(model_source(model), device=device, dtype=dtype)
    able = backend.capabilities()
    return f"{backend.fingerprint.name} computes in {able.dtype} on {able.device}"


def _faiss() -> str:
    import faiss

    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    return f"{faiss.get_compile_options().strip()}; {gpus} GPUs"


def _ffmpeg() -> str:
    import av

    names = ("libavformat", "libavcodec", "libswresample")
    return ", ".join(f"{name} {'.'.join(map(str, av.library_versions[name]))}" for name in names)


def _threads() -> str:
    import torch

    limit = os.environ.get("OMP_NUM_THREADS")
    return f"{torch.get_num_threads()} of {os.cpu_count()} cores" + (
        f" (OMP_NUM_THREADS={limit})" if limit else ""
    )


def _model(model: str | None) -> str:
    from xsearch.models.registry import resolve

    return resolve(model).line.removeprefix("model: ")


def _home() -> str:
    from xsearch.models.registry import home

    return _writable(home())


def _writable(folder: Path) -> str:
    """Try it in the nearest folder that exists: nothing is left behind."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    with tempfile.TemporaryFile(dir=there):
        return f"can write to {folder}" if there == folder.absolute() else f"can make {folder}"
