"""Pictures of embeddings: a decoder that was trained on those of pictures draws those of sounds, too.

config      sizes and defaults of a decoder     network     its transformer
flow        rectified flow: loss and sampler    crossing    from the vectors of any kind to those of pictures
decoder     folders of weights                  pipelines   decoders of diffusers
drawing     from a query to pictures            training    of a decoder
"""

from xsearch.generate.config import Crossing, DecoderConfig
from xsearch.generate.crossing import NEIGHBOURS, Nearest, cross, nearest_in
from xsearch.generate.decoder import TrainedDecoder
from xsearch.generate.drawing import BUNDLED, Decoder, Drawn, candidate_seeds, draw, load_decoder
from xsearch.generate.network import Network

__all__ = [
    "BUNDLED",
    "NEIGHBOURS",
    "Crossing",
    "Decoder",
    "DecoderConfig",
    "Drawn",
    "Nearest",
    "Network",
    "TrainedDecoder",
    "candidate_seeds",
    "cross",
    "draw",
    "load_decoder",
    "nearest_in",
]
