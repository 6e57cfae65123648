"""Which job does which run: one small file for each, beside what the job says of itself.

    <home>/sweeps/<suite>/jobs/<run>.json       written where it is submitted: cluster, job id, command
    <home>/sweeps/<suite>/said/<run>.json       written by the job: when it began and ended, where, its last error
    <home>/sweeps/<suite>/logs/<array>/         logs, and submitit's own files

Every file is replaced whole, so that readers on other machines never see half of one.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ocwm.artifacts import locked
from ocwm.errors import BenchError


@dataclass(frozen=True)
class Job:
    """A submitted job.

    Attributes:
        run: what it does: the id of a run, or "shared-" and the digest of shared stages.
        name: the same for people.
        cluster: "local" or "slurm".
        job: its id there; on this machine the process id.
        command: arguments of `bench`, for runs.
        array: folder of its logs, below `logs`.
        submitted: seconds since 1970.
        tries: how often it was submitted.
    """

    run: str
    name: str
    cluster: str
    job: str
    command: list[str]
    array: str
    submitted: float
    tries: int = 1


@dataclass(frozen=True)
class Said:
    """What a job says of itself.

    Attributes:
        job: its id; another one than the submitted one's belongs to an earlier try.
        host: where it ran.
        started, ended: seconds since 1970; `ended` is 0 while it runs, and stays so where it is killed.
        error: one line where it failed, else "".
        starts: how often it was started, also after a time-out or a requeue.
        log: path of its log.
    """

    job: str
    host: str
    started: float
    ended: float = 0.0
    error: str = ""
    starts: int = 1
    log: str = ""


class SweepFolder:
    """The folder of a suite's jobs."""

    def __init__(self, home: Path, suite: str) -> None:
        self.path = home / "sweeps" / suite
        self.suite = suite

    @property
    def logs(self) -> Path:
        """Where logs and submitit's files lie."""
        return self.path / "logs"

    @contextmanager
    def submitting(self) -> Iterator[None]:
        """Hold while jobs are submitted: two commands at once must not submit the same run."""
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / "submit.lock", f"the sweep {self.suite}"):
            yield

    def jobs(self) -> dict[str, Job]:
        """Every job by its run.

        Raises:
            BenchError: a file can't be read.
        """
        return {job.run: job for path in sorted((self.path / "jobs").glob("*.json")) for job in [Job(**_read(path))]}

    def add(self, job: Job) -> None:
        """Note a job, instead of an earlier one for the same run."""
        _write(self.path / "jobs" / f"{job.run}.json", asdict(job))

    def forget(self, run: str) -> None:
        """Remove the note of a run's job."""
        (self.path / "jobs" / f"{run}.json").unlink(missing_ok=True)

    def said(self, run: str) -> Said | None:
        """What the job of a run said last; None where it has said nothing."""
        path = self.path / "said" / f"{run}.json"
        return Said(**_read(path)) if path.is_file() else None

    def say(self, run: str, said: Said) -> None:
        """Let a job say something."""
        _write(self.path / "said" / f"{run}.json", asdict(said))


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(f"can't read {path}: {error}", "Remove it; its run is then taken as not submitted.") from error
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(content, file)
    Path(name).replace(path)
