"""One training by several processes: each has a share of the batch, and all have the same weights.

Two kinds of random numbers are kept apart. What belongs to a sample (its mask, its noise) is drawn for the whole batch
in every process, which then takes its rows: a sample gets the same in any company. Dropout is drawn by each process
for itself.

Shape letters: B samples of this process, W of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ocwm.distributed import team
from ocwm.errors import BenchError
from ocwm.random_state import batch_generator, capture_torch, own_seed, restore_torch, seed_torch

if TYPE_CHECKING:
    from ocwm.trainer import TrainingData

B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)


@runtime_checkable
class DividedData(Protocol[B_co]):
    """Training data that draws at random, and can give a part of a batch as it is in the whole one."""

    def part(self, indices: npt.NDArray[np.int64], generator: np.random.Generator, rows: slice, /) -> B_co:
        """Return the items `indices[rows]` of a batch; every draw is made for all `indices` (W,)."""


def own_batch(data: TrainingData[Any], indices: npt.NDArray[np.int64], *, seed: int, step: int) -> Any:
    """Return this process's share of the batch of items `indices` (W,) of update number `step`."""
    here = team()
    if here.size == 1:
        return data.batch(indices, batch_generator(seed, step))
    rows = here.rows(len(indices) // here.size)
    if isinstance(data, DividedData):
        return data.part(indices, batch_generator(seed, step), rows)
    return data.batch(indices[rows], batch_generator(seed, step, rank=here.rank))


def require_equal_shares(batch_size: int) -> None:
    """Check that a batch can be divided.

    Raises:
        BenchError: it can't.
    """
    if batch_size % team().size:
        raise BenchError(
            f"trainer.batch_size={batch_size} can't be divided equally between {team().size} processes",
            "Choose another number of processes: another batch size would be another training.",
        )


class _Loss(nn.Module):
    """A model's loss as a module, which is what DistributedDataParallel wraps."""

    def __init__(self, model: nn.Module, loss: Callable[[Any, Any], Mapping[str, Tensor]]) -> None:
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self, batch: Any) -> dict[str, Tensor]:
        # Only the loss leads back to the weights: what another part alone depends on gets no gradient.
        return {name: part if name == "loss" else part.detach() for name, part in self._loss(self.model, batch).items()}


def parallel_loss(
    model: nn.Module, loss: Callable[[Any, Any], Mapping[str, Tensor]], *, device: torch.device
) -> Callable[[Any], Mapping[str, Tensor]]:
    """Return the loss of a batch; `backward` on it averages the gradients over the processes, where there are several.

    All of them start from the weights of the first.
    """
    if team().size == 1:
        return lambda batch: loss(model, batch)
    where = [device] if device.type == "cuda" else None
    wrapped: Callable[[Any], Mapping[str, Tensor]] = DistributedDataParallel(
        _Loss(model, loss), device_ids=where, find_unused_parameters=True
    )
    return wrapped


def weighted(mean: Tensor, count: Tensor | int) -> Tensor:
    """Scale the mean over `count` items of this process, so that the average over processes is the mean over all items.

    For losses whose number of items is not the same for every sample; one process gets its mean back.
    """
    here = team()
    if here.size == 1 or not mean.requires_grad:
        return mean
    own = torch.as_tensor(count, dtype=mean.dtype, device=mean.device)
    return mean * (own / here.average(own.clone()).clamp(min=torch.finfo(mean.dtype).tiny))


_common: dict[str, Tensor] | None = None  # state of the generators that all processes share, while they have own ones


@contextmanager
def own_draws(device: torch.device, *, seed: int, step: int) -> Iterator[None]:
    """Give torch's generators a state of this process's own, for dropout; one process keeps what it has."""
    global _common
    here = team()
    if here.size == 1:
        yield
        return
    _common = capture_torch(device)
    seed_torch(own_seed(seed, step, here.rank), device)
    try:
        yield
    finally:
        restore_torch(_common, device)
        _common = None


def common_draw(draw: Callable[[], B]) -> B:
    """Draw what must be the same in all processes, such as the mask of a whole batch, from torch's generators."""
    global _common
    if _common is None:
        return draw()
    device = torch.device("cuda" if "cuda" in _common else "cpu")
    own = capture_torch(device)
    restore_torch(_common, device)
    drawn = draw()
    _common = capture_torch(device)
    restore_torch(own, device)
    return drawn


def draw_rows(count: int, draw: Callable[[int], Tensor]) -> Tensor:
    """Draw for each of `count` samples from torch's generators; a sample gets the same in any company.

    Args:
        count: samples B of this process; every process has as many.
        draw: draws for a number of samples, (samples, ...).
    """
    if _common is None:
        return draw(count)
    here = team()
    return common_draw(lambda: draw(here.size * count))[here.rows(count)]
