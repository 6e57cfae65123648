"""Sweeps on this machine, through the command, with processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ocwm.cli import main
from ocwm.store import read_records


def bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(arguments)
    said = capsys.readouterr()
    return code, said.out + said.err


def states(capsys: pytest.CaptureFixture[str], path: str, *more: str) -> dict[str, str]:
    _, said = bench(capsys, "status", "--suite", path, "--json", *more)
    return {row["name"]: row["state"] for row in json.loads(said)["runs"]}


def test_a_sweep_runs_what_is_not_done_and_one_failure_stops_nothing(suite, linear, demo, capsys):
    bug = {**linear, "seeds": [7], "overrides": ["task.fail=bug"]}
    path = suite({**linear, "seeds": [0, 1]}, bug)
    code, said = bench(capsys, "sweep", "--suite", path, "cluster.parallel=2")
    assert code == 1
    assert "0 done, 0 running or waiting, 3 to submit" in said
    assert "ZeroDivisionError: a bug in the task" in said
    assert len(read_records(demo / "results")) == 2
    found = states(capsys, path)
    assert sorted(found.values()) == ["done", "done", "failed"]

    # Again: only what failed is tried again, and the shared data is there.
    code, said = bench(capsys, "sweep", "--suite", path, "--retry", "failed")
    assert code == 1
    assert "2 done, 0 running or waiting, 1 to submit" in said
    assert "[1/1] failed" in said
    (failed,) = [
        path for path in (demo / "sweeps" / "demo" / "jobs").glob("*.json") if '"tries": 2' in path.read_text()
    ]
    assert "linear_demo" in failed.read_text()


def test_where_what_runs_share_fails_they_are_not_started(suite, linear, demo, capsys):
    path = suite({**linear, "seeds": [0, 1], "overrides": ["task.fail=data"]})
    code, said = bench(capsys, "sweep", "--suite", path)
    assert code == 1
    assert said.count("not started") >= 2
    assert "no data today. Come back." in said
    assert set(states(capsys, path).values()) == {"failed", "not submitted"}


def test_a_killed_job_is_lost_and_the_same_command_goes_on(suite, linear, demo, capsys):
    path = suite({**linear, "overrides": ["trainer.max_steps=2000000"]})
    sweep = subprocess.Popen([sys.executable, "-m", "ocwm.cli", "sweep", "--suite", path], stderr=subprocess.DEVNULL)
    try:
        said = demo / "sweeps" / "demo" / "said"
        _wait(lambda: any(said.glob("*.json")))
        assert set(states(capsys, path).values()) == {"running"}
        code, told = bench(capsys, "sweep", "--suite", path)  # a second command while the first runs: no double work
        assert code == 0
        assert "0 done, 1 running or waiting, 0 to submit" in told
        job = json.loads(next((demo / "sweeps" / "demo" / "jobs").glob("*.json")).read_text())["job"]
        for child in Path(f"/proc/{job}/task/{job}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        assert sweep.wait(timeout=60) == 1
    finally:
        sweep.kill()
    assert set(states(capsys, path).values()) == {"lost"}


def test_cancel_stops_what_runs(suite, linear, demo, capsys):
    path = suite({**linear, "overrides": ["trainer.max_steps=2000000"]})
    sweep = subprocess.Popen([sys.executable, "-m", "ocwm.cli", "sweep", "--suite", path], stderr=subprocess.DEVNULL)
    try:
        _wait(lambda: any((demo / "sweeps" / "demo" / "said").glob("*.json")))
        code, said = bench(capsys, "cancel", "--suite", path)
        assert (code, said) == (0, "1 job cancelled\n")
        sweep.wait(timeout=60)
    finally:
        sweep.kill()
    assert "running" not in states(capsys, path).values()


def test_a_dry_run_computes_nothing_and_says_everything(suite, linear, demo, capsys):
    path = suite({**linear, "seeds": [0, 1]}, {**linear, "encoders": ["pixels_demo"]})
    code, said = bench(capsys, "sweep", "--suite", path, "--dry-run")
    assert code == 0
    assert "3 runs: 0 done, 2 to do" in said
    assert "made once for 2 runs: data" in said
    assert "unknown for 2 of 2 runs" in said
    assert "it reads pixels and this task has none" in said
    assert not demo.exists()
    code, said = bench(capsys, "sweep", "--suite", path, "--dry-run", "--json")
    assert json.loads(said)["counts"] == {"done": 0, "todo": 2, "refused": 1, "missing": 0}


def test_runs_that_lack_something_stop_a_sweep_before_it_begins(suite, linear, demo, capsys):
    path = suite({**linear, "overrides": ["task.root=nowhere"]}, linear)
    code, said = bench(capsys, "sweep", "--suite", path)
    assert code == 2
    assert "1 of 2 runs lack something" in said
    assert not demo.exists()
    code, _ = bench(capsys, "sweep", "--suite", path, "--skip-missing")
    assert code == 0
    assert len(read_records(demo / "results")) == 1


def _wait(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
