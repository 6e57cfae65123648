"""What `bench sweep --dry-run` prints: runs by variant, what is done, what they ask for, hours from recorded costs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ocwm.store import Record, read_records
from ocwm.sweeps.plan import Plan, PlannedCell, Shared, State
from ocwm.sweeps.resources import Cluster, Resources
from ocwm.sweeps.suite import Variant

_MADE_ONCE = ("data", "frames", "slots", "quality", "images", "total")  # "total" is the sum of the others
_LINES = 40  # variants and reasons that are listed; --json has all

Hours = Mapping[tuple[str, str, str], float]


def recorded_hours(plan: Plan) -> Hours:
    """Median hours of a run by (method, task, preset), without the stages that runs share, from the records there are."""
    folders = {plan.results_of(cell) for cell in plan.cells}
    seconds: dict[tuple[str, str, str], list[float]] = {}
    for record in (record for folder in folders for record in read_records(folder)):
        seconds.setdefault((record.method, record.task, record.preset), []).append(_own_seconds(record))
    return {key: statistics.median(values) / 3600 for key, values in seconds.items()}


def _own_seconds(record: Record) -> float:
    return sum(
        float(cost["seconds"]) for stage, cost in record.costs.items() if stage.partition(".")[0] not in _MADE_ONCE
    )


def facts(plan: Plan, cluster: Cluster, hours: Hours) -> dict[str, Any]:
    """For `--json`."""
    states: tuple[State, ...] = ("done", "todo", "refused", "missing")
    return {
        "suite": plan.suite.name,
        "home": str(plan.home),
        "counts": {state: len(plan.of(state)) for state in states},
        "hours": _sum_of_hours(plan.of("todo"), hours),
        "cells": [
            {
                "id": cell.id,
                "name": cell.name,
                "state": cell.state,
                "reason": cell.reason,
                "command": ["bench", *cell.command],
                "hours": hours.get(_kind(cell.variant)),
                "shared": cell.shared.id if cell.shared else None,
                "resources": vars(cluster.resources(cell.variant)),
            }
            for cell in plan.cells
        ],
    }


def text(plan: Plan, cluster: Cluster, hours: Hours) -> str:
    """For people."""
    from tabulate import tabulate

    todo, done = plan.of("todo"), plan.of("done")
    lines = [f"suite {plan.suite.name}: {plan.suite.description}".rstrip(": ")]
    lacking = f", {len(missing):,} lack something" if (missing := plan.of("missing")) else ""
    lines.append(f"{len(plan.cells):,} runs: {len(done):,} done, {len(todo):,} to do{lacking}")
    table = []
    for variant, cells in _by_variant(plan).items():
        known = hours.get(_kind(variant))
        to_do, without = (sum(cell.state == state for cell in cells) for state in ("todo", "missing"))
        table.append(
            [
                variant.method,
                variant.task,
                variant.encoder or "",
                variant.preset,
                variant.ablation,
                len(cells),
                sum(cell.state == "done" for cell in cells),
                to_do,
                without or "",
                "" if not to_do else "unknown" if known is None else f"{known * to_do:.2f}",
            ]
        )
    headers = ["method", "task", "encoder", "preset", "ablation", "runs", "done", "to do", "missing", "hours"]
    columns = [i for i in range(len(headers)) if any(row[i] != "" for row in table)]
    shown = [[row[i] for i in columns] for row in table[:_LINES]]
    if shown:
        lines += ["", tabulate(shown, headers=[headers[i] for i in columns], tablefmt="simple")]
    lines += _more(len(table))
    if todo:
        lines += ["", *_jobs(todo, cluster), _hours(todo, hours)]
    if refused := plan.of("refused"):
        lines += ["", f"{len(refused):,} runs are left out because they can't work:", *_reasons(refused)]
    if missing:
        lines += ["", f"{len(missing):,} runs are to do when there is what they lack:", *_reasons(missing)]
    return "\n".join(lines)


def _by_variant(plan: Plan) -> dict[Variant, list[PlannedCell]]:
    found: dict[Variant, list[PlannedCell]] = {}
    for cell in plan.cells:
        if cell.state != "refused":
            found.setdefault(cell.variant, []).append(cell)
    return found


def _jobs(todo: Sequence[PlannedCell], cluster: Cluster) -> list[str]:
    asked: dict[Resources, int] = {}
    shared: dict[Shared, int] = {}
    for cell in todo:
        wanted = cluster.resources(cell.variant)
        asked[wanted] = asked.get(wanted, 0) + 1
        if cell.shared is not None:
            shared[cell.shared] = shared.get(cell.shared, 0) + 1
    lines = [f"jobs on {cluster.kind}: {number:,} of {wanted.words()}" for wanted, number in asked.items()]
    first = [(stages, number) for stages, number in shared.items() if number > 1 and not stages.cached]
    return lines + [f"made once for {number:,} runs: {', '.join(stages.names)}" for stages, number in first]


def _hours(todo: Sequence[PlannedCell], hours: Hours) -> str:
    unknown = sum(_kind(cell.variant) not in hours for cell in todo)
    total = sum(hours.get(_kind(cell.variant), 0.0) for cell in todo)
    known = f"{total:.1f} hours one after the other, from recorded costs" if unknown < len(todo) else ""
    more = f"unknown for {unknown:,} of {len(todo):,} runs" if unknown else ""
    return "estimate: " + "; ".join(part for part in (known, more) if part)


def _sum_of_hours(todo: Sequence[PlannedCell], hours: Hours) -> dict[str, float | int]:
    known = [hours[_kind(cell.variant)] for cell in todo if _kind(cell.variant) in hours]
    return {"known": sum(known), "runs_unknown": len(todo) - len(known)}


def _reasons(cells: Sequence[PlannedCell]) -> list[str]:
    """One line for each reason, with what it holds for."""
    found: dict[str, list[PlannedCell]] = {}
    for cell in cells:
        found.setdefault(cell.reason, []).append(cell)
    listed = []
    for reason, group in found.items():
        names = list(dict.fromkeys(cell.variant.name for cell in group))
        which = names[0] if len(names) == 1 else f"{len(group):,} runs such as '{names[0]}'"
        listed.append(f"  {which}: {reason}")
    return listed[:_LINES] + _more(len(listed))


def _more(number: int) -> list[str]:
    return [f"  … and {number - _LINES:,} more (--json has all)"] if number > _LINES else []


def _kind(variant: Variant) -> tuple[str, str, str]:
    return variant.method, variant.task, variant.preset
