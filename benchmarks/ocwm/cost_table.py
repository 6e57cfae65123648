"""What the rows of a section cost: sizes, memory, seconds of a plan, seconds for each stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ocwm.markup import Grid, grid
from ocwm.sections import Section
from ocwm.store import Record
from ocwm.table_notes import marked_name

_SIZES = {
    "parameters": "parameters",
    "tokens_per_frame": "tokens per frame",
    "flops": "FLOPs",
    "peak_memory_mb": "peak memory (MiB)",
    "peak_gpu_memory_mb": "peak GPU memory (MiB)",
}
_STAGES = {"world_model": "training of the world model"}
_NOT_PLANNING = "environment"  # the part of an episode's time that is no part of a plan


def cost_grid(section: Section) -> Grid:
    """Tabulate what each row cost: sizes, memory, and seconds for each stage (means over its runs)."""
    costs = [cost for record in section.records for cost in record.costs.items()]
    # "total" is the time of one process, which depends on what was cached; the sum of the stages does not.
    stages = [name for name in dict.fromkeys(name for name, cost in costs if cost.get("seconds")) if name != "total"]
    sizes = {name: text for name, text in _SIZES.items() if any(name in cost for _, cost in costs)}
    plans = any(seconds_per_plan(record) for record in section.records)
    header = ["model", *sizes.values(), *(["one plan (s)", "one plan, p95 (s)"] if plans else [])]
    header += [*(f"{_STAGES.get(name, name.replace('_', ' '))} (s)" for name in stages), "all stages (s)"]
    body = []
    for row in section.rows:
        runs = [record.costs for record in row.records]
        seconds = [_mean_seconds(runs, [name]) for name in stages]
        plan = [_plan_seconds(row.records, name) for name in ("median", "p95")] if plans else []
        body.append(
            [marked_name(row), *(_largest(runs, name) for name in sizes), *plan, *seconds, _mean_seconds(runs, stages)]
        )
    return grid(header, body)


def plan_parts(record: Record, which: str = "median") -> dict[str, float]:
    """Return the seconds of a single plan by part ("encode", "predict", "match", ...); empty where none was timed."""
    parts = record.notes.get("latency", {}).get(which, {})
    return {str(name): float(value) for name, value in parts.items() if name != _NOT_PLANNING}


def seconds_per_plan(record: Record, which: str = "median") -> float | None:
    """Return the seconds of a single plan, all parts together, without the simulator; None where none was timed."""
    parts = plan_parts(record, which)
    return sum(parts.values()) if parts else None


def _plan_seconds(records: Sequence[Record], which: str) -> str:
    found = [seconds for record in records if (seconds := seconds_per_plan(record, which)) is not None]
    return f"{sum(found) / len(found):,.3g}" if found else "–"


def _largest(runs: Sequence[Any], name: str) -> str:
    values = [cost[name] for run in runs for cost in run.values() if cost.get(name) is not None]
    return f"{max(values):,.0f}" if values else "–"


def _mean_seconds(runs: Sequence[Any], stages: Sequence[str]) -> str:
    """Return the seconds that these stages take in a run, over the runs that have one of them."""
    sums = [sum(run[name].get("seconds", 0.0) for name in stages if name in run) for run in runs]
    having = [total for total in sums if total]
    return f"{sum(having) / len(having):,.1f}" if having else "–"


def machines(records: Sequence[Record]) -> str:
    """Say which machines the figures come from."""
    found = set()
    for record in records:
        made = record.provenance
        parts = [
            made.get("device"),
            made.get("gpu") or made.get("cpu"),
            made.get("threads") and f"threads {made['threads']}",
            made.get("processes", 1) > 1 and f"processes {made['processes']}",
        ]
        found.add(", ".join(str(part) for part in parts if part) or "unknown")
    return (
        "Seconds are means over runs, those of a cached stage from its making; comparable on one machine only. "
        f"Measured on: {'; '.join(sorted(found))}."
    )
