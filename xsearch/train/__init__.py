"""Training: bind five modalities to pictures. Knows nothing of collections."""

from xsearch.train.loop import Recipe, train
from xsearch.train.loss import binding_loss, info_nce
from xsearch.train.pairs import ScenePairs

__all__ = ["Recipe", "ScenePairs", "binding_loss", "info_nce", "train"]
