"""Which model is taken."""

import sys
from pathlib import Path

import pytest
from platformdirs import user_cache_path

from xsearch.errors import ModelError
from xsearch.models import registry, save_model
from xsearch.models.registry import home, imagebind_folder, resolve


@pytest.fixture(autouse=True)
def bundled(monkeypatch, tmp_path, model, tokenizer) -> Path:
    """A machine with the bundled model only."""
    monkeypatch.setenv("XSEARCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XSEARCH_MODEL", raising=False)
    monkeypatch.setattr(registry, "BUNDLED", tmp_path / "bundled")
    save_model(model, tokenizer, tmp_path / "bundled")
    return tmp_path / "bundled"


@pytest.fixture
def folder(model, tokenizer, tmp_path) -> Path:
    save_model(model, tokenizer, tmp_path / "my model")
    return tmp_path / "my model"


def test_home_is_the_platforms_cache_unless_set(monkeypatch, tmp_path):
    assert home() == tmp_path / "home"
    monkeypatch.delenv("XSEARCH_HOME")
    assert home() == user_cache_path("xsearch", appauthor=False)
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert home() == tmp_path / "xsearch"
    assert imagebind_folder() == home() / "models" / "imagebind"


def test_without_a_choice_imagebind_is_taken_when_it_is_installed(bundled, model, tokenizer):
    assert resolve().folder == bundled
    assert "models pull imagebind" in resolve().line
    with pytest.raises(ModelError, match="models pull imagebind"):
        resolve("imagebind")

    save_model(model, tokenizer, imagebind_folder())
    assert resolve() == resolve("imagebind")
    assert resolve().folder == imagebind_folder()
    assert "--model bundled" in resolve().line
    assert resolve("bundled").folder == bundled
    assert "--model imagebind" in resolve("bundled").line


def test_a_choice_goes_before_the_environment(folder, bundled, monkeypatch):
    assert resolve(str(folder)).folder == folder
    monkeypatch.setenv("XSEARCH_MODEL", str(folder))
    assert resolve().folder == folder
    assert resolve("bundled").folder == bundled


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no model"):
        resolve(str(tmp_path))


def test_an_installation_without_its_model_says_so(bundled):
    (bundled / "config.json").unlink()
    with pytest.raises(ModelError, match="lacks the bundled model"):
        resolve()
