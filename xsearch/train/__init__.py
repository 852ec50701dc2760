"""Training: bind five modalities to pictures. Knows nothing of collections."""

from xsearch.train.check import HeldOut
from xsearch.train.loop import train
from xsearch.train.loss import binding_loss, info_nce
from xsearch.train.recipe import Bind, Recipe, Stage
from xsearch.train.run import read_tables, run
from xsearch.train.scenes import ScenePairs

__all__ = [
    "Bind",
    "HeldOut",
    "Recipe",
    "ScenePairs",
    "Stage",
    "binding_loss",
    "info_nce",
    "read_tables",
    "run",
    "train",
]
