"""Pair tables: pictures and what belongs to them, to train on and to measure with.

A table is Parquet, CSV, JSON lines or Arrow IPC (`.arrow`, mapped into memory as it is) with the columns

    image      path relative to the table's folder, or encoded bytes, or both as Hugging Face's datasets have
               them, {bytes, path}; empty where there is no picture
    other      likewise; a text itself; of an IMU recording also its numbers [T][6], with a column rate_hz
    modality   what `other` is: one of `Modality`
    weight     finite, at least 0; 1 if not told
    split      "train" if not told
    label      the class of the row; several as a list, or as `a|b`

and any others, of which focal_px, baseline_m and unit_m tell of the camera of a depth map (`media.depth`).
Shards in WebDataset's format, `x.tar` or `x-{0000..0009}.tar`, hold the same: what a picture has beside
it, by ending (`formats.PARTNERS`), and its label as `.cls`; a `.json` holds more columns, or the `caption`.
"""

from xsearch.pairs.bad_rows import BadRow, check_pairs
from xsearch.pairs.pair import Pair
from xsearch.pairs.pairs import Pairs, read_pairs

__all__ = ["BadRow", "Pair", "Pairs", "check_pairs", "read_pairs"]
