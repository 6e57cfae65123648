"""Push-T episodes as videos of equal length, for the training and the judging of pixel encoders.

Shape letters: V videos, T frames, H, W image height and width.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ocwm.artifacts import digest
from ocwm.errors import BenchError
from ocwm.videos import ObjectTruth, Videos
from ocwm_tasks.pusht.episodes import Episodes
from ocwm_tasks.pusht.rendering import render_masks
from ocwm_tasks.pusht.state import AGENT, block_centre

KEPT = 4  # videos whose frames are kept for the next question about them
_ROWS = 1_000_000  # ids are the episode's id times this plus the first row


class EpisodeVideos(Videos):
    """Pieces of episodes, none of which share a frame.

    The objects are the agent and the block, at their centres in px of the arena; the masks show them as far as they can be
    seen, and leave the green T to the background.

    Args:
        episodes: of one split.
        length: frames of a video.
        size: side of the frames in px.
        per_episode: most pieces of an episode, spread evenly over it; None for all that fit.

    Raises:
        BenchError: no episode is that long.
    """

    def __init__(self, episodes: Episodes, *, length: int, size: int, per_episode: int | None = None) -> None:
        if length < 1 or size < 1 or (per_episode is not None and per_episode < 1):
            raise BenchError(f"videos of {length} frames of {size} px can't be cut", "Both must be at least 1.")
        pieces = [_starts(int(rows), length, per_episode) for rows in episodes.lengths]
        self._numbers = np.repeat(np.arange(len(episodes)), [len(starts) for starts in pieces])
        self._starts = np.concatenate([np.zeros(0, dtype=np.int64), *pieces])
        if not len(self._starts):
            longest = int(episodes.lengths.max(initial=0))
            raise BenchError(f"no episode has {length} rows, the longest has {longest}", "Cut shorter videos.")
        self.ids = episodes.ids[self._numbers] * _ROWS + self._starts
        self.length = self.observed = length
        self.size = (size, size)
        settings = {"episodes": episodes.manifest, "length": length, "size": size, "per_episode": per_episode}
        self.manifest = digest(settings)
        self._episodes = episodes
        self._frames = lru_cache(KEPT)(self._read)
        self._masks = lru_cache(KEPT)(self._draw_masks)

    def frames(self, video: int, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Frames (T, H, W, 3), stored or rendered."""
        frames: NDArray[np.uint8] = self._frames(video)[start:stop]
        return frames

    def masks(self, video: int, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Instance masks (T, H, W): 1 the agent, 2 the block."""
        masks: NDArray[np.uint8] = self._masks(video)[start:stop]
        return masks

    def objects(self, video: int) -> ObjectTruth:
        """Agent and block: the agent's centre and the block's centre of gravity, always to be seen."""
        states = self._states(video)
        positions = np.stack([states[:, AGENT], block_centre(states)], axis=1).astype(np.float32)
        visible = np.ones(positions.shape[:2], dtype=np.bool_)
        return ObjectTruth(positions, visible, labels={"kind": np.arange(2, dtype=np.int64)})

    def _states(self, video: int) -> NDArray[np.float64]:
        start = int(self._starts[video])
        return self._episodes.episode(int(self._numbers[video])).states[start : start + self.length]

    def _read(self, video: int) -> NDArray[np.uint8]:
        start = int(self._starts[video])
        return self._episodes.frames(int(self._numbers[video]), start, start + self.length, size=self.size[0])

    def _draw_masks(self, video: int) -> NDArray[np.uint8]:
        return np.stack([render_masks(state, self.size[0]) for state in self._states(video)])


def _starts(rows: int, length: int, most: int | None) -> NDArray[np.int64]:
    """First rows of the pieces of an episode, spread evenly."""
    count = rows // length if most is None else min(rows // length, most)
    if count < 1:
        return np.zeros(0, dtype=np.int64)
    return np.arange(count) * (rows - length) // max(count - 1, 1)
