"""Models: six towers that map tensors to unit vectors, and the preprocessing of samples into tensors.

    config       sizes and settings, frozen         imagebind    the towers, built from blocks
    transforms   samples -> tensors, with mel       tokenizer    texts -> ids
    checkpoint   model folders                      registry     from a name to a folder
    convert      the official .pth -> a folder      pull         fetches it, with download

`xsearch.backend.imagebind` puts these together.
"""

from xsearch.models.checkpoint import load_config, load_tower, save_model
from xsearch.models.config import HUGE, SMALL, TOWER_OF, TOWERS, ImageBindConfig, Preprocessing
from xsearch.models.convert import convert_official, official_config, split_official
from xsearch.models.imagebind import ImageBind, Tower, build_tower
from xsearch.models.registry import ModelChoice, resolve
from xsearch.models.tokenizer import Tokenizer, train_tokenizer
from xsearch.models.transforms import Preprocess

__all__ = [
    "HUGE",
    "SMALL",
    "TOWERS",
    "TOWER_OF",
    "ImageBind",
    "ImageBindConfig",
    "ModelChoice",
    "Preprocess",
    "Preprocessing",
    "Tokenizer",
    "Tower",
    "build_tower",
    "convert_official",
    "load_config",
    "load_tower",
    "official_config",
    "resolve",
    "save_model",
    "split_official",
    "train_tokenizer",
]
