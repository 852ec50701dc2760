"""Gradients of a batch in chunks, and shared by two processes, are those of the batch in one piece."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from xsearch.models.config import SMALL
from xsearch.models.imagebind import build_tower
from xsearch.train.gradients import backward, local_rows, sum_gradients
from xsearch.train.loss import info_nce

TINY = replace(
    SMALL,
    embed_dim=8,
    vision=replace(SMALL.vision, width=16, depth=2, heads=2, stem=(), image_size=32, drop_path=0.0),
    imu=replace(SMALL.imu, width=16, depth=1, heads=2, stem=(), samples=80, kernel=40),
)
B = 8


def towers() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    return {name: build_tower(TINY, name).train() for name in ("vision", "imu")}


def inputs() -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return {
        "vision": torch.randn(B, 3, 32, 32, generator=rng),
        "imu": torch.randn(B, 6, 80, generator=rng),
    }


def loss(rows: dict[str, torch.Tensor]) -> torch.Tensor:
    return info_nce(rows["vision"], rows["imu"], 0.1)


def plain() -> tuple[float, dict[str, list[torch.Tensor]]]:
    """The slow, obvious way: autograd through everything at once."""
    made = towers()
    value = loss({name: made[name](x) for name, x in inputs().items()})
    value.backward()
    return float(value.detach()), {name: [p.grad for p in tower.parameters()] for name, tower in made.items()}


def check(value: float, made: dict[str, torch.nn.Module]) -> None:
    wanted, gradients = plain()
    assert value == pytest.approx(wanted, abs=1e-5)
    for name, tower in made.items():
        for (parameter_name, parameter), gradient in zip(
            tower.named_parameters(), gradients[name], strict=True
        ):
            torch.testing.assert_close(
                parameter.grad, gradient, atol=1e-5, rtol=1e-4, msg=f"{name} {parameter_name}"
            )


@pytest.mark.parametrize("chunk", [0, 3, 8])
def test_chunks_give_the_gradients_of_the_batch(chunk):
    made = towers()
    check(backward(made, inputs(), loss, chunk=chunk), made)


def test_a_tower_that_rests_gets_none():
    made = towers()
    made["vision"].requires_grad_(False)
    backward(made, inputs(), loss, chunk=3)
    assert all(parameter.grad is None for parameter in made["vision"].parameters())
    assert all(parameter.grad is not None for parameter in made["imu"].parameters())


def test_what_is_random_in_a_tower_is_the_same_on_the_way_back():
    dropping = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5))
    x = torch.randn(6, 4)

    def gradient(chunk: int) -> torch.Tensor:
        torch.manual_seed(5)
        dropping.zero_grad()
        kept = {}
        backward(
            {"a": dropping}, {"a": x}, lambda rows: kept.setdefault("a", rows["a"]).pow(2).sum(), chunk=chunk
        )
        rows = kept["a"].detach()  # of x, dropped where they are 0
        weights = dropping[0].weight.grad.clone()
        scale = (rows != 0) * 2.0  # dropout doubles what it keeps
        torch.testing.assert_close(weights, (2 * rows * scale).T @ x)
        return weights

    gradient(0)
    gradient(2)


def _one_of_two(rank: int, port: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    made = towers()
    mine = {name: x[local_rows(B)] for name, x in inputs().items()}
    value = backward(made, mine, loss, chunk=3)
    sum_gradients([parameter for tower in made.values() for parameter in tower.parameters()])
    check(value, made)
    dist.destroy_process_group()


def test_two_processes_give_the_gradients_of_the_joint_batch(free_port):
    mp.spawn(_one_of_two, args=(str(free_port),), nprocs=2)


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as waiting:
        waiting.bind(("127.0.0.1", 0))
        return int(waiting.getsockname()[1])
