"""Episodes of one split: states, actions and, where there are some, stored frames; in memory or mapped from disk.

    episodes.json    format, number of rows, sha256 of the content, facts about the data
    states.npy       (F, 7) float64
    actions.npy      (F, 2) float32
    offsets.npy      (E + 1,) int64
    ids.npy          (E,) int64

Shape letters: E episodes, F rows of all episodes, T rows of one, H, W image height and width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ocwm.artifacts import digest
from ocwm.errors import BenchError
from ocwm_tasks.pusht.rendering import render_state
from ocwm_tasks.pusht.state import ACTION_DIM, STATE_DIM, proprio_of

_FORMAT = 1
_INDEX = "episodes.json"
_ARRAYS = {"states": "<f8", "actions": "<f4", "offsets": "<i8", "ids": "<i8"}


class FrameSource(Protocol):
    """Frames that a data set has stored."""

    @property
    def identity(self) -> str:
        """What identifies the frames wherever they lie (sizes or contents of files)."""

    def read(self, episode: int, start: int, stop: int) -> NDArray[np.uint8]:
        """Return frames (T, H, W, 3) RGB of the episode with this id.

        Raises:
            BenchError: they are missing or damaged.
        """


@dataclass(frozen=True)
class Episode:
    """One episode: states (T, 7) float64 and actions (T, 2) float32, its stable `id` and its number in the split."""

    number: int
    id: int
    states: NDArray[np.float64]
    actions: NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of rows T."""
        return len(self.states)


@dataclass(frozen=True)
class Episodes:
    """The episodes of one split, one after the other.

    Attributes:
        states: (F, 7) float64, see `state.py`; angles in [0, 2 pi).
        actions: (F, 2) float32 relative actions in units of 100 px; the action of row t leads to row t + 1. That of an
            episode's last row leads out of the episode: what the data set has there, else 0.
        offsets: (E + 1,) int64 first row of each episode, and F.
        ids: (E,) int64, stable numbers of the episodes, unique over the splits of a data set.
        source: stored frames; None where frames are rendered from the states.
        about: facts about the data, as JSON values.
    """

    states: NDArray[np.float64]
    actions: NDArray[np.float32]
    offsets: NDArray[np.int64]
    ids: NDArray[np.int64]
    source: FrameSource | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of episodes E."""
        return len(self.ids)

    @property
    def rows(self) -> int:
        """Number of rows F."""
        return int(self.offsets[-1])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Rows of each episode, (E,)."""
        return np.diff(self.offsets)

    @property
    def proprio(self) -> NDArray[np.float32]:
        """Agent position and velocity (F, 4)."""
        return proprio_of(self.states)

    @cached_property
    def manifest(self) -> str:
        """The sha256 of all arrays and of what identifies stored frames."""
        hashes = {name: hashlib.sha256(_plain(getattr(self, name), kind)).hexdigest() for name, kind in _ARRAYS.items()}
        return digest({**hashes, "frames": None if self.source is None else self.source.identity})

    def episode(self, number: int) -> Episode:
        """Return one episode, counted from 0 in this split."""
        rows = slice(int(self.offsets[number]), int(self.offsets[number + 1]))
        return Episode(number, int(self.ids[number]), self.states[rows], self.actions[rows])

    def contents(self, numbers: Sequence[int] | None = None) -> list[str]:
        """The sha256 of the states of some episodes, or of all: equal where an episode is in two splits."""
        chosen = range(len(self)) if numbers is None else numbers
        return [hashlib.sha256(_plain(self.episode(number).states, "<f8")).hexdigest() for number in chosen]

    def number_of(self, episode_id: int) -> int:
        """Return the number in this split of the episode with an id.

        Raises:
            BenchError: there is none.
        """
        found = np.flatnonzero(self.ids == episode_id)
        if not len(found):
            raise BenchError(f"there is no episode {episode_id} in this split", "Use the data that it was drawn from.")
        return int(found[0])

    def frames(self, number: int, start: int, stop: int, *, size: int | None = None) -> NDArray[np.uint8]:
        """Return frames (T, size, size, 3) RGB of rows start .. stop - 1 of an episode.

        Args:
            number: of the episode, from 0 in this split.
            start, stop: rows, from 0 in the episode.
            size: side in px; None for the stored size. Stored frames of another size are resized bilinearly.

        Raises:
            BenchError: stored frames are missing or damaged.
        """
        if self.source is None:
            assert size is not None, "rendered frames have no size of their own"
            rows = self.episode(number).states[start:stop]
            return np.stack([render_state(row, size) for row in rows])
        frames = self.source.read(int(self.ids[number]), start, stop)
        if size is None or frames.shape[1:3] == (size, size):
            return frames
        import cv2

        return np.stack([np.asarray(cv2.resize(frame, (size, size)), dtype=np.uint8) for frame in frames])

    def select(self, numbers: Any) -> Episodes:
        """Return some of the episodes (their numbers, in the order wanted), in memory."""
        chosen = np.asarray(numbers, dtype=np.int64)
        parts = [np.arange(self.offsets[number], self.offsets[number + 1]) for number in chosen]
        rows = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(self.lengths[chosen])]).astype(np.int64)
        return replace(
            self, states=self.states[rows], actions=self.actions[rows], offsets=offsets, ids=self.ids[chosen]
        )


