"""What the tests with Ray share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def printed(tmp_path: Path) -> Callable[..., Any]:
    """Runs a program with Ray, whose argument is a folder, and returns the JSON that it prints last."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed: the extra `cluster`")

    def run(program: str, **environment: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program, str(tmp_path)],
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path.cwd()), **environment},
        )
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout.splitlines()[-1])

    return run
