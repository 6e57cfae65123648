"""`bench data make|check|describe`: delegated to the task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ocwm.cli.interrupts import stoppable
from ocwm.cli.options import Debug, Json, Out, Overrides, Preset, Task
from ocwm.cli.running import compose_config

if TYPE_CHECKING:
    from ocwm.context import DataReport


def make(
    task: Task,
    overrides: Overrides = None,
    preset: Preset = "mini",
    out: Out = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Make the data of a task."""
    return _data("make", task, preset, out, overrides, as_json=as_json)


def check(
    task: Task,
    overrides: Overrides = None,
    preset: Preset = "mini",
    out: Out = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Read all data of a task and say what is there, missing or wrong (exit code 1 where something is)."""
    return _data("check", task, preset, out, overrides, as_json=as_json)


def describe(
    task: Task,
    overrides: Overrides = None,
    preset: Preset = "mini",
    out: Out = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Describe the data of a task in figures and pictures."""
    return _data("describe", task, preset, out, overrides, as_json=as_json)


def _data(command: str, task: str, preset: str, out: Path | None, overrides: list[str] | None, *, as_json: bool) -> int:
    with stoppable() as stop_here:
        from ocwm.config import instantiate
        from ocwm.run import workspace

        config = compose_config(None, task, preset, None, None, overrides)
        problem = instantiate(config.values.task)
        versions = {"task": problem.version, **problem.versions()}
        # A check must be able to speak about data that has no identity because it can't be read.
        data = None if command == "check" else problem.data_identity(config.seeds)
        space = workspace(config, versions=versions, data=data)
        stop_here()
        report: DataReport = getattr(problem, f"data_{command}")(space, out=out)
    print(json.dumps(dict(report.facts), indent=1) if as_json else report.text)
    return 0 if report.ok else 1
