"""Gradients of a batch that is larger than a device's memory, or split over several processes.

The loss is computed on the embeddings of the whole batch; its gradient with respect to each embedding then
goes back through the tower that made it, chunk by chunk (gradient caching, arXiv:2101.06983). The result
equals that of the batch in one piece, except for batch norm, whose statistics are those of one chunk of one
process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = [
    "backward",
    "broadcast",
    "gather_rows",
    "local_rows",
    "mean_statistics",
    "rank",
    "sum_gradients",
    "world_size",
]


def backward(
    towers: Mapping[str, nn.Module],
    inputs: Mapping[str, Tensor],
    loss: Callable[[dict[str, Tensor]], Tensor],
    *,
    chunk: int = 0,
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> float:
    """Accumulate the gradients of `loss` in the parameters of the towers and of `loss` itself.

    inputs: the local part of each tower's batch, [B, ...].
    loss: of the embeddings float32 [B * world_size, E] of each tower, ordered by rank.
    chunk: rows per forward pass of a tower; 0: all. autocast: the context that towers run in.
    Returns the loss.
    """
    chunks = {
        name: [
            _Chunk(towers[name], x, len(batch) > len(x), autocast) for x in batch.split(chunk or len(batch))
        ]
        for name, batch in inputs.items()
    }
    whole = {
        name: gather_rows(torch.cat([part.rows.detach().float() for part in parts])).requires_grad_()
        for name, parts in chunks.items()
    }
    value = loss(whole)
    value.backward()
    for name, parts in chunks.items():
        gradient = whole[name].grad
        if gradient is not None:  # None: the loss does not depend on this tower
            gradients = gradient[local_rows(len(gradient))].split([len(part.x) for part in parts])
            for part, of_part in zip(parts, gradients, strict=True):
                part.backward(of_part)
    return float(value.detach())


class _Chunk:
    """A forward pass of some rows; its graph is kept, or recomputed if it is one chunk of many."""

    def __init__(
        self,
        tower: nn.Module,
        x: Tensor,
        recompute: bool,
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.tower, self.x, self.autocast = tower, x, autocast
        self.learns = any(parameter.requires_grad for parameter in tower.parameters())
        self.recompute = recompute and self.learns
        if self.recompute:
            self.random = torch.get_rng_state(), torch.cuda.get_rng_state(x.device) if x.is_cuda else None
        statistics = _frozen_batch_norm(tower) if self.recompute else nullcontext()
        with torch.set_grad_enabled(self.learns and not recompute), autocast(), statistics:
            self.rows: Tensor = tower(x)

    def backward(self, gradient: Tensor) -> None:
        if not self.learns:
            return
        if self.recompute:
            with torch.random.fork_rng([self.x.device] if self.x.is_cuda else []):
                torch.set_rng_state(self.random[0])
                if self.random[1] is not None:
                    torch.cuda.set_rng_state(self.random[1], self.x.device)
                with self.autocast():
                    self.rows = self.tower(self.x)
        self.rows.backward(gradient.to(self.rows.dtype))


@contextmanager
def _frozen_batch_norm(tower: nn.Module) -> Iterator[None]:
    """Do not update running statistics: the recomputation does."""
    norms = [part for part in tower.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def gather_rows(rows: Tensor) -> Tensor:
    """The rows [B, ...] of all processes, ordered by rank: [B * world_size, ...]."""
    if world_size() == 1:
        return rows
    gathered = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(gathered, rows.contiguous())
    return torch.cat(gathered)


def sum_gradients(parameters: list[nn.Parameter]) -> None:
    """Sum the gradients over the processes: each computes those of its local rows only."""
    for parameter in parameters if world_size() > 1 else ():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)


def mean_statistics(statistics: list[Tensor]) -> None:
    """Average batch norm statistics over the processes, in place."""
    for statistic in statistics if world_size() > 1 else ():
        dist.all_reduce(statistic)
        statistic /= world_size()


def broadcast(values: tuple[int, float]) -> tuple[int, float]:
    """The values of rank 0."""
    if world_size() == 1:
        return values
    shared: list[tuple[int, float]] = [values]
    dist.broadcast_object_list(shared)
    return shared[0]


def local_rows(batch: int) -> slice:
    """The rows of a batch that belong to this process."""
    each = batch // world_size()
    return slice(rank() * each, (rank() + 1) * each)


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0
