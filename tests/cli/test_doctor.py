"""`doctor` and `models`."""


def test_a_missing_model_is_found_and_exits_with_1(run, tmp_path, monkeypatch):
    healthy = run("doctor", "--index", tmp_path / "c").stdout
    assert "BROKEN" not in healthy
    assert all(name in healthy for name in ("torch", "FAISS", "GPUs", "libavcodec", "threads", "can make"))
    assert list(tmp_path.iterdir()) == []


def test_models_are_listed(run, tmp_path, monkeypatch):
    monkeypatch.setenv("XSEARCH_HOME", str(tmp_path))
    listed = run("models", "list").stdout
    assert "bundled" in listed
    assert "not there" in listed  # ImageBind


def test_the_licence_is_asked_for(run, tmp_path, monkeypatch):
    monkeypatch.setenv("XSEARCH_HOME", str(tmp_path))
    words = ["models", "install", "--from", tmp_path / "x.pth", "--vocab", tmp_path / "v.gz"]
    assert "CC-BY-NC" in run(*words, input="n\n", code=1).stderr
    assert "v.gz" in run(*words, "--yes", code=1).stderr
