"""`bench run`, `bench show`, `bench check`: one method, on one task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocwm.cli.interrupts import stoppable
from ocwm.cli.options import (
    Debug,
    Json,
    MaybeEncoder,
    MaybeMethod,
    MaybeTask,
    Method,
    Overrides,
    Preset,
    Results,
    Seed,
    Task,
)
from ocwm.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocwm.config import Config
    from ocwm.testing import Check


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
        from ocwm.distributed import processes
        from ocwm.progress import say
        from ocwm.references import absent_references, matching_references
        from ocwm.report import run_table

        config = compose_config(method, task, preset, seed, results, overrides)
        with processes(config.runtime.device, timeout_min=config.runtime.timeout) as team:
            with team.together():
                cell = engine.prepare(config)
            stop_here()
            outcome = engine.run(cell, force=force, rebuild=rebuild)
            record = outcome.record
            if references:
                shared = [text for text in overrides or [] if not text.startswith(("method.", "trainer."))]
                known = team.by_first(lambda: store.read_records(cell.results))
                for name in absent_references(record, matching_references(record, known)):
                    stop_here()
                    engine.run(engine.prepare(compose_config(name, task, preset, seed, results, shared)))
    if not team.first:
        return
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


def check(
    method: MaybeMethod = None,
    encoder: MaybeEncoder = None,
    task: MaybeTask = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Check that a method or an encoder keeps the promises of its interface (for plugin authors).

    An encoder has the sizes of its preset tiny; one that reads states needs a task that says what states look like.
    """
    checks = []
    for one in _suite(method, encoder, task):
        checks.append(one)
        if not as_json:
            print(
                f"{'pass' if one.passed else 'FAIL'}  {one.name}" + (f": {one.detail}" if one.detail else ""),
                flush=True,
            )
    if as_json:
        print(json.dumps([vars(one) for one in checks], indent=1))
    return 0 if all(one.passed for one in checks) else 1


def _suite(method: str | None, encoder: str | None, task: str | None) -> Iterator[Check]:
    from ocwm.testing import check_encoder, check_method

    if (method is None) == (encoder is None):
        raise BenchError("one of --method and --encoder is needed, not both", "For example bench check --method my_wm.")
    if method is not None:
        return check_method(method)
    assert encoder is not None
    if task is None:
        return check_encoder(encoder)
    from ocwm.config import compose, instantiate

    problem = instantiate(compose(method=None, task=task, preset="tiny").values.task)
    return check_encoder(encoder, states=problem.states(videos=3, frames=7))


def compose_config(
    method: str | None, task: str, preset: str, seed: int | None, results: Path | None, overrides: list[str] | None
) -> Config:
    """Return the configuration that the options of a command ask for."""
    from ocwm.config import compose

    given = list(overrides or [])
    if results is not None:
        given.append(f"runtime.results={json.dumps(str(results))}")
    return compose(method=method, task=task, preset=preset, seed=seed, overrides=given)
