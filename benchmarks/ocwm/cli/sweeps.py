"""`bench sweep`, `bench status`, `bench cancel`: many runs at once."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocwm.cli.interrupts import stoppable
from ocwm.cli.options import Debug, Json, Results, names
from ocwm.errors import BenchError, suggest

if TYPE_CHECKING:
    from ocwm.sweeps.jobs import SweepFolder
    from ocwm.sweeps.plan import Plan, PlannedCell
    from ocwm.sweeps.resources import Cluster

_RETRY = ("failed", "all")
_WATCH_S = 10.0

Suite = Annotated[
    str, typer.Option(help="A suite, or a YAML file with one.", autocompletion=names("suite"), show_default=False)
]
Given = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="For all runs (trainer.max_steps=100), or cluster.KEY=VALUE."),
]
Data = Annotated[
    list[str] | None, typer.Option(metavar="TASK=DIR", help="Data of a task, for all of its runs.", show_default=False)
]

Weights = Annotated[
    list[str] | None,
    typer.Option(metavar="ENCODER=FILE", help="Weights of an encoder, for all of its runs.", show_default=False),
]


def sweep(
    suite: Suite,
    overrides: Given = None,
    cluster: Annotated[str, typer.Option(help="local, slurm, or a YAML file that says what jobs ask for.")] = "local",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    retry: Annotated[
        str | None, typer.Option(help="Submit only runs whose job has failed, timed out or got lost: failed.")
    ] = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out runs whose data or weights are missing.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Submit at most so many runs.", show_default=False)] = None,
    data: Data = None,
    weights: Weights = None,
    results: Results = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Run a suite; the same command continues it. A run is done when it has a record."""
    if retry is not None and retry not in _RETRY[:1]:
        raise BenchError(f"--retry {retry} is not known", "Use --retry failed.")
    if limit is not None and limit < 1:
        raise BenchError(f"--limit {limit} is too small", "Choose 1 or more.")
    with stoppable() as stop_here:
        if dry_run:
            os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched for it
        plan, site = _plan(suite, overrides, cluster, data, weights, results)
        stop_here()
        if dry_run:
            from ocwm.sweeps import report

            hours = report.recorded_hours(plan)
            print(json.dumps(report.facts(plan, site, hours), indent=1) if as_json else report.text(plan, site, hours))
            return 0
        return _submit(plan, site, retry=retry, limit=limit, skip_missing=skip_missing, as_json=as_json)


