"""Pair tables: pictures and their partners, for training and evaluation.

A table is Parquet, CSV, JSON lines or Arrow IPC (`.arrow`, memory-mapped) with the columns

    image      path relative to the table's folder, or encoded bytes, or both as in Hugging Face datasets,
               {bytes, path}; empty without a picture
    other      the partner, likewise; a literal text; of an IMU recording also its numbers [T][6], with a
               column rate_hz
    modality   of `other`: one of `Modality`
    weight     finite, at least 0; by default 1
    split      by default "train"
    label      the class of the row; several as a list, or as `a|b`

and any others; focal_px, baseline_m, rotate_bits and unit_m describe the camera of a depth map
(`media.depth`). WebDataset shards, `x.tar` or `x-{0000..0009}.tar`, hold the partners of a picture by file
extension (`formats.PARTNERS`), its label as `.cls`, and further columns or the `caption` as `.json`.
"""

from xsearch.pairs.bad_rows import BadRow, check_pairs
from xsearch.pairs.pair import Pair
from xsearch.pairs.pairs import Pairs, read_pairs

__all__ = ["BadRow", "Pair", "Pairs", "check_pairs", "read_pairs"]
