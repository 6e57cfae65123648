"""The cache of stages: a folder for each result, named by the hash of everything that it depends on.

A result is built in a temporary folder beside its place and renamed when it is complete, under one lock for each key,
so that a half-written one is never read and two processes never build the same one.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ocwm.errors import BenchError
from ocwm.progress import say
from ocwm.whole_files import put_in_place

_MANIFEST = "stage.json"
_SYNC_ALL_FROM = 64  # so many files are flushed with one sync of the whole system instead of one by one
_FULL = (errno.ENOSPC, errno.EDQUOT)


def digest(value: Any, *, length: int = 64) -> str:
    """Return the sha256 (hexadecimal) of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


class Cache:
    """Stage results in `cache/<stage>/<hash>` of the home folder, and work folders likewise in `work`."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def path(self, name: str, key: Mapping[str, Any]) -> Path:
        """Return where the result of a stage lies or would lie."""
        return self.home / "cache" / name / digest(key, length=24)

    def has(self, name: str, key: Mapping[str, Any]) -> bool:
        """Say whether a stage is there, without a look at its files."""
        return self.path(name, key).is_dir()

    def work(self, name: str, key: Mapping[str, Any]) -> Path:
        """Return a folder for what must survive an interruption; it goes when the stage is complete."""
        folder = self._work_path(name, key)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def stage(
        self,
        name: str,
        key: Mapping[str, Any],
        build: Callable[[Path], None],
        *,
        rebuild: bool = False,
        verify: bool = False,
        notes: Mapping[str, Any] | None = None,
    ) -> Path:
        """Return the folder of a stage; build it first where it is not there.

        Args:
            name: of the stage.
            key: everything that the result depends on, as JSON values.
            build: writes the result into the empty folder that it is given.
            rebuild: build also where it is there.
            verify: compare contents, not only sizes.
            notes: kept with the entry; read after `build` has filled it in.

        Raises:
            BenchError: the entry is damaged, or the disk is full.
        """
        path = self.path(name, key)
        if path.is_dir() and not rebuild:
            self._check(path, verify=verify)
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent / f".{path.name}.lock", f"stage '{name}'"):
            if path.is_dir() and not rebuild:  # another process has built it while this one waited
                self._check(path, verify=verify)
                return path
            for stale in path.parent.glob(f".{path.name}-*"):  # of a process that was killed
                shutil.rmtree(stale, ignore_errors=True)
            temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
            try:
                build(temporary)
                _write_manifest(temporary, name=name, key=key, notes=notes or {})
                put_in_place(temporary, path)
            except OSError as error:
                if error.errno in _FULL:
                    raise BenchError(
                        f"the disk of {self.home} is full: stage '{name}' could not be written",
                        "Free some space or set OCWM_HOME to another disk, then start the same command again.",
                    ) from error
                raise
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(self._work_path(name, key), ignore_errors=True)
        return path

    def notes(self, path: Path) -> dict[str, Any]:
        """Return the notes that were kept with an entry."""
        notes: dict[str, Any] = self._manifest(path)["notes"]
        return notes

    def _work_path(self, name: str, key: Mapping[str, Any]) -> Path:
        return self.home / "work" / name / digest(key, length=24)

    def _manifest(self, path: Path) -> dict[str, Any]:
        try:
            manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _damaged(path, f"its {_MANIFEST} can't be read") from error
        if not isinstance(manifest, dict) or not {"files", "notes"} <= manifest.keys():
            raise _damaged(path, f"its {_MANIFEST} is incomplete")
        return manifest

    def _check(self, path: Path, *, verify: bool) -> None:
        for name, expected in self._manifest(path)["files"].items():
            file = path / name
            if not file.is_file():
                raise _damaged(path, f"{name} is missing")
            if (size := file.stat().st_size) != expected["size"]:
                raise _damaged(path, f"{name} has {size} bytes instead of {expected['size']}")
            if verify and sha256_of_file(file) != expected["sha256"]:
                raise _damaged(path, f"{name} has another content")


def _damaged(path: Path, what: str) -> BenchError:
    return BenchError(
        f"the cache entry {path} is damaged: {what}", "Run again with --rebuild to make it anew, or remove that folder."
    )


@contextmanager
def locked(path: Path, name: str) -> Iterator[None]:
    """Hold a lock file while the block runs; the system frees it when a process dies. `name` is for the user."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that makes {name} ({path})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_manifest(folder: Path, *, name: str, key: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256_of_file(path)}
        for path in files
    }
    manifest = folder / _MANIFEST
    manifest.write_text(
        json.dumps({"stage": name, "key": key, "notes": notes, "files": listed}, indent=1), encoding="utf-8"
    )
    if len(files) >= _SYNC_ALL_FROM:
        os.sync()
        return
    for path in (*files, manifest):
        with path.open("rb") as file:
            os.fsync(file.fileno())


def sha256_of_file(path: Path) -> str:
    """Return the sha256 (hexadecimal) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
