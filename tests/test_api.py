"""The names that `import xsearch` offers, and that it is light."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import types
from importlib.metadata import PackageNotFoundError, version

import pytest

import xsearch

HEAVY = ("torch", "faiss", "duckdb", "pyarrow", "librosa", "av", "PIL", "numpy")


def order(name: str) -> tuple[bool, bool, str]:
    """CONSTANTS, then Classes, then functions, as ruff sorts them."""
    return not name.isupper(), not name[0].isupper(), name


def test_every_name_is_there() -> None:
    assert dir(xsearch) == sorted(xsearch.__all__)
    for name in set(xsearch.__all__) - {"__version__"}:
        assert getattr(xsearch, name).__name__ == name


def test_the_version_is_that_of_the_package() -> None:
    try:
        assert xsearch.__version__ == version("xsearch")
    except PackageNotFoundError:
        pytest.skip("xsearch runs from its source folder, without pip install")


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = xsearch.nonsense


def test_importing_is_light() -> None:
    program = f"import sys, xsearch; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "name",
    [
        module.name
        for module in pkgutil.walk_packages(xsearch.__path__, "xsearch.")
        if "__main__" not in module.name
    ],
)
def test_all_of_a_module_equals_its_public_names(name: str) -> None:
    module = importlib.import_module(name)
    assert list(module.__all__) == sorted(module.__all__, key=order)
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)
    if hasattr(module, "__path__"):  # a package: whatever it defines or re-exports is offered
        public = {
            key
            for key, value in vars(module).items()
            if not key.startswith("_")
            and not isinstance(value, types.ModuleType)
            and getattr(value, "__module__", "").startswith(f"{name}.")
        }
        assert public <= set(module.__all__)
