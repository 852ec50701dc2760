"""Evaluation: retrieval, zero-shot classification, emergent alignment, the modality gap.

`metrics` and `zeroshot` work on arrays; `evaluate_pairs`, `evaluate_collection`, `evaluate_scenes` and
`evaluate_benchmark` evaluate a model on a pair table, a collection, rendered scenes or a public data set.
"""

from xsearch.evaluate.benchmarks import BENCHMARKS, evaluate_benchmark
from xsearch.evaluate.chart import draw
from xsearch.evaluate.collection_metrics import evaluate_collection
from xsearch.evaluate.evaluation import Evaluation, gaps, matrix
from xsearch.evaluate.metrics import (
    average_precision,
    composition,
    modality_gap,
    nearest,
    precision_at_1,
    precision_at_k,
    recall_at_k,
    relevance,
    retrieval,
    top_k,
)
from xsearch.evaluate.pair_metrics import evaluate_pairs
from xsearch.evaluate.scene_metrics import MODALITIES, embed_scenes, evaluate_scenes
from xsearch.evaluate.zeroshot import class_truth, classify, mean_prototypes, read_prompts, text_prototypes

__all__ = [
    "BENCHMARKS",
    "MODALITIES",
    "Evaluation",
    "average_precision",
    "class_truth",
    "classify",
    "composition",
    "draw",
    "embed_scenes",
    "evaluate_benchmark",
    "evaluate_collection",
    "evaluate_pairs",
    "evaluate_scenes",
    "gaps",
    "matrix",
    "mean_prototypes",
    "modality_gap",
    "nearest",
    "precision_at_1",
    "precision_at_k",
    "read_prompts",
    "recall_at_k",
    "relevance",
    "retrieval",
    "text_prototypes",
    "top_k",
]
