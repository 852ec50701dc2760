"""Training: what is learned, and that an interrupted run ends like an uninterrupted one."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.fakes import FakeBackend
from tests.small_decoder import random_decoder
from xsearch.errors import UsageError
from xsearch.generate import Network, TrainedDecoder
from xsearch.generate.training import Plan, train_decoder
from xsearch.train.log import read_log

PLAN = Plan(steps=6, batch=4, precision="fp32")
COLOURS = np.array([[230, 30, 30], [30, 30, 230]], np.uint8)


def new_network(**sizes) -> Network:
    network = Network(random_decoder(FakeBackend().fingerprint, **sizes).config)
    torch.manual_seed(0)
    network.initialise()
    return network


def two_colours() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Red pictures with one vector and blue ones with another."""
    pictures = COLOURS[:, None, None].repeat(16, axis=1).repeat(16, axis=2)
    return pictures, np.eye(2, 16, dtype=np.float16), np.ones(2)


def test_it_learns_what_vectors_show(tmp_path):
    plan = dataclasses.replace(PLAN, steps=150, batch=16, ema=0.9)
    network = train_decoder(new_network(), *two_colours(), tmp_path, plan)
    drawn = TrainedDecoder(network, "").pictures(np.eye(2, 16), [0, 0], [1, 2], steps=6, guidance=1)
    assert np.abs(drawn.astype(int) - COLOURS[:, None, None]).mean() < 40
    losses = [entry["loss"] for entry in read_log(tmp_path)]
    assert losses[-1] < losses[0] / 3
    assert all(entry["img/s"] > 0 for entry in read_log(tmp_path))


def test_weights_say_how_often_a_picture_is_drawn(tmp_path):
    pictures, vectors, _ = two_colours()
    plan = dataclasses.replace(PLAN, steps=100, batch=16, ema=0.9)
    network = train_decoder(new_network(), pictures, vectors, np.array([0.0, 1.0]), tmp_path, plan)
    drawn = TrainedDecoder(network, "").pictures(np.eye(2, 16), [0, 0], [1, 2], steps=6, guidance=1)
    assert (drawn.mean(axis=(1, 2)).argmax(axis=1) == 2).all()  # blue of either vector


class Interrupted(Exception):
    pass


def test_an_interrupted_training_ends_like_an_uninterrupted_one(tmp_path, monkeypatch):
    whole = train_decoder(new_network(), *two_colours(), tmp_path / "whole", PLAN)
    forward, calls = Network.forward, []

    def stopping(self, *inputs):
        calls.append(1)
        if len(calls) == 4:
            raise Interrupted
        return forward(self, *inputs)

    monkeypatch.setattr(Network, "forward", stopping)
    with pytest.raises(Interrupted):
        train_decoder(new_network(), *two_colours(), tmp_path / "parts", PLAN, checkpoint_s=0)
    monkeypatch.undo()
    resumed = train_decoder(new_network(), *two_colours(), tmp_path / "parts", PLAN)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)
    assert read_log(tmp_path / "parts")[-1]["step"] == 6


def test_another_plan_does_not_continue(tmp_path):
    train_decoder(new_network(), *two_colours(), tmp_path, PLAN)
    with pytest.raises(UsageError, match="another plan"):
        train_decoder(new_network(), *two_colours(), tmp_path, dataclasses.replace(PLAN, lr=1e-4))
    with pytest.raises(UsageError, match="other sizes"):
        train_decoder(new_network(depth=2), *two_colours(), tmp_path, PLAN)


def test_a_training_can_be_given_other_steps(tmp_path):
    train_decoder(new_network(), *two_colours(), tmp_path, PLAN)
    longer = dataclasses.replace(PLAN, steps=8)
    network = train_decoder(new_network(), *two_colours(), tmp_path, longer)
    last = read_log(tmp_path)[-1]
    assert (last["step"], last["lr"]) == (8, pytest.approx(longer.lr_at(7), rel=1e-3))
    over = train_decoder(new_network(), *two_colours(), tmp_path, dataclasses.replace(PLAN, steps=7))
    for name, value in network.state_dict().items():
        torch.testing.assert_close(over.state_dict()[name], value, rtol=0, atol=0)


def test_the_learning_rate_rises_and_falls():
    plan = Plan(steps=1000, lr=1.0, warmup=0.1)
    assert [round(plan.lr_at(step), 3) for step in (0, 49, 99, 100, 550)] == [0.01, 0.5, 1.0, 1.0, 0.5]
    assert plan.lr_at(999) < 1e-5
