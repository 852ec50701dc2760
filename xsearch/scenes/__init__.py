"""Procedural scenes with ground truth, rendered in all modalities.

For the demo, tests, benchmarks, and the training of the bundled model.
"""

from xsearch.scenes.moment import film, render, write
from xsearch.scenes.world import COLOURS, PLACES, SUBJECTS, TIMES, Scene, sample

__all__ = ["COLOURS", "PLACES", "SUBJECTS", "TIMES", "Scene", "film", "render", "sample", "write"]
