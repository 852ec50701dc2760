"""Decoders with random weights that draw in milliseconds."""

import dataclasses

import torch

from xsearch.generate import DecoderConfig, Network, TrainedDecoder
from xsearch.types import Modality

SMALL = {"side": 16, "patch": 8, "width": 16, "depth": 1, "heads": 2, "tokens": 2}
SMALL |= {"steps": 4, "candidates": 1}


def random_decoder(fingerprint, **sizes) -> TrainedDecoder:
    """A decoder with random weights, also those that training starts from zero."""
    config = DecoderConfig(
        model=fingerprint.name, digest=fingerprint.digest, dim=fingerprint.dim, **(SMALL | sizes)
    )
    torch.manual_seed(0)
    network = Network(config)
    network.initialise()
    with torch.no_grad():
        for weight in network.parameters():
            if not weight.any():
                weight.normal_(std=0.3)
        network.means.copy_(torch.randn(len(Modality), fingerprint.dim) / fingerprint.dim**0.5)
    return TrainedDecoder(network, "random")


def with_crossings(decoder: TrainedDecoder, crossings) -> TrainedDecoder:
    decoder.network.config = dataclasses.replace(decoder.config, crossings=crossings)
    return decoder
