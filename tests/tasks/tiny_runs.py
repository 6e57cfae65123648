"""Runs at preset `tiny`."""

from __future__ import annotations

from pathlib import Path

from ocwm.config import compose
from ocwm.run import Cell, prepare


def tiny(home: Path, method: str, task: str, *overrides: str) -> Cell:
    """Prepare a run on one core of this machine in the work folder `home`."""
    fixed = (f"runtime.home={home}", "runtime.threads=1", "runtime.workers=1", "runtime.device=cpu")
    return prepare(compose(method=method, task=task, preset="tiny", overrides=[*fixed, *overrides]))
