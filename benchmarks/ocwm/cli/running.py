"""`bench run`, `bench show`, `bench check`: one method, on one task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocwm.cli.interrupts import stoppable
from ocwm.cli.options import Debug, Json, Method, Overrides, Preset, Results, Seed, Task

if TYPE_CHECKING:
    from ocwm.config import Config


def run(
    method: Method,
    task: Task,
    overrides: Overrides = None,
    preset: Preset = "mini",
    seed: Seed = None,
    force: Annotated[bool, typer.Option("--force", help="Run anew although there is a record.")] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make every cached stage anew.")] = False,
    references: Annotated[
        bool, typer.Option("--references", help="Run the references that are absent from the table too.")
    ] = False,
    results: Results = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a method on a task: data, training, evaluation, record."""
    with stoppable() as stop_here:
        from ocwm import run as engine
        from ocwm import store
        from ocwm.progress import say
        from ocwm.references import absent_references, matching_references
        from ocwm.report import run_table

        cell = engine.prepare(compose_config(method, task, preset, seed, results, overrides))
        stop_here()
        outcome = engine.run(cell, force=force, rebuild=rebuild)
        record = outcome.record
        if references:
            shared = [text for text in overrides or [] if not text.startswith(("method.", "trainer."))]
            for name in absent_references(record, matching_references(record, store.read_records(cell.results))):
                stop_here()
                engine.run(engine.prepare(compose_config(name, task, preset, seed, results, shared)))
    if as_json:
        print(json.dumps({**record.to_json(), "path": str(record.path)}, indent=1))
    else:
        print(run_table(record, store.read_records(cell.results)), end="")
    if outcome.new:
        say(f"record: {record.path}")
    else:
        say(f"this run is done: {record.path} (--force runs it anew)")


def show(
    method: Method,
    task: Task,
    overrides: Overrides = None,
    preset: Preset = "mini",
    seed: Seed = None,
    results: Results = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the resolved configuration of a run, its id, what is cached and what would be computed."""
    config = compose_config(method, task, preset, seed, results, overrides)
    from ocwm.run import prepare
    from ocwm.show import show_facts, show_text

    facts = show_facts(prepare(config))
    print(json.dumps(facts, indent=1) if as_json else show_text(facts))


def check(method: Method, as_json: Json = False, debug: Debug = False) -> int:
    """Check that a method keeps the promises of a world model (for plugin authors)."""
    from ocwm.testing import check_method

    checks = []
    for one in check_method(method):
        checks.append(one)
        if not as_json:
            print(
                f"{'pass' if one.passed else 'FAIL'}  {one.name}" + (f": {one.detail}" if one.detail else ""),
                flush=True,
            )
    if as_json:
        print(json.dumps([vars(one) for one in checks], indent=1))
    return 0 if all(one.passed for one in checks) else 1


def compose_config(
    method: str | None, task: str, preset: str, seed: int | None, results: Path | None, overrides: list[str] | None
) -> Config:
    """Return the configuration that the options of a command ask for."""
    from ocwm.config import compose

    given = list(overrides or [])
    if results is not None:
        given.append(f"runtime.results={json.dumps(str(results))}")
    return compose(method=method, task=task, preset=preset, seed=seed, overrides=given)
