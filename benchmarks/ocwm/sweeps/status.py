"""How a sweep stands: records first, then jobs, then what jobs said of themselves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ocwm.sweeps import slurm
from ocwm.sweeps.jobs import Job, Said, SweepFolder
from ocwm.sweeps.launch import alive_here
from ocwm.sweeps.plan import Plan

STATES = (
    "done",
    "running",
    "pending",
    "failed",
    "timed out",
    "cancelled",
    "lost",
    "not submitted",
    "missing",
    "refused",
)
LIVE = ("running", "pending")
BROKEN = ("failed", "timed out", "lost", "cancelled")


@dataclass(frozen=True)
class Row:
    """One run, or one job for shared stages.

    Attributes:
        run: its id, "" where it is not known.
        name: for people.
        state: of STATES.
        seconds: that its last try took, or takes so far; None where it has not begun.
        job: id of its job, "" where it was never submitted.
        log: path of its log, "" where there is none.
        error: the last error line of one that failed, or why it can't run or does not start.
        starts: how often its job was started.
    """

    run: str
    name: str
    state: str
    seconds: float | None = None
    job: str = ""
    log: str = ""
    error: str = ""
    starts: int = 0


def status(plan: Plan, folder: SweepFolder) -> list[Row]:
    """The state of every run of a plan, and of the jobs for what they share that are not done."""
    jobs = folder.jobs()
    live = job_states(jobs.values())
    held = slurm.held([job.job for job in jobs.values() if live[job.run] == "pending"])
    rows = []
    shared = {f"shared-{cell.shared.id}" for cell in plan.cells if cell.shared is not None and not cell.shared.cached}
    for run in sorted(shared & jobs.keys()):
        rows.append(_row(run, jobs[run].name, jobs[run], live[run], held, folder))
    for cell in plan.cells:
        job = jobs.get(cell.id or "")
        if cell.state == "done":
            seconds = _seconds(folder.said(cell.id or ""), running=False) if job else None
            rows.append(Row(cell.id or "", cell.name, "done", seconds=seconds, job=job.job if job else ""))
        elif cell.state != "todo":
            rows.append(Row(cell.id or "", cell.name, cell.state, error=cell.reason))
        elif job is None:
            rows.append(Row(cell.id or "", cell.name, "not submitted"))
        else:
            rows.append(_row(job.run, cell.name, job, live[job.run], held, folder))
    return rows


def job_states(jobs: Any) -> dict[str, str]:
    """What has become of jobs, by run: as `slurm.states` says it."""
    listed: list[Job] = list(jobs)
    there = slurm.states([job.job for job in listed if job.cluster == "slurm"])
    return {
        job.run: there[job.job] if job.cluster == "slurm" else ("running" if alive_here(job) else "ended")
        for job in listed
    }


def _row(run: str, name: str, job: Job, state: str, held: Mapping[str, str], folder: SweepFolder) -> Row:
    said = folder.said(run)
    mine = said if said is not None and said.job == job.job else None
    if state in ("ended", "failed", "lost"):
        # It has left no record. Where it has said why, it failed; where not, something has killed it.
        state = "failed" if mine is not None and mine.error else "failed" if state == "failed" else "lost"
    log = mine.log if mine is not None else ""
    error = f"waits for scontrol release {job.job}: {held[job.job]}" if job.job in held else ""
    if state in BROKEN:
        error = (mine.error if mine is not None else "") or _last_line(log) or f"no word of job {job.job}"
    return Row(
        run,
        name,
        state,
        seconds=_seconds(mine, running=state == "running"),
        job=job.job,
        log=log,
        error=error,
        starts=mine.starts if mine is not None else 0,
    )


def _seconds(said: Said | None, *, running: bool) -> float | None:
    if said is None or (not said.ended and not running):
        return None
    return (said.ended or time.time()) - said.started


def _last_line(log: str) -> str:
    path = Path(log)
    if not log or not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8", errors="replace")[-4000:].splitlines()
    kept = [line.strip() for line in lines if line.strip()]
    return kept[-1] if kept else ""


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """How many rows are in each state, in the order of STATES."""
    found = Counter(row.state for row in rows)
    return {state: found[state] for state in STATES if found[state]}


def to_json(rows: Sequence[Row]) -> Mapping[str, Any]:
    """For `--json`."""
    return {"counts": counts(rows), "runs": [asdict(row) for row in rows]}


def text(rows: Sequence[Row], *, everything: bool) -> str:
    """For people: the counts, then whatever is not simply done or waiting (or everything)."""
    from tabulate import tabulate

    lines = [", ".join(f"{number} {state}" for state, number in counts(rows).items()) or "no run"]
    hidden = () if everything else ("done", "pending", "not submitted", "refused")
    shown = [row for row in rows if row.state not in hidden or (row.state == "pending" and row.error)]
    if shown:
        table = [
            [row.state, row.name, _clock(row.seconds), row.starts or "", row.job, row.error or ""] for row in shown
        ]
        headers = ["state", "run", "time", "starts", "job", "last error"]
        lines += ["", tabulate(table, headers=headers, tablefmt="simple", disable_numparse=True)]
    if logs := [f"log of {row.name}: {row.log}" for row in shown if row.state in BROKEN and row.log]:
        lines += ["", *logs]
    return "\n".join(lines)


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes = int(seconds) // 60
    return f"{minutes // 60}:{minutes % 60:02}:{int(seconds) % 60:02}"
