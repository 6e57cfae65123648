"""Learning-rate schedules as pure functions of the update number: nothing to save, nothing to resume."""

from __future__ import annotations

import math
from typing import Literal, get_args

from ocwm.errors import BenchError, suggest

Schedule = Literal["constant", "cosine", "warmup_cosine", "warmup_exponential"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)


def learning_rate(
    step: int, *, total: int, lr: float, schedule: str, min_lr_ratio: float = 0.0, warmup: float = 0.0
) -> float:
    """Return the learning rate that update number `step` = 0 .. total-1 uses.

    Args:
        step: number of updates already made.
        total: number of updates of the whole training.
        lr: the highest rate.
        schedule: `constant` (lr at every update), `cosine` (from lr down to lr * min_lr_ratio), or `warmup_cosine`
            (linearly up from lr * min_lr_ratio, which the first update uses, over `warmup` updates, then cosine down
            to it again; the schedule that SlotFormer and ALOE were trained with, with min_lr_ratio 0.01), or
            `warmup_exponential` (linearly up from 0, which the first update uses, then lr * min_lr_ratio ** progress;
            VideoSAUR's, with min_lr_ratio 0.5).
        min_lr_ratio: lowest rate as a share of lr; with `warmup_exponential` the last one.
        warmup: number of warm-up updates, need not be whole; used by the two schedules of that name.

    Raises:
        BenchError: for an unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise BenchError(f"unknown trainer.schedule '{schedule}'", suggest(schedule, SCHEDULES))
    if schedule == "constant":
        return lr
    low = lr * min_lr_ratio
    if schedule == "cosine":
        warmup = 0.0
    if schedule == "warmup_exponential":
        if step < warmup:
            return lr * step / warmup
        return float(lr * min_lr_ratio ** ((step - warmup) / max(total - warmup, 1e-12)))
    if step < warmup:
        return low + (lr - low) * step / warmup
    progress = min((step - warmup) / max(total - warmup, 1e-12), 1.0)
    return low + (lr - low) * 0.5 * (1.0 + math.cos(math.pi * progress))
