"""Training: bind five modalities to pictures. Knows nothing of collections."""

from xsearch.train.held_out import HeldOut
from xsearch.train.loop import train
from xsearch.train.loss import binding_loss, info_nce
from xsearch.train.recipe import Bind, Recipe, Stage
from xsearch.train.scene_pairs import ScenePairs
from xsearch.train.training_run import planned_steps, read_tables, run

__all__ = [
    "Bind",
    "HeldOut",
    "Recipe",
    "ScenePairs",
    "Stage",
    "binding_loss",
    "info_nce",
    "planned_steps",
    "read_tables",
    "run",
    "train",
]
