"""What the page is made of: vendored files as they were published, texts in all languages, nothing inline."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path

import pytest

import xsearch
from xsearch.serve.texts import LANGUAGES, Texts

SERVE = Path(xsearch.__file__).parent / "serve"
STATIC, TEMPLATES = SERVE / "static", SERVE / "templates"
VENDORED = [STATIC / "vendor", Path(__file__).parent / "axe"]
MODULES = sorted(STATIC.glob("*.js"))
PAGES = sorted(TEMPLATES.glob("*.jinja"))


@pytest.mark.parametrize("table", VENDORED, ids=lambda path: path.name)
def test_vendored_files_are_those_of_the_table_and_have_licences(table: Path) -> None:
    versions = json.loads((table / "versions.json").read_text())
    for name, library in versions.items():
        folder = table if table.name == "axe" else table / name
        files = {path.name for path in folder.iterdir() if path.name != "versions.json"}
        licences = {name for name in files if name.startswith("LICENSE")}
        assert licences, name
        assert files - licences == library["files"].keys(), name
        for file, digest in library["files"].items():
            assert sha256((folder / file).read_bytes()).hexdigest() == digest, file
        assert re.fullmatch(r"\d+\.\d+\.\d+", library["version"])
    if table.name != "axe":
        assert {path.name for path in table.iterdir() if path.is_dir()} == versions.keys()


def test_languages_have_the_same_texts() -> None:
    first, *others = (Texts.of(language).content for language in LANGUAGES)
    for other in others:
        assert other.keys() == first.keys()
        for key in first:
            assert set(re.findall(r"\{\w+\}", first[key])) == set(re.findall(r"\{\w+\}", other[key])), key


def test_texts_that_are_used_exist_and_no_others() -> None:
    content = Texts.of("en").content
    sources = "\n".join(path.read_text() for path in [*MODULES, *PAGES, *SERVE.glob("*.py")])
    begun = set(re.findall(r"""\bt(?:\.title)?\(f?["'`]([\w.]+\.)["'`{$]""", sources))  # t("kind." ~ kind)
    whole = set(re.findall(r"""\bt\(\s*["']([\w.-]+[\w-])["']""", sources))
    assert whole <= content.keys()
    for key in content:
        assert re.search(rf"""["'`]{re.escape(key)}["'`]""", sources) or key.startswith(tuple(begun)), key


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_templates_have_nothing_inline(path: Path) -> None:
    content = path.read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:|\|\s*safe", content)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_modules_insert_no_html(path: Path) -> None:
    assert not re.search(
        r"innerHTML|outerHTML\s*=|insertAdjacentHTML|document\.write|\beval\(|new Function", path.read_text()
    )


def test_modules_import_what_exists() -> None:
    for path in MODULES:
        for imported in re.findall(r"""(?:from|import|import\()\s*["'](\.[^"']+)["']""", path.read_text()):
            assert (path.parent / imported).is_file(), f"{path.name}: {imported}"


def test_every_action_of_a_button_exists() -> None:
    named = {name for path in PAGES for name in re.findall(r'data-do="([\w-]+)"', path.read_text())}
    actions = "\n".join(
        text.partition("export const actions")[2] or text.partition("const actions")[2]
        for text in (path.read_text() for path in MODULES)
    )
    assert not {name for name in named if not re.search(rf"""["' {{,]{name}["']?\s*(?:[:,(}}])""", actions)}
