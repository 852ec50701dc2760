"""Servers and the programs of their user meet at a socket that nobody else can make or use."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from xsearch.system import rendezvous
from xsearch.system.rendezvous import address, announced, is_private


@pytest.fixture(autouse=True)
def meeting(tmp_path_factory, monkeypatch) -> Path:
    """The folder of the sockets of this test."""
    folder = tmp_path_factory.mktemp("m") / "xsearch"
    monkeypatch.setattr(rendezvous, "sockets", lambda: folder)
    return folder


def says(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(str(path))
        return client.recv(9)


def test_who_looks_for_a_folder_finds_its_server(tmp_path, meeting):
    with announced([tmp_path]) as (listener,):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(address(tmp_path)))
        connection, _ = listener.accept()
        connection.sendall(b"hello")
        assert client.recv(9) == b"hello"
        for end in (client, connection):
            end.close()
        assert is_private(meeting)
    assert list(meeting.iterdir()) == []


def test_every_path_to_a_folder_leads_to_its_server_and_a_copy_does_not(tmp_path, monkeypatch):
    folder = tmp_path / ("long" * 60) / "collection"
    folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(folder)
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.chdir(folder.parent)
    assert address(folder) == address(Path("collection")) == address(tmp_path / "link")
    assert address(folder) != address(tmp_path / "copy")
    assert address(tmp_path / "none") is None
    assert len(bytes(rendezvous.sockets() / address(folder).name)) < 108 - 20  # sun_path, and `.` and a pid


def test_a_second_server_leaves_the_first_alone(tmp_path):
    with announced([tmp_path]) as first:
        with announced([tmp_path, tmp_path]) as second:
            assert second == []
        assert address(tmp_path).is_socket()
        assert len(first) == 1
    with announced([tmp_path, tmp_path]) as twice:
        assert len(twice) == 1


def test_the_socket_of_a_server_that_was_killed_is_replaced(tmp_path):
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom xsearch.system import rendezvous\n"
        f"rendezvous.sockets = lambda: Path({str(rendezvous.sockets())!r})\n"
        f"with rendezvous.announced([Path({str(tmp_path)!r})]): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert address(tmp_path).is_socket()
    with pytest.raises(ConnectionRefusedError):
        says(address(tmp_path))
    with announced([tmp_path]) as listeners:
        assert len(listeners) == 1
    assert not address(tmp_path).exists()


def test_a_socket_that_is_not_ours_stays(tmp_path):
    with announced([tmp_path]):
        address(tmp_path).rename(tmp_path / "ours")
        address(tmp_path).touch()
    assert address(tmp_path).exists()


@pytest.mark.parametrize("made", ["open", "link", "file"])
def test_a_folder_that_others_can_enter_or_have_made_is_not_used(tmp_path, meeting, made):
    if made == "open":
        meeting.mkdir(mode=0o755)
        meeting.chmod(0o755)
    elif made == "link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        meeting.symlink_to(tmp_path / "theirs")
    else:
        meeting.touch()
    with announced([tmp_path]) as listeners:
        assert listeners == []
    assert not is_private(meeting)


def test_the_folder_of_another_user_is_not_private(tmp_path, monkeypatch):
    folder = tmp_path / "f"
    folder.mkdir(mode=0o700)
    assert is_private(folder)
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    assert not is_private(folder)
