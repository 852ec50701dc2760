"""`doctor`."""


def test_a_missing_model_is_found_and_exits_with_1(run, tmp_path, monkeypatch):
    healthy = run("doctor", "--collection", tmp_path / "c").stdout
    assert "BROKEN" not in healthy
    assert all(
        name in healthy
        for name in ("torch", "FAISS", "GPUs", "libavcodec", "threads", "for models of", "can make")
    )
    assert list(tmp_path.iterdir()) == []
