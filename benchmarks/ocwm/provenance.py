"""Which code, on which machine, made a record."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ocwm.distributed import whole_team

_PACKAGES = ("torch", "numpy", "scipy", "hydra-core", "omegaconf", "av", "pymunk", "safetensors", "transformers")
_NOT_CODE = (":(exclude)results", ":(exclude)leaderboard.md")  # what a run itself adds to a checkout


def provenance(*, distributions: Iterable[str], threads: int, device: str, wall_start: float) -> dict[str, Any]:
    """Return commit, dirty flag, versions and machine; of several processes, this one's, and how many they are.

    Args:
        distributions: names of the distributions that took part, beside the libraries.
        threads: torch's number of threads.
        device: as torch names it.
        wall_start: when the run started, in seconds since 1970.
    """
    import numpy as np
    import torch

    commit, dirty = commit_of(Path(__file__).parent)
    return {
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "packages": _versions(sorted({*_PACKAGES, *distributions})),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "gpu": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "threads": threads,
        "device": device,
        "processes": whole_team().size,
        "machines": whole_team().machines,
        "wall_start": datetime.fromtimestamp(wall_start, UTC).isoformat(timespec="seconds"),
    }


def commit_of(folder: Path) -> tuple[str | None, bool | None]:
    """Return the commit of the checkout that a folder is tracked in, and whether it has changes; else (None, None)."""
    if not _git(folder, "ls-files", "--", "."):  # not a checkout, or an installed copy inside somebody's checkout
        return None, None
    commit = _git(folder, "rev-parse", "HEAD")
    top = _git(folder, "rev-parse", "--show-toplevel")
    if not commit or not top:
        return None, None
    status = _git(Path(top), "status", "--porcelain", "--", ".", *_NOT_CODE)
    return commit, status is None or status != ""


def cpu_name() -> str:
    """Return the model of the processor."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):  # no git here
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _versions(distributions: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
