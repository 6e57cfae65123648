"""Typed schemas of the configuration groups that belong to the engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Seeds:
    """The five seed axes of a run. `--seed` sets model and reasoner."""

    data: int = 0
    encoder: int = 0
    model: int = 0
    reasoner: int = 0
    eval: int = 0


@dataclass(frozen=True)
class Runtime:
    """What can't change the numbers, apart from the machine itself; never part of a run's identity.

    Attributes:
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".
        threads: of torch on a CPU; 0 means every core that the process may use.
        workers: processes that make data; 0 means every core that the process may use.
        home: work folder (caches, checkpoints, logs); null means OCWM_HOME or the user's cache folder.
        timeout: minutes that one of several processes waits for the others in a common step before it gives up.
        results: folder for records; null means ./results in a checkout, else the work folder's.
    """

    device: str = "auto"
    threads: int = 0
    workers: int = 0
    timeout: float = 30.0
    home: str | None = None
    results: str | None = None
