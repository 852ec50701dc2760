"""`doctor`."""


def test_a_missing_model_is_found_and_exits_with_1(run, tmp_path, monkeypatch):
    healthy = run("doctor", "--collection", tmp_path / "c").stdout
    assert "BROKEN" not in healthy
    assert all(name in healthy for name in ("torch", "FAISS", "GPUs", "libavcodec", "threads", "can make"))
    assert list(tmp_path.iterdir()) == []


def test_it_names_the_precision_that_an_ingest_computes_in(run, media, tmp_path):
    for words in ([], ["--dtype", "bf16"]):
        stated = run("doctor", *words).stdout
        folder = tmp_path / f"c{len(words)}"
        computing = run("ingest", media / "note.txt", "-c", folder, *words).stderr
        precision = computing.split("computing in ")[1].splitlines()[0]
        assert f"tiny computes in {precision}\n" in stated
    assert "BROKEN" in run("doctor", "--dtype", "fp17", code=1).stdout
