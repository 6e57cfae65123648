"""The one training loop: every world model and every reasoner is trained by `fit`.

A training is a function of (model, data, config, seed). It may be killed at any point and started again with the same
arguments: on a CPU the result is the same bit for bit. Several processes may share it (data_parallel.py): each computes
the gradient of its part of the batch, and the first writes the checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ocwm.data_parallel import own_batch, own_draws, parallel_loss, require_equal_shares
from ocwm.distributed import connected, team
from ocwm.errors import BenchError
from ocwm.progress import Progress
from ocwm.random_state import DataOrder, preserved_torch, seed_torch
from ocwm.stop_signals import Interrupted, StopSignals
from ocwm.trainer_config import TRAINER_VERSION, TrainerConfig
from ocwm.training_state import TrainingState

__all__ = [
    "TRAINER_VERSION",
    "Batch",
    "FitReport",
    "Interrupted",
    "TrainerConfig",
    "TrainingData",
    "fit",
]


class Batch(Protocol):
    """What the loss gets; e.g. LatentBatch."""

    def to(self, device: torch.device, /) -> Self:
        """Return the batch with its tensors on `device`."""


M = TypeVar("M", bound=nn.Module)
B = TypeVar("B", bound=Batch)
B_co = TypeVar("B_co", bound=Batch, covariant=True)


class TrainingData(Protocol[B_co]):
    """Items to train on. `batch` runs in the training process, once for each update: gather with array indexing.

    Data that draws at random should have `part` too, see `ocwm.data_parallel.DividedData`.
    """

    def __len__(self) -> int:
        """Return the number of items."""

    def batch(self, indices: npt.NDArray[np.int64], generator: np.random.Generator, /) -> B_co:
        """Return the items `indices` (batch_size,) as one batch; every random draw comes from `generator`.

        The result must depend on the two arguments only: a resumed training does not repeat earlier calls.
        """


@dataclass(frozen=True)
class FitReport:
    """What a training did.

    Attributes:
        steps: updates made in all.
        seconds: wall time of all sessions together, validation and checkpoints included.
        curve: learning curve, one dict a point: `step` (updates made), `lr` (of the last of them), `loss` and the
            loss's other parts (means since the point before), and what `validate` returned where it was due.
        resumed_from: updates that an earlier session had made, 0 for a fresh start.
        seconds_before: of the earlier sessions.
        steps_per_second: of this session, 0.0 when nothing was left to do.
    """

    steps: int
    seconds: float
    curve: list[dict[str, float]]
    resumed_from: int
    seconds_before: float
    steps_per_second: float


def fit(
    model: M,
    data: TrainingData[B],
    config: TrainerConfig,
    *,
    seed: int,
    folder: Path,
    device: torch.device,
    progress: Progress | None = None,
    validate: Callable[[M], Mapping[str, float]] | None = None,
    loss: Callable[[M, B], Mapping[str, Tensor]] | None = None,
) -> FitReport:
    """Train `model` in place on `device`, going on from the checkpoint in `folder` when there is one.

    Args:
        model: left in training mode. Its `parameter_groups(lr)`, where it has one, gives the optimiser's parameter
            groups (each with its own `lr` if it likes; the schedule scales all); else all trainable parameters.
        data: shuffled anew each epoch from (seed, epoch).
        config: settings; `precision` fp16 needs CUDA.
        seed: of data order, batches and dropout. The caller initialises the model, from the same seed each time.
        folder: for this training alone; holds `checkpoint.safetensors`, also after the end.
        device: CPU or CUDA.
        progress: told of every update, and at once of those made before.
        validate: called in eval mode without gradients every `eval_every` updates and after the last; its figures go
            into the learning curve. It cannot change the training: torch's generators are put back after it.
        loss: returns {"loss": scalar to minimise, other scalars to log}, the same names each time; default
            `model.loss(batch)`.

    Raises:
        BenchError: for settings that cannot work here, a loss that is not finite, a checkpoint that is damaged or of
            another training, a full disk.
        Interrupted: after SIGINT or SIGTERM in any process, when the checkpoint is written; the same call continues. A
            second SIGINT raises KeyboardInterrupt at once, and the checkpoint from before stays.
    """
    processes = team()
    if config.precision == "fp16" and device.type != "cuda":
        raise BenchError("trainer.precision=fp16 needs a CUDA device", "Use trainer.precision=bf16 or fp32.")
    if len(data) < config.batch_size:
        raise BenchError(
            f"the training data has {len(data)} items, fewer than one batch of {config.batch_size}",
            f"Set trainer.batch_size to at most {len(data)}, or use more data.",
        )
    require_equal_shares(config.batch_size)
    model.to(device).train()
    order = DataOrder(len(data), batch_size=config.batch_size, seed=seed)
    path = folder / "checkpoint.safetensors"
    with preserved_torch(device), StopSignals() as stop:
        seed_torch(seed, device)
        state = TrainingState(model, config, path=path, device=device, seed=seed, items=len(data))
        with processes.together():
            resumed_from = state.resume()
        if processes.most(resumed_from) != (resumed_from,):
            raise BenchError(f"the processes do not see the same checkpoint {path}", "The work folder must be shared.")
        compute = parallel_loss(model, _own_loss(model) if loss is None else loss, device=device)
        seconds_before = state.seconds
        clock = _Clock(state.seconds)
        if progress is not None and resumed_from:
            progress.update(resumed_from)
        stopped = 0
        while state.step < config.max_steps:
            # One exchange for each update: all stop after the same one, and save when the first process says so.
            due = clock.since_checkpoint() >= config.checkpoint_seconds and state.step > state.saved_step
            stopped, save = processes.most(stop.received or 0, int(due and processes.first))
            if save:
                _save(state, clock)
            if stopped:
                break
            batch = own_batch(data, order.indices(state.step), seed=seed, step=state.step).to(device)
            autocast = torch.autocast(device.type, dtype=_autocast_type(config), enabled=config.precision != "fp32")
            with connected():
                with autocast, own_draws(device, seed=seed, step=state.step):
                    parts = compute(batch)
                state.update(parts)
            last = state.step == config.max_steps
            evaluate = validate is not None and config.eval_every > 0 and (last or state.step % config.eval_every == 0)
            if last or evaluate or state.step % config.log_every == 0:
                state.log(_validated(model, validate, device) if validate is not None and evaluate else {})
            if progress is not None:
                progress.update(1)
        if state.step > state.saved_step:
            _save(state, clock)
        (stopped,) = processes.most(stopped or stop.received or 0)
        if stopped:
            raise Interrupted(
                f"stopped after {state.step} of {config.max_steps} updates; the same command continues from there",
                stopped,
            )
    done = state.step - resumed_from
    return FitReport(
        steps=state.step,
        seconds=clock.total(),
        curve=state.curve,
        resumed_from=resumed_from,
        seconds_before=seconds_before,
        steps_per_second=done / clock.session() if done else 0.0,
    )


class _Clock:
    """Wall time of this session, on top of the seconds of earlier ones."""

    def __init__(self, before: float) -> None:
        self._before = before
        self._start = self._checkpoint = time.monotonic()

    def session(self) -> float:
        return time.monotonic() - self._start

    def total(self) -> float:
        return self._before + self.session()

    def since_checkpoint(self) -> float:
        return time.monotonic() - self._checkpoint

    def checkpointed(self) -> None:
        self._checkpoint = time.monotonic()


def _save(state: TrainingState, clock: _Clock) -> None:
    """Let the first process write the checkpoint: all have the same state."""
    processes = team()
    with processes.together():
        if processes.first:
            state.save(seconds=clock.total())
    state.saved_step = state.step
    clock.checkpointed()


def _own_loss(model: nn.Module) -> Callable[[Any, Any], Mapping[str, Tensor]]:
    own = getattr(model, "loss", None)
    if not callable(own):
        raise BenchError(f"{type(model).__name__} has no method loss(batch)", 'It must return {"loss": scalar, ...}.')

    def loss(_: Any, batch: Any) -> Mapping[str, Tensor]:
        parts: Mapping[str, Tensor] = own(batch)
        return parts

    return loss


def _autocast_type(config: TrainerConfig) -> torch.dtype:
    return torch.float16 if config.precision == "fp16" else torch.bfloat16


def _validated(model: M, validate: Callable[[M], Mapping[str, float]], device: torch.device) -> dict[str, float]:
    model.eval()
    with preserved_torch(device), torch.no_grad():
        figures = {name: float(value) for name, value in validate(model).items()}
    model.train()
    return figures
