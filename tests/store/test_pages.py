"""A read is refused if, and only if, one of its pages is not what was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xsearch.errors import Damaged
from xsearch.store import Store
from xsearch.store.pages import PAGE, CheckedFile, checksums
from xsearch.types import ModelStamp

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
    store = Store.create(tmp_path_factory.mktemp("store") / "c", ModelStamp("tiny", "d", "p", DIM))
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

    seen = store.snapshot()
    far = np.array([5, row - 50, row + 50, 2 * row])
    assert seen.vectors(far).shape == (4, DIM)
    assert [ids[0] for ids, _ in seen.blocks(far, rows=1)] == far.tolist()
    for read in (
        lambda: seen.vectors(np.array([5, row])),
        lambda: list(seen.blocks()),
        lambda: list(seen.blocks(np.array([3, row]))),
    ):
        with pytest.raises(Damaged, match=r"vectors\.arrow: a wrong checksum at byte"):
            read()
    path.write_bytes(whole)


def test_a_broken_row_group_is_not_given_and_the_others_are(store: Store):
    path = store.path / store.snapshot().manifest.segments[0].folder / "items.parquet"
    whole = path.read_bytes()
    paths = pq.read_metadata(path).row_group(0).column(1)  # of the first 8,192
    at = paths.dictionary_page_offset + paths.total_compressed_size // 2
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 128]) + whole[at + 1 :])

    seen = store.snapshot()
    assert seen.items(np.array([8_192, ROWS - 1])).num_rows == 2
    assert seen.counts()
    for read in (
        lambda: seen.items(np.array([0])),
        lambda: seen.table(["path"]),
        lambda: seen.select("path = '7'"),
    ):
        with pytest.raises(Damaged, match=r"items\.parquet"):
            read()
    path.write_bytes(whole)