def status(
    suite: Suite,
    overrides: Given = None,
    watch: Annotated[bool, typer.Option("--watch", help="Print anew until nothing runs or waits.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="List runs that are done or waiting, too.")] = False,
    data: Data = None,
    weights: Weights = None,
    results: Results = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Say how a sweep stands: done, running, pending, failed, timed out, lost. Give the overrides of the sweep."""
    with stoppable() as stop_here:
        from ocwm.sweeps import status as states

        while True:
            plan, _ = _plan(suite, overrides, "local", data, weights, results)
            rows = states.status(plan, _folder(plan))
            if as_json:
                print(json.dumps(states.to_json(rows), indent=1), flush=True)
            else:
                print(
                    (time.strftime("%H:%M:%S  ") if watch else "") + states.text(rows, everything=everything),
                    flush=True,
                )
            if not watch or not any(row.state in states.LIVE for row in rows):
                return 0
            for _ in range(int(_WATCH_S / 0.5)):
                time.sleep(0.5)
                stop_here()


def cancel(suite: Suite, debug: Debug = False) -> int:
    """Stop all jobs of a suite that run or wait; what they have done so far is kept."""
    from ocwm.folders import work_folder
    from ocwm.sweeps import slurm
    from ocwm.sweeps.jobs import SweepFolder
    from ocwm.sweeps.launch import cancel_here
    from ocwm.sweeps.status import LIVE, job_states

    name = Path(suite).stem if suite.endswith((".yaml", ".yml")) else suite
    folder = SweepFolder(work_folder(), name)
    if not folder.path.is_dir():
        known = [path.name for path in folder.path.parent.glob("*")]
        raise BenchError(f"no sweep of suite '{name}' was started here", suggest(name, known))
    jobs = folder.jobs()
    states = job_states(jobs.values())
    live = [job for job in jobs.values() if states[job.run] in LIVE]
    if there := [job.job for job in live if job.cluster == "slurm"]:
        slurm.cancel(there)
    cancel_here(job for job in live if job.cluster == "local")
    print(f"{len(live)} job{'s' * (len(live) != 1)} cancelled")
    return 0


def _plan(
    suite: str,
    overrides: list[str] | None,
    cluster: str,
    data: list[str] | None,
    weights: list[str] | None,
    results: Path | None,
) -> tuple[Plan, Cluster]:
    from ocwm.sweeps.plan import plan
    from ocwm.sweeps.resources import read_cluster
    from ocwm.sweeps.suite import read_suite

    site = [text for text in overrides or [] if text.startswith("cluster.")]
    own = [text for text in overrides or [] if text not in site]
    content = read_suite(
        suite, overrides=own, roots=_places(data, "--data TASK=DIR"), weights=_places(weights, "--weights ENCODER=FILE")
    )
    where = read_cluster(cluster, suite=content.resources, overrides=site)
    return plan(content, results=results), where


def _places(given: list[str] | None, form: str) -> dict[str, str]:
    """Absolute paths by name; jobs may start in another folder."""
    found = {}
    for text in given or []:
        name, _, place = text.partition("=")
        if not place:
            raise BenchError(f"'{text}' has another form", f"Use {form}.")
        found[name] = str(Path(place).expanduser().absolute()) if Path(place).expanduser().exists() else place
    return found


def _folder(plan: Plan) -> SweepFolder:
    from ocwm.sweeps.jobs import SweepFolder

    return SweepFolder(plan.home, plan.suite.name)


def _submit(
    plan: Plan, site: Cluster, *, retry: str | None, limit: int | None, skip_missing: bool, as_json: bool
) -> int:
    from ocwm.progress import say
    from ocwm.sweeps import launch
    from ocwm.sweeps.status import BROKEN, LIVE, status, text, to_json

    if not skip_missing:
        launch.require_submittable(plan)
    folder = _folder(plan)
    failed: dict[str, str] = {}
    if site.kind == "slurm":
        from ocwm.sweeps.slurm import require_slurm

        require_slurm()
    with folder.submitting():
        rows = {row.run: row for row in status(plan, folder) if row.run}
        cells: list[PlannedCell] = []
        for cell in plan.of("todo"):
            row = rows[cell.id or ""]
            if row.state not in LIVE and (retry is None or row.state in BROKEN):
                cells.append(cell)
        live = sum(rows[cell.id or ""].state in LIVE for cell in plan.of("todo"))
        say(f"{len(plan.of('done'))} done, {live} running or waiting, {len(cells[:limit])} to submit")
        tasks = [
            task
            for task in launch.tasks_of(plan, cells[:limit], site)
            if task.work.run not in rows or rows[task.work.run].state not in LIVE
        ]
        if tasks and site.kind == "slurm":
            launch.submit_to_slurm(tasks, folder, tell=say)
    if tasks and site.kind == "local":
        failed = launch.run_here(tasks, folder, parallel=tasks[0].resources.parallel, tell=say)
    if as_json:
        print(json.dumps(to_json(status(_again(plan), folder)), indent=1))
    elif site.kind == "local" and tasks:
        print(text(status(_again(plan), folder), everything=False))
    elif site.kind == "slurm":
        print(f"bench status --suite {plan.suite.name} says how it stands; the same command continues it")
    return 1 if failed else 0


def _again(plan: Plan) -> Plan:
    from ocwm.sweeps import plan as planning

    return planning.plan(plan.suite, home=plan.home, results=plan.results)
