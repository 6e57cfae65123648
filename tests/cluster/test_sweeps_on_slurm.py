"""Sweeps on a real SLURM, through the command: arrays, failures, requeue, kill -9, no double work, cancel."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ocwm.store import Record, read_items, read_records

pytestmark = pytest.mark.usefixtures("slurm")

CELL = {"methods": ["ocjepa"], "tasks": ["pusht"]}
LONG = ["trainer.max_steps=4000", "trainer.checkpoint_seconds=1"]  # ten seconds on an idle core
PATIENCE = 400.0  # s; machines for tests are small and busy


@dataclass(frozen=True)
class Site:
    """A user of the cluster: a work folder, and a folder to start commands in."""

    home: Path
    here: Path

    def bench(self, *arguments: str, code: int = 0, path: str | None = None) -> str:
        """Run a command as a user would; return what it printed."""
        environment = {**os.environ, "OCWM_HOME": str(self.home), "PATH": path or os.environ["PATH"]}
        command = [sys.executable, "-m", "ocwm.cli", *arguments]
        done = subprocess.run(
            command, cwd=self.here, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def suite(self, *blocks: dict[str, Any]) -> str:
        """Write a suite of tiny runs; return its file."""
        content = {"description": "for tests", "preset": "tiny", "blocks": [{**CELL, **block} for block in blocks]}
        (self.here / "s.yaml").write_text(yaml.safe_dump(content))
        return "s.yaml"

    def sweep(self, *more: str, code: int = 0) -> str:
        """Submit the suite."""
        return self.bench(
            "sweep", "--suite", "s.yaml", "--cluster", "slurm", "runtime.threads=1", "cluster.cpus=1", *more, code=code
        )

    def rows(self, *, path: str | None = None, more: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        """What `bench status` says of each run."""
        said = self.bench("status", "--suite", "s.yaml", "runtime.threads=1", *more, "--json", path=path)
        found = json.loads(said.partition("\n}")[0] + "\n}")
        return {row["run"]: row for row in found["runs"]}

    def states(self) -> list[str]:
        """The states of all runs."""
        return sorted(row["state"] for row in self.rows().values())

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, self.bench("status", "--suite", "s.yaml", "--all")
            time.sleep(0.1)

    def finish(self) -> None:
        """Wait until no job of the suite runs or waits."""
        jobs = self.jobs()
        self.wait(lambda: not _squeue("%T", *jobs))

    def jobs(self) -> list[str]:
        """Ids of all jobs of the suite."""
        return [json.loads(path.read_text())["job"] for path in (self.home / "sweeps" / "s" / "jobs").glob("*.json")]

    def logs(self) -> str:
        """All that jobs said."""
        return "\n".join(path.read_text() for path in self.home.rglob("*.err"))

    def records(self) -> list[Record]:
        """The records."""
        return read_records(self.home / "results")

    def checkpoint(self, after: float = 0.0) -> bool:
        """Whether a training has saved its state since a time."""
        found = self.home.glob("work/world_model/*/checkpoint.safetensors")
        return any(path.stat().st_mtime > after for path in found)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return _site(tmp_path, "one")


def _site(tmp_path: Path, name: str) -> Site:
    (tmp_path / name).mkdir()
    return Site(tmp_path / f"home-{name}", tmp_path / name)


def test_an_array_is_throttled_shares_its_data_and_reports_failures(site: Site) -> None:
    site.suite({"seeds": [0, 1, 2]}, {"overrides": ["task.goal_offset=99"]})
    with _closed_partition():
        told = site.sweep("cluster.parallel=2")
        assert "0 done, 0 running or waiting, 4 to submit" in told
        # A second command while the first one's jobs wait submits nothing.
        assert "4 running or waiting, 0 to submit" in site.sweep()
        jobs = site.jobs()
        # One job makes the data, and all others wait for it.
        waiting = {job: _squeue("%E", job)[0].split("(")[0] for job in jobs}
        (shared,) = [job for job, dependency in waiting.items() if not dependency]
        assert sorted(waiting.values()) == ["", *[f"afterok:{shared}"] * 4]
    most = 0
    while states := _squeue("%T", *jobs):
        most = max(most, states.count("RUNNING"))
        time.sleep(0.1)
    assert 1 <= most <= 2
    rows = site.rows()
    assert _states(rows) == ["done", "done", "done", "failed"]
    assert _states(site.rows(path=_without_accounting(site.here))) == _states(rows)
    failed = list(rows.values())[-1]
    assert failed["error"]
    assert Path(failed["log"]).is_file()
    assert len(site.records()) == 3


def test_requeue_signal_and_kill_9_end_with_the_numbers_of_an_undisturbed_run(site: Site, tmp_path: Path) -> None:
    whole = _site(tmp_path, "whole")
    for one in (site, whole):
        one.suite({"overrides": LONG})
        one.sweep()
    site.wait(site.checkpoint)
    (job,) = site.jobs()
    _go_on(site, ["scontrol", "requeue", job], job, starts=2)
    _go_on(site, ["scancel", "--signal=USR2", job], job, starts=3)  # what announces a time limit or a preemption
    processes = _processes_of(job)
    assert processes
    for process in processes:
        os.kill(process, signal.SIGKILL)
    site.finish()
    assert site.states() in (["lost"], ["failed"])
    assert "0 done, 0 running or waiting, 1 to submit" in site.sweep("--retry", "failed")
    site.finish()
    whole.finish()
    (found,), (wanted,) = site.records(), whole.records()
    assert found.metrics == wanted.metrics
    assert found.curves == wanted.curves
    assert {key: value.tolist() for key, value in read_items(found).items()} == {
        key: value.tolist() for key, value in read_items(wanted).items()
    }


def test_two_processes_of_a_job_share_a_run(site: Site) -> None:
    site.suite({"overrides": ["trainer.max_steps=20"]})
    site.sweep("cluster.processes=2", "runtime.device=cpu")
    site.finish()
    assert [row["state"] for row in site.rows(more=["runtime.device=cpu"]).values()] == ["done"], site.logs()
    (record,) = site.records()
    assert record.provenance["processes"] == 2
    assert record.costs["world_model"]["processes"] == 2


def test_cancel_and_two_users_results_in_one_table(site: Site, tmp_path: Path) -> None:
    site.suite({"seeds": [0, 1], "overrides": LONG})
    site.sweep("cluster.parallel=1")
    assert "cancelled" in site.bench("cancel", "--suite", "s.yaml")
    site.finish()
    assert set(site.states()) <= {"cancelled", "not submitted"}

    other = _site(tmp_path, "two")
    for one, seed in ((site, 0), (other, 1)):
        one.suite({"seeds": [seed]})
        one.sweep()
    site.finish()
    other.finish()
    for path in (other.home / "results").rglob("*.*"):
        target = site.home / "results" / path.relative_to(other.home / "results")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    table = site.bench("table", "--results", str(site.home / "results"))
    assert sorted(record.seeds["model"] for record in site.records()) == [0, 1]
    assert "ocjepa" in table


def _squeue(what: str, *jobs: str) -> list[str]:
    """One column of `squeue` of those of some jobs that wait or run."""
    command = ["squeue", "--noheader", "--array", f"--format=%i|{what}"]
    text = subprocess.run(command, capture_output=True, text=True, check=True)
    pairs = [line.strip().split("|") for line in text.stdout.splitlines()]
    return [value for job, value in pairs if job in jobs]


@contextmanager
def _closed_partition() -> Iterator[None]:
    """Jobs are taken and wait: what is submitted can be looked at without a race."""
    command = ["scontrol", "update", "PartitionName=debug"]
    subprocess.run([*command, "State=DOWN"], check=True)
    try:
        yield
    finally:
        subprocess.run([*command, "State=UP"], check=True)


def _go_on(site: Site, command: list[str], job: str, *, starts: int) -> None:
    """Interrupt a job, and wait until it has been started again and has saved its state."""
    subprocess.run(command, check=True)
    site.wait(lambda: _squeue("%T", job) == ["PENDING"])
    pause = time.time()
    site.wait(lambda: site.checkpoint(after=pause))
    (row,) = site.rows().values()
    assert (row["state"], row["starts"]) == ("running", starts)


def _states(rows: dict[str, dict[str, Any]]) -> list[str]:
    return [row["state"] for row in rows.values()]


def _without_accounting(folder: Path) -> str:
    """A search path with SLURM's other commands, but no `sacct`."""
    place = folder / "bin"
    place.mkdir()
    for command in ("sbatch", "squeue", "scancel", "scontrol", "sinfo", "git", "env"):
        found = shutil.which(command)
        if found is not None:
            (place / command).symlink_to(found)
    return str(place)


def _processes_of(job: str) -> list[int]:
    """Process ids of a job's Python."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if (
                f"SLURM_JOB_ID={job}\0".encode() in path.read_bytes()
                and b"submitit" in (path.parent / "cmdline").read_bytes()
            ):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
