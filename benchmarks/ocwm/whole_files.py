"""Files and folders that appear complete or not at all, also when the process is killed or the power fails."""

from __future__ import annotations

import glob
import os
import shutil
from pathlib import Path

_PARTIAL = ".{name}.{process}.tmp"


def write_whole(path: Path, *parts: bytes | memoryview) -> None:
    """Write the parts, one after the other, to `path`; an older file stays until they are on the disk.

    Errors: OSError; then `path` is as it was.
    """
    temporary = path.with_name(_PARTIAL.format(name=path.name, process=os.getpid()))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def remove_partial(path: Path) -> None:
    """Remove what processes that were killed while they wrote `path` left beside it; nobody may be writing now."""
    for partial in path.parent.glob(_PARTIAL.format(name=glob.escape(path.name), process="*")):
        partial.unlink()


def put_in_place(finished: Path, path: Path) -> None:
    """Rename a finished folder to `path` beside it, replacing a folder that is there. Errors: OSError."""
    finished.chmod(0o755)  # temporary folders are private
    if path.exists():
        old = finished.with_name(f"{finished.name}-old")
        path.rename(old)
        finished.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    else:
        finished.rename(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
