"""Submits what a plan has to do, on this machine or on a cluster, and nothing twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import submitit

from ocwm.errors import BenchError
from ocwm.sweeps import slurm
from ocwm.sweeps.jobs import Job, SweepFolder
from ocwm.sweeps.plan import Plan, PlannedCell
from ocwm.sweeps.resources import Cluster, Resources
from ocwm.sweeps.work import Work

Tell = Callable[[str], object]
_POLL = 0.3  # s


@dataclass(frozen=True)
class Task:
    """One job to be submitted.

    Attributes:
        work: what it does.
        name: for people.
        command: arguments of `bench`, for runs.
        resources: what it asks for.
        after: the `run` of the job that must end well first, "" where there is none.
    """

    work: Work
    name: str
    command: list[str]
    resources: Resources
    after: str = ""

    def job(self, cluster: str, job: str, array: str, before: Job | None) -> Job:
        """The note of this job, when it is submitted."""
        tries = 1 if before is None else before.tries + 1
        return Job(self.work.run, self.name, cluster, job, self.command, array, time.time(), tries)


def tasks_of(plan: Plan, cells: Sequence[PlannedCell], cluster: Cluster) -> list[Task]:
    """Jobs for cells: stages that at least two of them share and that are not there yet come first, as jobs of their own."""
    resources = {cell.variant: cluster.resources(cell.variant) for cell in cells}
    counts: dict[str, int] = {}
    for cell in cells:
        if cell.shared is not None and not cell.shared.cached:
            counts[cell.shared.id] = counts.get(cell.shared.id, 0) + 1
    shared: dict[str, Task] = {}
    found = []
    for cell in cells:
        assert cell.id is not None
        after = ""
        if cell.shared is not None and counts.get(cell.shared.id, 0) > 1:
            after = f"shared-{cell.shared.id}"
            if after not in shared:
                work = replace(_work(plan, cell), run=after, shared=True)
                name = f"{', '.join(cell.shared.names)} of {cell.variant.task}"
                shared[after] = Task(work, name, [], resources[cell.variant])
        found.append(Task(_work(plan, cell), cell.name, cell.command, resources[cell.variant], after))
    return [*shared.values(), *found]


def _work(plan: Plan, cell: PlannedCell) -> Work:
    assert cell.id is not None
    variant = cell.variant
    return Work(
        run=cell.id,
        home=str(plan.home),
        suite=plan.suite.name,
        method=variant.method,
        task=variant.task,
        preset=variant.preset,
        seed=cell.seed,
        overrides=variant.all_overrides,
        results=str(plan.results_of(cell)),
    )


# SLURM


def submit_to_slurm(tasks: Sequence[Task], folder: SweepFolder, *, tell: Tell) -> int:
    """Submit one array for each resource setting and shared stage; return the number of jobs.

    Raises:
        BenchError: SLURM refuses; then nothing of this call stays submitted.
    """
    slurm.require_slurm()
    slurm.check_fits(list(dict.fromkeys(task.resources for task in tasks)))
    before = folder.jobs()
    ids: dict[str, str] = {}
    try:
        for batch in _arrays(tasks):
            first = batch[0]
            after = [ids[first.after]] if first.after else []
            works = [task.work for task in batch]
            name = f"ocwm-{folder.suite}"
            given = slurm.submit(works, first.resources, logs=folder.logs, name=name, after=after)
            ids |= {task.work.run: job for task, job in zip(batch, given, strict=True)}
            array = given[0].partition("_")[0]
            tell(f"array {array}: {len(batch)} job{'s' * (len(batch) > 1)}, {first.resources.words()}")
            for task, job in zip(batch, given, strict=True):
                folder.add(task.job("slurm", job, array, before.get(task.work.run)))
    except BaseException:  # a Ctrl-C too: half a sweep would be submitted again
        if ids:
            slurm.cancel(ids.values())
            for run in ids:
                folder.forget(run)
        raise
    return len(ids)


def _arrays(tasks: Sequence[Task]) -> Iterable[list[Task]]:
    """Jobs that can be one array: equal resources, the same job before them, no longer than the site allows."""
    groups: dict[tuple[Resources, str, bool], list[Task]] = {}
    for task in tasks:
        groups.setdefault((task.resources, task.after, task.work.shared), []).append(task)
    for (resources, _, shared), group in groups.items():
        limit = 1 if shared else slurm.array_limit(resources)
        for low in range(0, len(group), limit):
            yield group[low : low + limit]


# This machine


def run_here(tasks: Sequence[Task], folder: SweepFolder, *, parallel: int, tell: Tell) -> dict[str, str]:
    """Run jobs on this machine, `parallel` at a time, and return an error line for each that failed.

    A Ctrl-C stops the running ones, which save their state first, and starts no more.
    """
    waiting = list(tasks)
    running: dict[str, tuple[Task, submitit.LocalJob[str]]] = {}
    ended: dict[str, str] = {}
    total = len(tasks)
    try:
        while waiting or running:
            for task in [t for t in waiting if not t.after or t.after in ended]:
                if task.after and ended[task.after]:
                    waiting.remove(task)
                    ended[task.work.run] = f"not started: {ended[task.after]}"
                    tell(f"[{len(ended)}/{total}] not started  {task.name}")
                elif len(running) < max(parallel, 1):
                    waiting.remove(task)
                    running[task.work.run] = (task, _start(task, folder))
            time.sleep(_POLL)
            for run, (task, job) in list(running.items()):
                if not job.done():
                    continue
                del running[run]
                ended[run] = _error_of(run, job, folder)
                said = folder.said(run)
                took = "" if said is None else f", {_clock((said.ended or time.time()) - said.started)}"
                state = "failed" if ended[run] else "done"
                tell(f"[{len(ended)}/{total}] {state:6}  {task.name}{took}" + (f": {ended[run]}" if ended[run] else ""))
    except BaseException:
        for _, job in running.values():
            job.cancel()
        for _, job in running.values():
            while not job.done():
                time.sleep(_POLL)
        raise
    return {run: error for run, error in ended.items() if error}


def _start(task: Task, folder: SweepFolder) -> submitit.LocalJob[str]:
    wanted = task.resources
    executor = submitit.LocalExecutor(folder=folder.logs / "local", max_num_timeout=wanted.timeouts)
    executor.update_parameters(
        timeout_min=wanted.minutes,
        tasks_per_node=wanted.processes,
        gpus_per_node=wanted.gpus,
        signal_delay_s=wanted.signal_seconds,
        setup=list(wanted.setup),
    )
    job = executor.submit(task.work)
    folder.add(task.job("local", job.job_id, "local", folder.jobs().get(task.work.run)))
    return job


def _error_of(run: str, job: submitit.LocalJob[str], folder: SweepFolder) -> str:
    said = folder.said(run)
    if said is not None and said.job == job.job_id and said.ended:
        return said.error
    return "its process was killed"


def alive_here(job: Job) -> bool:
    """Whether a job of this machine still runs."""
    try:
        command = Path(f"/proc/{job.job}/cmdline").read_bytes()
    except OSError:
        return False
    return b"submitit" in command


def cancel_here(jobs: Iterable[Job]) -> None:
    """Stop jobs of this machine; they save their state first."""
    for job in jobs:
        if alive_here(job):
            os.kill(int(job.job), signal.SIGINT)


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def require_submittable(plan: Plan) -> None:
    """Check that no run of a plan lacks something.

    Raises:
        BenchError: data or weights are missing.
    """
    if missing := plan.of("missing"):
        first = missing[0]
        raise BenchError(
            f"{len(missing)} of {len(plan.cells)} runs lack something, first '{first.name}': {first.reason}",
            "--dry-run lists all; --skip-missing leaves them out.",
        )
