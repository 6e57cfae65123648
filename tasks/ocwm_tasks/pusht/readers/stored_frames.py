"""Frames as data sets store them: one video for each episode, or one array for all rows.

Shape letters: F rows of all episodes, T frames, H, W image height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocwm.artifacts import digest
from ocwm.errors import BenchError
from ocwm.video_files import read_first_frames

_KEPT = 4  # decoded episodes that are kept for the next question about them


class VideoFrames:
    """One video for each episode.

    Args:
        paths: the file of each episode id.
        lengths: frames that it must have at least.
    """

    def __init__(self, paths: Mapping[int, Path], lengths: Mapping[int, int]) -> None:
        self._paths, self._lengths = paths, lengths
        self._decoded = lru_cache(_KEPT)(self._decode)

    @cached_property
    def identity(self) -> str:
        """Hash of the files' sizes. Errors: BenchError for a file that is missing."""
        try:
            return digest([[episode, path.stat().st_size] for episode, path in self._paths.items()])
        except OSError as error:
            raise BenchError(f"can't read {error.filename}: {error.strerror}", "Copy or download it again.") from error

    def read(self, episode: int, start: int, stop: int) -> NDArray[np.uint8]:
        """Return frames (T, H, W, 3). Errors: BenchError for a video that is missing, damaged or too short."""
        frames: NDArray[np.uint8] = self._decoded(episode)[start:stop]
        return frames

    def _decode(self, episode: int) -> NDArray[np.uint8]:
        path, length = self._paths[episode], self._lengths[episode]
        frames = read_first_frames(path, count=length)
        if len(frames) < length:
            raise BenchError(
                f"{path} has {len(frames)} frames, its episode {length} rows", "Copy or download the video again."
            )
        return frames


class ArrayFrames:
    """One array for the rows of all episodes.

    Args:
        rows: reads frames (T, H, W, 3) start .. stop - 1 of all rows.
        firsts: first row of each episode id.
        identity: of the array.
    """

    def __init__(
        self, rows: Callable[[int, int], NDArray[np.uint8]], firsts: Mapping[int, int], *, identity: str
    ) -> None:
        self._rows, self._firsts, self.identity = rows, firsts, identity

    def read(self, episode: int, start: int, stop: int) -> NDArray[np.uint8]:
        """Return frames (T, H, W, 3). Errors: BenchError as the array's reader raises it."""
        first = self._firsts[episode]
        return self._rows(first + start, first + stop)
