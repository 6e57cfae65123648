"""What every Push-T data set offers: its splits as episodes, and what identifies it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ocwm.artifacts import digest, sha256_of_file
from ocwm.errors import BenchError, suggest
from ocwm_tasks.pusht.episodes import Episodes

SPLITS = ("train", "dev", "test")
VAL_IDS = 1_000_000  # episode i of a validation set has the id i plus this
_DEV, _TEST = 10, 10  # percent of the episodes


class PushtData(ABC):
    """A data set in a folder.

    Attributes:
        kind: of the layout.
        root: the folder (or file).
        notes: what a user should know about the data, one line each.
    """

    kind: ClassVar[str]
    notes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, root: Path) -> None:
        self.root = root
        self._origin = lru_cache(None)(self.read)

    @property
    @abstractmethod
    def origins(self) -> tuple[str, ...]:
        """The splits as they lie on disk."""

    @abstractmethod
    def read(self, origin: str) -> Episodes:
        """Read a whole split as it lies on disk.

        Raises:
            BenchError: a file is missing, damaged or of another layout.
        """

    @property
    @abstractmethod
    def files(self) -> tuple[Path, ...]:
        """All files that belong to the data set, sorted."""

    @property
    @abstractmethod
    def contents(self) -> tuple[Path, ...]:
        """Those of the files that hold states and actions: their contents are part of the identity."""

    @cached_property
    def identity(self) -> dict[str, str]:
        """What identifies the data in a run: {"kind", "name", "manifest"}; where the folder lies has no part in it.

        Raises:
            BenchError: a file can't be read.
        """
        base = self.root if self.root.is_dir() else self.root.parent
        try:
            sizes = [[path.relative_to(base).as_posix(), path.stat().st_size] for path in self.files]
            hashes = [[path.relative_to(base).as_posix(), sha256_of_file(path)] for path in self.contents]
        except OSError as error:
            raise BenchError(f"can't read {error.filename}: {error.strerror}", "Check the file.") from error
        return {"kind": self.kind, "name": "pusht", "manifest": digest({"sizes": sizes, "contents": hashes})}

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that there are of train, dev and test."""
        return SPLITS

    def origin(self, name: str) -> Episodes:
        """Return a whole split as it lies on disk (read once). Errors: BenchError."""
        if name not in self.origins:
            raise BenchError(f"{self.root} has no split '{name}'", suggest(name, self.origins))
        return self._origin(name)

    def episodes(self, split: str) -> Episodes:
        """Return train, dev or test.

        Data with a validation set gives it as test, and a tenth of its training set as dev. Data without splits is cut
        80/10/10. Which part an episode goes to depends on its id alone.

        Raises:
            BenchError: a file can't be read, or no episode is left.
        """
        origin, chosen = self.cut(split)
        whole = self.origin(origin)
        if not len(chosen):
            raise BenchError(f"{self.root}: no episode is left for {split} (of {len(whole)})", "Add more episodes.")
        return whole if len(chosen) == len(whole) else whole.select(chosen)

    def cut(self, split: str) -> tuple[str, NDArray[np.int64]]:
        """Say where a split comes from: the split on disk, and the numbers of its episodes in that. Errors: BenchError."""
        if split not in self.splits:
            raise BenchError(f"{self.root} has no split '{split}'", suggest(split, self.splits))
        if "val" in self.origins:
            if split == "test":
                return "val", np.arange(len(self.origin("val")))
            low, high = (0, _DEV) if split == "dev" else (_DEV, 100)
        else:
            low, high = {"dev": (0, _DEV), "test": (_DEV, _DEV + _TEST), "train": (_DEV + _TEST, 100)}[split]
        percents = np.array([percent(int(episode)) for episode in self.origin("train").ids])
        return "train", np.flatnonzero((low <= percents) & (percents < high))

    def manifest(self) -> dict[str, Any]:
        """Return counts, sizes, hashes and notes, as JSON values; reads all states and actions, no frames.

        Raises:
            BenchError: a file can't be read.
        """
        described = {}
        for name in self.origins:
            episodes = self.origin(name)
            described[name] = {
                "episodes": len(episodes),
                "rows": episodes.rows,
                "shortest": int(episodes.lengths.min()),
                "longest": int(episodes.lengths.max()),
                "frames": "rendered" if episodes.source is None else "stored",
                "sha256": episodes.manifest,
            }
        cuts = {split: self.cut(split) for split in self.splits}
        return {
            "root": str(self.root),
            **self.identity,
            "files": len(self.files),
            "bytes": sum(path.stat().st_size for path in self.files),
            "notes": list(self.notes),
            "origins": described,
            "splits": {split: {"of": origin, "episodes": len(chosen)} for split, (origin, chosen) in cuts.items()},
        }


def percent(episode: int) -> int:
    """A number 0..99 that depends on the episode's id only."""
    return int.from_bytes(hashlib.sha256(f"pusht-{episode}".encode()).digest()[:4], "big") % 100
