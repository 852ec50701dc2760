"""Data flows down the page: a module imports only from smaller numbers, or from its own package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import xsearch

PACKAGE = Path(xsearch.__file__).parent
LAYERS = {
    -1: ("errors", "types"),
    0: ("english", "nearest", "sheet", "system"),
    1: ("media", "models", "store", "index", "scenes"),
    2: ("backend", "decoders", "metadata", "words"),
    3: ("pairs", "preview"),
    4: ("gallery",),
    5: ("query", "train", "evaluate"),
    6: ("derive", "generate", "locate"),
    7: ("ingest", "exchange", "integrity", "model"),
    8: ("client", "collection", "cluster"),
    9: ("serve",),
    10: ("cli",),
    11: ("__main__",),
}
LAYER = {name: number for number, names in LAYERS.items() for name in names}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part(module: str) -> str:
    """`xsearch.store.snapshot` -> `store`."""
    return module.split(".")[1] if "." in module else ""


def imports(path: Path, *, typing: bool = True) -> Iterator[str]:
    """Absolute names of everything a module imports, also inside functions; without what only types need."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not typing
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "xsearch")


def own_part(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def test_every_part_has_a_layer() -> None:
    assert {own_part(path) for path in MODULES} <= LAYER.keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    own = own_part(path)
    for module in imports(path, typing=False):
        other = part(module)
        if not module.startswith("xsearch") or not other or other not in LAYER or other == own:
            continue
        assert LAYER[other] < LAYER[own], f"{own} imports {module}"


@pytest.mark.parametrize("name", ["store", "index", "media", "words"])
def test_arrays_know_nothing_of_tensors(name: str) -> None:
    for path in (PACKAGE / name).rglob("*.py"):
        assert not {module.split(".")[0] for module in imports(path)} & {"torch", "transformers"}, path


def test_training_knows_nothing_of_collections() -> None:
    for path in (PACKAGE / "train").rglob("*.py"):
        assert not {part(module) for module in imports(path)} & {"store", "index"}, path


def test_the_check_sees_what_it_should(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("def f():\n    from xsearch import store\n    import torch.nn\n")
    assert {"xsearch", "xsearch.store", "torch.nn"} == set(imports(module))
