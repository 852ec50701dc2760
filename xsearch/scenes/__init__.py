"""A procedural world with ground truth: one moment, seen, heard, felt and described.

It feeds the demo, the tests and the benchmarks, and it is what the bundled model learned from.
"""

from xsearch.scenes.moment import film, render, write
from xsearch.scenes.world import COLOURS, PLACES, SUBJECTS, TIMES, TRAINING_SEED, Scene, sample

__all__ = [
    "COLOURS",
    "PLACES",
    "SUBJECTS",
    "TIMES",
    "TRAINING_SEED",
    "Scene",
    "film",
    "render",
    "sample",
    "write",
]
