"""What tests of several parts share."""

import io
import logging
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from tests import official
from tests.thin_model import save_thin_model
from xsearch.models import SMALL, train_tokenizer
from xsearch.system.threads import _Helpers

# A shell without job control starts background commands, and thus the tests, with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `system.threads.share` have three helpers, whatever the machine has."""
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setattr("xsearch.system.threads._helpers", _Helpers(3))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A model folder with random weights."""
    path = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer(["a red dog"], 300)
    save_thin_model(path, tokenizer, dim=24, context=SMALL.text.context, mirrored=False)
    return path


@pytest.fixture(scope="session")
def pth() -> bytes:
    """A checkpoint as ImageBind's authors publish theirs, in small."""
    file = io.BytesIO()
    torch.save(official.checkpoint(official.small()), file)
    return file.getvalue()


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A folder that is not in memory, though temporary files may be."""
    with TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of its own, of one megabyte or as many as its parameter says."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = f"size={getattr(request, 'param', 1)}m"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket on an S3 server."""
    from fsspec import config
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    config.conf["s3"] = {"endpoint_url": f"http://{host}:{port}", "key": "k", "secret": "s"}
    S3FileSystem(**config.conf["s3"]).makedirs("bucket", exist_ok=True)
    yield "s3://bucket"
    del config.conf["s3"]
    S3FileSystem.clear_instance_cache()
    server.stop()
