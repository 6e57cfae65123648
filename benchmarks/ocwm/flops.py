"""Counting floating-point operations."""

from __future__ import annotations

from collections.abc import Callable

from torch.utils.flop_counter import FlopCounterMode


def count_flops(work: Callable[[], object]) -> int:
    """Run `work` once and return the floating-point operations of its matrix products, convolutions and attention.

    A multiply-add counts as two; cheap element-wise work is not counted. A backward pass inside `work` counts too.
    """
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())