def join_episodes(
    states: list[NDArray[np.float64]], actions: list[NDArray[np.float32]], ids: Any, *, about: Mapping[str, Any]
) -> Episodes:
    """Return episodes of single arrays (T, 7) and (T, 2)."""
    lengths = [len(part) for part in states]
    return Episodes(
        np.concatenate(states) if states else np.zeros((0, STATE_DIM)),
        np.concatenate(actions) if actions else np.zeros((0, ACTION_DIM), dtype=np.float32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.asarray(ids, dtype=np.int64),
        about=about,
    )


def write_episodes(folder: Path, episodes: Episodes) -> None:
    """Write episodes into a folder (made where it is missing); stored frames stay where they are.

    The index is written last. Errors: OSError (a full disk). To have a folder appear whole, write into a stage's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, kind in _ARRAYS.items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(getattr(episodes, name), dtype=kind))
    plain = replace(episodes, source=None)
    index = {
        "format": _FORMAT,
        "episodes": len(episodes),
        "rows": episodes.rows,
        "sha256": plain.manifest,
        "about": dict(episodes.about),
    }
    (folder / _INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")


def open_episodes(folder: Path, *, source: FrameSource | None = None, verify: bool = False) -> Episodes:
    """Map written episodes.

    Args:
        folder: that `write_episodes` filled.
        source: stored frames to go with them.
        verify: compare the content's sha256 too.

    Raises:
        BenchError: the folder is missing, damaged or of another format.
    """
    hint = "Make it again."
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        if index["format"] != _FORMAT:
            raise BenchError(f"the episodes in {folder} have format {index['format']}, expected {_FORMAT}", hint)
        states, actions, offsets, ids = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS)
        rows, count = index["rows"], index["episodes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f"the episodes in {folder} can't be read ({error})", hint) from error
    shapes = [array.shape for array in (states, actions, offsets, ids)]
    if shapes != [(rows, STATE_DIM), (rows, ACTION_DIM), (count + 1,), (count,)]:
        raise BenchError(f"the episodes in {folder} are damaged: shapes {shapes} for {count} episodes", hint)
    opened = Episodes(states, actions, np.array(offsets), np.array(ids), source=source, about=index["about"])
    if verify and replace(opened, source=None).manifest != index["sha256"]:
        raise BenchError(f"the episodes in {folder} are damaged: their content is another one", hint)
    return opened


def _plain(array: NDArray[Any], kind: str) -> Any:
    return np.ascontiguousarray(array, dtype=kind).data
