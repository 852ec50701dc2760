"""A read is refused if, and only if, one of its pages is not what was written."""

from __future__ import annotations

import datetime
import shutil
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xsearch.errors import Damaged
from xsearch.store import Store
from xsearch.store.manifest import read_manifest, write_manifest
from xsearch.store.mapped import MappedTable, fetch
from xsearch.store.pages import PAGE, CheckedFile, checksums
from xsearch.store.segments import MAPPED, MAPPED_SUMS
from xsearch.system.folder import Folder
from xsearch.types import Fingerprint

DIM = 96  # 192 bytes a vector: some lie on two pages
ROWS = 20_000  # three row groups


def test_checksums_are_the_weighted_sums_that_the_page_describes():
    data = np.random.default_rng(3).integers(0, 256, 2 * PAGE + 13, np.uint8)
    words = np.frombuffer(data.tobytes().ljust(3 * PAGE, b"\0"), "<u8").reshape(3, -1).tolist()
    by_hand = [sum((2 * i + 1) * word for i, word in enumerate(page)) % 2**64 for page in words]
    assert checksums(data).tolist() == by_hand


@pytest.mark.parametrize("at", [0, 1, PAGE - 1, PAGE, 3 * PAGE + 7, 5 * PAGE + 99])
def test_only_the_pages_that_are_read_are_checked(tmp_path: Path, at: int):
    content = np.random.default_rng(at).integers(0, 256, 5 * PAGE + 100, np.uint8)
    sums = checksums(content)
    content[at] ^= 4
    (tmp_path / "file").write_bytes(content.tobytes())

    def by_rows(file: CheckedFile, start: int, stop: int) -> None:
        file.check_each(np.array([start]), stop - start)

    rng = np.random.default_rng(at)
    for start, stop in [(at, at), *np.sort(rng.integers(0, len(content), (40, 2))).tolist()]:
        for read in (CheckedFile.check, by_rows):
            file = CheckedFile(tmp_path, "file")
            file.expect(sums)
            if start // PAGE <= at // PAGE <= stop // PAGE:
                with pytest.raises(Damaged, match=f"at byte {at // PAGE * PAGE:,};"):
                    read(file, start, stop + 1)
            else:
                read(file, start, stop + 1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((ROWS, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    store = Store.create(tmp_path_factory.mktemp("store") / "c", Fingerprint("tiny", "d", "p", DIM))
    items = {"path": [f"{rng.integers(10**9)}" for _ in range(ROWS)], "modality": ["text"] * ROWS}
    with store.writer() as writer:
        writer.add(pa.table(items), vectors)
        writer.commit()
    return store


def test_a_broken_vector_is_not_given_and_the_others_are(store: Store):
    path = store.path / store.snapshot().manifest.segments[0].folder / "vectors.arrow"
    whole = path.read_bytes()
    row = 7_000
    at = whole.index(store.snapshot().vectors(np.array([row])).astype(np.float16).tobytes())
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 128]) + whole[at + 1 :])

    snapshot = store.snapshot()
    far = np.array([5, row - 50, row + 50, 2 * row])
    assert snapshot.vectors(far).shape == (4, DIM)
    assert [ids[0] for ids, _ in snapshot.blocks(far, rows=1)] == far.tolist()
    for read in (
        lambda: snapshot.vectors(np.array([5, row])),
        lambda: list(snapshot.blocks()),
        lambda: list(snapshot.blocks(np.array([3, row]))),
    ):
        with pytest.raises(Damaged, match=r"vectors\.arrow: a wrong checksum at byte"):
            read()
    path.write_bytes(whole)


def test_a_broken_row_group_is_not_given_and_the_others_are(store: Store, tmp_path: Path):
    old = as_written_by_an_older_release(store, tmp_path / "old")
    path = old.path / old.snapshot().manifest.segments[0].folder / "items.parquet"
    whole = path.read_bytes()
    paths = pq.read_metadata(path).row_group(0).column(1)  # of the first 8,192
    at = paths.dictionary_page_offset + paths.total_compressed_size // 2
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 128]) + whole[at + 1 :])
    check_broken(old, near=[0], far=[8_192, ROWS - 1])


@pytest.mark.parametrize("row", [0, 7_000, 15_000])
def test_a_broken_item_is_not_given_and_the_others_are(store: Store, row: int):
    path = store.path / store.snapshot().manifest.segments[0].folder / "items.arrow"
    whole = path.read_bytes()
    at = whole.index(store.snapshot().items(np.array([row]))["path"][0].as_py().encode())
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 128]) + whole[at + 1 :])
    check_broken(store, near=[5, row], far=[(row + 1_000) % ROWS, (row - 1_000) % ROWS])
    path.write_bytes(whole)


