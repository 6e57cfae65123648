"""Where things lie: the work folder and the folder for records."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from ocwm.errors import BenchError


def work_folder(configured: str | None = None) -> Path:
    """Return the folder for caches, checkpoints and logs: configured, else OCWM_HOME, else the user's cache folder."""
    if name := configured or os.environ.get("OCWM_HOME"):
        return Path(name).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ocwm-bench"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ocwm-bench"


def results_folder(configured: str | None, *, home: Path, publish: bool) -> Path:
    """Return the folder for records: as configured, else ./results in a checkout, else the work folder's.

    Args:
        configured: what the user asked for, or None.
        home: the work folder.
        publish: False for presets whose records never go to a checkout's results.

    Raises:
        BenchError: the user asked for the checkout's results under such a preset.
    """
    here = Path.cwd()
    own = here / "results" if is_checkout(here) else None
    if configured:
        folder = Path(configured).expanduser().absolute()
        if not publish and folder == own:
            raise BenchError(f"records of this preset never go to {folder}", "Choose another --results, or none.")
        return folder
    return own if own is not None and publish else home / "results"


def is_checkout(folder: Path) -> bool:
    """Say whether a folder is a checkout of this project, or a folder that holds a leaderboard and its results."""
    if (folder / "leaderboard.md").is_file() and (folder / "results").is_dir():
        return True
    project = folder / "pyproject.toml"
    if not project.is_file():
        return False
    return re.search(r'^name\s*=\s*"ocwm-bench"', project.read_text(encoding="utf-8"), re.MULTILINE) is not None
