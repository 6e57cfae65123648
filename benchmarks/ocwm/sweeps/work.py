"""What a job does: run one cell exactly as `bench run` would, and say how it went.

A job holds strings only. Whatever ended an earlier try (time-out, preemption, requeue, kill -9), the next one reads the
last checkpoint from the work folder and goes on; finished stages are in the cache.
"""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import submitit

from ocwm.errors import BenchError
from ocwm.launch import hush_torch
from ocwm.sweeps.jobs import Said, SweepFolder


@dataclass(frozen=True)
class Work:
    """One job, as it is sent to a cluster.

    Attributes:
        run: as in `jobs.Job`.
        home: the work folder.
        suite: the name of the suite.
        method, task, preset, seed, overrides: of the run.
        results: folder for its record.
        shared: make the stages that it shares with others, and nothing else.
    """

    run: str
    home: str
    suite: str
    method: str
    task: str
    preset: str
    seed: int
    overrides: tuple[str, ...]
    results: str
    shared: bool = False

    def __call__(self) -> str:
        """Run the cell; return its id."""
        environment = submitit.JobEnvironment()
        folder = SweepFolder(Path(self.home), self.suite)
        speaks = environment.global_rank == 0
        before = folder.said(self.run)
        starts = before.starts + 1 if before is not None and before.job == environment.job_id else 1
        said = Said(
            job=environment.job_id,
            host=socket.gethostname(),
            started=time.time(),
            starts=starts,
            log=str(environment.paths.stderr),
        )
        if speaks:
            folder.say(self.run, said)
        error = ""
        try:
            with _left_to_the_scheduler(signal.SIGTERM):
                return self._run()
        except BenchError as mendable:
            error = str(mendable)
            raise
        except Exception as failure:  # whatever it is: its last line goes into the report, and the rest into the log
            error = f"{type(failure).__name__}: {' '.join(str(failure).split())}"
            raise
        finally:
            # A requeue leaves by SystemExit and is no end; nor is a Ctrl-C.
            if speaks and (error or sys.exception() is None):
                folder.say(self.run, replace(said, ended=time.time(), error=error))

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Be started again: training is saved to disk as it goes, so there is nothing to hand over."""
        return submitit.helpers.DelayedSubmission(self)

    def _run(self) -> str:
        hush_torch()
        from ocwm import run as engine
        from ocwm.config import compose
        from ocwm.distributed import processes

        places = [f"runtime.home={_quoted(self.home)}", f"runtime.results={_quoted(self.results)}"]
        config = compose(
            method=self.method,
            task=self.task,
            preset=self.preset,
            seed=self.seed,
            overrides=[*self.overrides, *places],
        )
        with processes(config.runtime.device, timeout_min=config.runtime.timeout) as team:
            with team.together():
                cell = engine.prepare(config)
            if self.shared:
                engine.make_shared(cell)
                return self.run
            return engine.run(cell).record.id


@contextmanager
def _left_to_the_scheduler(number: signal.Signals) -> Iterator[None]:
    """Ignore SIGTERM, which comes before SIGKILL: a run that stopped by itself would count as ended.

    Training saves its state every `trainer.checkpoint_seconds`, and that is what the next try goes on from.
    """
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
