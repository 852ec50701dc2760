"""One step's gradients: of a batch that does not fit a device at once, or is shared by several processes.

The loss sees the rows of the whole batch, wherever they were made; what it says of each row goes back into
the tower that made it (gradient caching, arXiv:2101.06983). So the gradients are those of the batch in one
piece, but for batch norm, which sees one chunk of one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["agreed", "average", "backward", "gathered", "processes", "rank", "share", "summed"]


def backward(
    towers: Mapping[str, nn.Module],
    inputs: Mapping[str, Tensor],
    loss: Callable[[dict[str, Tensor]], Tensor],
    *,
    chunk: int = 0,
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> float:
    """Add the gradients of `loss` to the parameters of the towers, and to those that `loss` itself has.

    inputs: for each tower what this process has of its batch, [B, ...].
    loss: of the rows float32 [B * processes, E] of each tower, in the order of the processes.
    chunk: rows that a tower takes at once; 0: all. autocast: the context that towers run in.
    Returns the loss.
    """
    made = {
        name: [
            _Chunk(towers[name], x, len(batch) > len(x), autocast) for x in batch.split(chunk or len(batch))
        ]
        for name, batch in inputs.items()
    }
    own = {
        name: torch.cat([chunk.rows.detach().float() for chunk in chunks]) for name, chunks in made.items()
    }
    whole = {name: gathered(rows).requires_grad_() for name, rows in own.items()}
    value = loss(whole)
    value.backward()
    for name, chunks in made.items():
        gradient = whole[name].grad
        if gradient is not None:  # else the loss did not ask this tower
            of_chunks = gradient[share(len(gradient))].split([len(chunk.x) for chunk in chunks])
            for one, wanted in zip(chunks, of_chunks, strict=True):
                one.backward(wanted)
    return float(value.detach())


class _Chunk:
    """Rows of a tower, with the way back through it: its graph or, of one chunk among many, its input."""

    def __init__(
        self,
        tower: nn.Module,
        x: Tensor,
        again: bool,
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.tower, self.x, self.autocast = tower, x, autocast
        self.learns = any(parameter.requires_grad for parameter in tower.parameters())
        self.again = again and self.learns
        if self.again:
            self.random = torch.get_rng_state(), torch.cuda.get_rng_state(x.device) if x.is_cuda else None
        waits = _batch_norm_waits(tower) if self.again else nullcontext()
        with torch.set_grad_enabled(self.learns and not again), autocast(), waits:
            self.rows: Tensor = tower(x)

    def backward(self, gradient: Tensor) -> None:
        if not self.learns:
            return
        if self.again:
            with torch.random.fork_rng([self.x.device] if self.x.is_cuda else []):
                torch.set_rng_state(self.random[0])
                if self.random[1] is not None:
                    torch.cuda.set_rng_state(self.random[1], self.x.device)
                with self.autocast():
                    self.rows = self.tower(self.x)
        self.rows.backward(gradient.to(self.rows.dtype))


@contextmanager
def _batch_norm_waits(tower: nn.Module) -> Iterator[None]:
    """Running statistics see a batch once, not twice."""
    norms = [part for part in tower.modules() if isinstance(part, nn.BatchNorm2d)]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, kept, strict=True):
            norm.momentum = momentum


def gathered(rows: Tensor) -> Tensor:
    """The rows [B, ...] of all processes, in their order: [B * processes, ...]."""
    if processes() == 1:
        return rows
    found = [torch.empty_like(rows) for _ in range(processes())]
    dist.all_gather(found, rows.contiguous())
    return torch.cat(found)


def summed(parameters: list[nn.Parameter]) -> None:
    """Sum the gradients over the processes: each has only what its own rows say."""
    for parameter in parameters if processes() > 1 else ():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)


def average(statistics: list[Tensor]) -> None:
    """The mean over the processes, in place: what batch norm has seen is different in each."""
    for statistic in statistics if processes() > 1 else ():
        dist.all_reduce(statistic)
        statistic /= processes()


def agreed(figures: tuple[int, float]) -> tuple[int, float]:
    """What the first process says."""
    if processes() == 1:
        return figures
    said: list[tuple[int, float]] = [figures]
    dist.broadcast_object_list(said)
    return said[0]


def share(batch: int) -> slice:
    """Which rows of a batch belong to this process."""
    each = batch // processes()
    return slice(rank() * each, (rank() + 1) * each)


def processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0
