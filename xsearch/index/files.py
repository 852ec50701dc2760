"""FAISS files: written, and joined where an index is in several."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from xsearch.index.library import load_faiss

__all__ = ["joined", "write"]


def write(index: Any, path: Path) -> None:
    """Write a faiss.Index. Raises OSError.

    Through Python: FAISS ignores errors of closing a file, which concern its last bytes.
    """
    faiss = load_faiss()
    with path.open("wb") as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))


def joined(indexes: Iterable[Any]) -> Any:
    """Return the first of these faiss.Index with the entries of all: as if all had been added to it in order.

    Two of them are in memory at a time. Raises RuntimeError if they are incompatible.
    """
    faiss = load_faiss()
    each = iter(indexes)
    first = next(each)
    for other in each:
        first.check_compatible_for_merge(other)
        into = faiss.extract_index_ivf(first)
        if isinstance(faiss.downcast_InvertedLists(into.invlists), faiss.BlockInvertedLists):
            _append_blocks(into, faiss.extract_index_ivf(other))
            into.ntotal = first.ntotal = first.ntotal + other.ntotal
        else:
            faiss.merge_into(first, other, False)
    return first


def _append_blocks(into: Any, other: Any) -> None:
    """Append lists of blocks of codes: FAISS 1.15 writes beyond the end of its memory there."""
    faiss = load_faiss()
    pointer, packer = faiss.swig_ptr, into.get_CodePacker()
    size, bytes = packer.nvec, packer.block_size
    target, source = (faiss.downcast_InvertedLists(each.invlists) for each in (into, other))

    def blocks(lists: Any, at: int, count: int) -> np.ndarray:
        return faiss.rev_swig_ptr(lists.get_codes(at), -(-count // size) * bytes).reshape(-1, bytes)

    for at in range(target.nlist):
        old, new = target.list_size(at), source.list_size(at)
        if not new:
            continue
        full, begun = divmod(old, size)
        codes = np.zeros((begun + -(-new // size) * size + size, packer.code_size), np.uint8)
        if begun:
            packer.unpack_all(pointer(blocks(target, at, old)[full]), pointer(codes))
        for row, block in enumerate(blocks(source, at, new)):
            packer.unpack_all(pointer(block), pointer(codes[begun + row * size :]))
        target.resize(at, old + new)
        faiss.rev_swig_ptr(target.get_ids(at), old + new)[old:] = faiss.rev_swig_ptr(source.get_ids(at), new)
        codes[begun + new :] = 0
        for row, block in enumerate(blocks(target, at, old + new)[full:]):
            packer.pack_all(pointer(codes[row * size :]), pointer(block))
