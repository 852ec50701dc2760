"""FAISS is loaded with short waits for the threads of OpenMP, unless the environment has others."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from xsearch.index.library import SPINS

PROGRAM = "import os; from xsearch.index.library import load_faiss; load_faiss(); print(*sorted(os.environ))"


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp")
@pytest.mark.parametrize("requested", [None, "77"])
def test_threads_wait_shortly_and_the_environment_stays_as_it_was(requested):
    env = {key: value for key, value in os.environ.items() if not key.startswith(("GOMP_", "OMP_WAIT"))}
    env |= {} if requested is None else {"GOMP_SPINCOUNT": requested}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=env | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"GOMP_SPINCOUNT = '{requested or SPINS}'" in done.stderr
    assert ("GOMP_SPINCOUNT" in done.stdout.split()) == (requested is not None)
