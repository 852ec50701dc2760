"""Libraries are loaded with short waits for the threads of OpenMP, unless the environment has others."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp")
@pytest.mark.parametrize("requested", [None, "77"])
@pytest.mark.parametrize("library", ["torch", "faiss"])
def test_threads_wait_shortly(library: str, requested: str | None) -> None:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("GOMP_", "OMP_WAIT"))}
    env |= {"OMP_DISPLAY_ENV": "verbose"} | ({"GOMP_SPINCOUNT": requested} if requested else {})
    done = subprocess.run(
        [sys.executable, "-c", f"import xsearch, {library}"], env=env, stderr=subprocess.PIPE
    )
    assert done.returncode == 0
    assert f"GOMP_SPINCOUNT = '{requested or 1000}'" in done.stderr.decode()
