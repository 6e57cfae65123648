"""How single figures are written, what a preset's results are labelled with, and which metrics come first."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ocwm import registry


def figure(value: float, *, decimals: int) -> str:
    """Return a figure with so many decimals, without the minus of a rounded zero."""
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def decimals_of(values: Iterable[float], unit: str) -> int:
    """Return how many decimals a column needs: one for percentages, else four figures of its largest value."""
    largest = max((abs(value) for value in values), default=0.0)
    if unit.startswith("%") or largest == 0:
        return 1
    return min(6, max(0, 3 - math.floor(math.log10(largest))))


def preset_label(preset: str) -> str:
    """Return what the results of a preset are labelled with, e.g. "not converged"; "" for none."""
    plugin = registry.plugins("preset").get(preset)
    return str(registry.read_yaml(plugin.path).get("label") or "") if plugin else ""


def headline_metrics(task: str) -> tuple[str, ...]:
    """Return the metrics that a task's YAML names for short answers; empty for none, or for a task that is not there."""
    plugin = registry.plugins("task").get(task)
    return tuple(map(str, registry.read_yaml(plugin.path).get("headline", ()))) if plugin else ()
