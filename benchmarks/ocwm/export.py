"""The tables as data, for other programs: CSV (one line for each row and metric) and JSON (nested, with verdicts)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ocwm.attribution import bracket, captured
from ocwm.cells import Cell, Column
from ocwm.cost_table import seconds_per_plan
from ocwm.leakage import KEY as LEAKAGE
from ocwm.run_list import command_of
from ocwm.sections import Row, Section
from ocwm.stats import MIN_RUNS, iqm, run_bootstrap

EXPORTS = ("csv", "json")


def export(found: Sequence[Section], form: str) -> str:
    """Return the sections in one of EXPORTS, with a newline at the end."""
    assert form in EXPORTS, form
    if form == "json":
        return json.dumps([_section(section) for section in found], indent=1, allow_nan=False) + "\n"
    import pandas as pd

    lines = [line for section in found for line in _lines(section)]
    return pd.DataFrame(lines).to_csv(index=False, lineterminator="\n", float_format="%.6g")


def _lines(section: Section) -> Iterator[dict[str, Any]]:
    for row in section.rows:
        for column in section.columns:
            cell = row.cells.get(column.key)
            if cell is None:
                continue
            record = row.records[0]
            yield {
                "task": record.task, **record.section, "manifest": record.data["manifest"],
                "split": record.split["name"], "split_hash": record.split["hash"], "model": row.label,
                "method": record.method, "kind": record.kind, "privileged": record.privileged,
                "encoder": row.encoder, "metric": column.key, "unit": column.unit,
                "higher_is_better": column.higher_is_better, "value": cell.mean, "low": cell.low,
                "high": cell.high, "interval": cell.source, "n": cell.n, "training_seeds": len(cell.by_seed),
                "separated": is_separated(section, row, column), "collapsed_runs": cell.collapsed, "dirty": row.dirty,
                "records": " ".join(r.id for r in row.records),
            }  # fmt: skip


def is_separated(section: Section, row: Row, column: Column) -> bool:
    """Say whether a row is the best learned one and separated from the runner-up."""
    separation = section.separations.get(column.key)
    best = separation is not None and separation.separated and separation.best == section.name_of(row)
    return row.learned and best


def _section(section: Section) -> dict[str, Any]:
    sample = section.sample
    return {
        "task": sample.task,
        **sample.section,
        "data": dict(sample.data),
        "split": dict(sample.split),
        "rows": [_row(section, row) for row in section.rows],
        "verdicts": {key: _verdict(section, key) for key in section.separations},
        "absent_references": list(section.absent),
    }


def _row(section: Section, row: Row) -> dict[str, Any]:
    first = row.records[0]
    return {
        "model": row.label,
        "method": first.method,
        "kind": first.kind,
        "privileged": first.privileged,
        "encoder": row.encoder,
        "training_seeds": row.seeds,
        "dirty": row.dirty,
        "seconds_per_plan": seconds_per_plan(first),
        "metrics": {
            column.key: _cell(section, row, column, row.cells[column.key])
            for column in section.columns
            if column.key in row.cells
        },
        "records": [
            {"id": r.id, "repeat": r.repeat, "seeds": dict(r.seeds), "command": command_of(r), LEAKAGE: r.notes.get(LEAKAGE)}
            for r in row.records
        ],
    }  # fmt: skip


def _cell(section: Section, row: Row, column: Column, cell: Cell) -> dict[str, Any]:
    ends = bracket(section, column)
    share = captured(ends, cell) if row.learned and ends is not None and ends.open else None
    return {
        "value": cell.mean,
        "low": cell.low,
        "high": cell.high,
        "interval": cell.source,
        "n": cell.n,
        "unit": column.unit,
        "higher_is_better": column.higher_is_better,
        "by_seed": [{"encoder": seeds[0], "seed": seeds[1], "value": value} for seeds, value in cell.by_seed.items()],
        "iqm": _iqm(cell),
        "collapsed_runs": cell.collapsed,
        "separated": is_separated(section, row, column),
        "headroom_captured": None if share is None else share.mean,
    }


def _iqm(cell: Cell) -> dict[str, float] | None:
    """Return the interquartile mean over training seeds with its bootstrap interval; None below ten seeds."""
    values = list(cell.by_seed.values())
    if len(values) < MIN_RUNS:
        return None
    low, high = run_bootstrap([[values]], iqm, rng=np.random.default_rng(0))
    return {"value": iqm(values), "low": low, "high": high}


def _verdict(section: Section, key: str) -> dict[str, Any]:
    separation = section.separations[key]
    found = separation.test or separation.rates
    return {
        "best": separation.best,
        "runner_up": separation.runner_up,
        "separated": separation.separated,
        "common_seeds": separation.common,
        "difference": None if found is None else found.mean,
        "low": None if found is None else found.low,
        "high": None if found is None else found.high,
        "about": None if found is None else "methods" if separation.test else "these checkpoints",
        "corrected_p": separation.p_value,
        "more_seeds": None if separation.separated else separation.more_seeds,
        "episodes_needed": None if separation.rates is None else separation.rates.needed,
    }