@pytest.mark.parametrize("row", [0, 7_000, ROWS - 1])
def test_what_is_fetched_of_a_row_is_what_is_read(store: Store, row: int):
    name = f"{store.snapshot().manifest.segments[0].folder}/{MAPPED}"
    file = CheckedFile(store.path, name)
    file.expect(checksums(np.fromfile(store.path / name, np.uint8)))
    table = MappedTable(file)
    fetch([(table, row)])
    verified = bytes(file.flags)
    assert 0 < sum(verified) < 10
    assert table.record(row)["id"] == row
    assert bytes(file.flags) == verified


def check_broken(store: Store, *, near: list[int], far: list[int]) -> None:
    """The paths of the items `near` are broken, those of the items `far` are not, nor are other columns."""
    snapshot = store.snapshot()
    assert snapshot.items(np.array(far)).num_rows == len(far)
    assert snapshot.items(np.array(near), ["modality"]).num_rows == len(near)
    assert snapshot.counts()
    larger = store.snapshot()
    vars(larger)["_exceeds_memory"] = True
    found = larger.records(np.array(far))(0, len(far))
    assert [row["path"] for row in found] == snapshot.items(np.array(far))["path"].to_pylist()
    for read in (
        lambda: snapshot.items(np.array(near)),
        lambda: snapshot.records(np.array(near)),
        lambda: larger.records(np.array(near)),
        lambda: snapshot.table(["path"]),
        lambda: snapshot.select("path = '7'"),
    ):
        with pytest.raises(Damaged, match=r"items\.(parquet|arrow): a wrong checksum at byte"):
            read()


def as_written_by_an_older_release(store: Store, path: Path) -> Store:
    """A copy without `items.arrow`, of format 2 too."""
    shutil.copytree(store.path, path)
    manifest = read_manifest(path)
    entries = []
    for entry in manifest.segments:
        known = {name: sha256 for name, sha256 in entry.sha256.items() if name not in (MAPPED, MAPPED_SUMS)}
        entries.append(replace(entry, sha256=known))
        for name in (MAPPED, MAPPED_SUMS):
            (path / entry.folder / name).unlink()
    write_manifest(Folder(path), replace(manifest, segments=tuple(entries)))
    return Store.open(path)


COLUMNS = {
    "flag": pa.array([True, None, False] * 700),
    "byte": pa.array([1, None, -3] * 700, pa.int8()),
    "price": pa.array([0.5, None, -1.0] * 700),
    "day": pa.array([datetime.date(2020, 1, 1), None, datetime.date(1999, 1, 1)] * 700),
    "seen": pa.array([datetime.datetime(2020, 1, 1), None, datetime.datetime(1999, 1, 1)] * 700),
    "note": pa.array([None, "", "x" * 5_000] * 700),
    "long": pa.array(["a", None, "b"] * 700, pa.large_string()),
    "tags": pa.array([["a", "b"], None, []] * 700),
    "where": pa.array([{"x": 1, "y": [2]}, None, {"x": None, "y": []}] * 700),
    "kind": pa.array(["a", None, "b"] * 700).dictionary_encode(),
    "raw": pa.array([b"a", None, b""] * 700),
    "cents": pa.array([Decimal("1.50"), None, Decimal("-2.25")] * 700),
    "nothing": pa.nulls(2_100),
}


def test_items_of_every_type_are_those_of_an_older_release(tmp_path: Path):
    store = Store.create(tmp_path / "c", Fingerprint("tiny", "d", "p", 2))
    with store.writer() as writer:
        for some in (["flag", "note"], list(COLUMNS), ["Note", "tags"]):
            known = {"path": [f"/{i}" for i in range(2_100)], "modality": ["text"] * 2_100}
            columns = known | {name: COLUMNS[name.lower()] for name in some}
            writer.add(pa.table(columns), np.tile(np.float32([0, 1]), (2_100, 1)))
            writer.commit()
        writer.remove([7, 2_200])
        writer.commit()
    new, old = store.snapshot(), as_written_by_an_older_release(store, tmp_path / "old").snapshot()
    assert new.schema == old.schema
    assert new.table() == old.table()
    ids = np.random.default_rng(0).choice(new.ids, 500)
    assert new.items(ids) == old.items(ids) == new.table().take(np.searchsorted(new.ids, ids))
    for ids in ([3, 2_100, 6_299], [6_000], []):
        assert store.snapshot().items(np.array(ids, int)) == old.items(np.array(ids, int))
    assert new.items(np.array([5, 6]), ["note", "id"]) == old.items(np.array([5, 6]), ["note", "id"])


def test_compact_gives_the_segments_of_an_older_release_what_they_lack(store: Store, tmp_path: Path):
    old = as_written_by_an_older_release(store, tmp_path / "old")
    before = old.snapshot().table()
    with old.writer() as writer:
        writer.compact()
    (entry,) = old.snapshot().manifest.segments
    assert MAPPED in entry.sha256
    assert old.snapshot().table() == before
