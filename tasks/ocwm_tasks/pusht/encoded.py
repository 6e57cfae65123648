"""Episodes through an encoder: states by the batch, frames as videos that are padded to one length.

Shape letters: E episodes, F rows of all episodes, T frames, N slots, D slot dimension, H, W image height and width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ocwm.artifacts import digest
from ocwm.interfaces import Encoder
from ocwm.videos import ObjectTruth, Videos
from ocwm_tasks.pusht.episodes import Episodes
from ocwm_tasks.pusht.observe import OBJECTS, observe_states
from ocwm_tasks.pusht.rendering import render_masks
from ocwm_tasks.pusht.state import AGENT, block_centre


def encode_episodes(
    encoder: Encoder, episodes: Episodes, *, advance: Callable[[int], object] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Encode the states of all episodes.

    Returns:
        Latents (F, N, D), and which slots hold agent and block (E, 2), -1 where the encoder does not know.
    """
    latents = np.empty((episodes.rows, encoder.num_slots, encoder.slot_dim), dtype=np.float32)
    slot_of = np.full((len(episodes), len(OBJECTS)), -1, dtype=np.int64)
    for number in range(len(episodes)):
        episode = episodes.episode(number)
        low, high = episodes.offsets[number : number + 2]
        seen = observe_states(np.asarray(episode.states)[None], np.array([episode.id]))
        with torch.no_grad():
            latents[low:high] = encoder.encode(seen)[0].latents[0].numpy()
        if (slots := encoder.slot_of(seen.ids)) is not None:
            slot_of[number] = slots[0, : len(OBJECTS)].numpy()
        if advance is not None:
            advance(1)
    return latents, slot_of


class WholeEpisodes(Videos):
    """Whole episodes as videos; shorter ones go on with their last frame.

    Args:
        episodes: of one split.
        size: side of the frames in px.
    """

    def __init__(self, episodes: Episodes, *, size: int) -> None:
        self.ids = episodes.ids
        self.length = self.observed = int(episodes.lengths.max())
        self.size = (size, size)
        self.manifest = digest({"episodes": episodes.manifest, "size": size})
        self._episodes = episodes

    def frames(self, video: int, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Frames (T, H, W, 3), stored or rendered."""
        low, high = self._span(video, start, stop)
        return self._padded(self._episodes.frames(video, low, high, size=self.size[0]), start, stop)

    def masks(self, video: int, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Instance masks (T, H, W): 1 the agent, 2 the block."""
        low, high = self._span(video, start, stop)
        states = self._episodes.episode(video).states[low:high]
        return self._padded(np.stack([render_masks(state, self.size[0]) for state in states]), start, stop)

    def objects(self, video: int) -> ObjectTruth:
        """Agent and block: the agent's centre and the block's centre of gravity, always to be seen."""
        states = self._padded(np.asarray(self._episodes.episode(video).states), 0, None)
        positions = np.stack([states[:, AGENT], block_centre(states)], axis=1).astype(np.float32)
        return ObjectTruth(
            positions, np.ones(positions.shape[:2], dtype=np.bool_), labels={"kind": np.arange(2, dtype=np.int64)}
        )

    def _span(self, video: int, start: int, stop: int | None) -> tuple[int, int]:
        """The rows that there are, at least the last one."""
        rows = int(self._episodes.lengths[video])
        low = min(start, rows - 1)
        return low, max(low + 1, min(rows, self.length if stop is None else stop))

    def _padded(self, values: NDArray[Any], start: int, stop: int | None) -> NDArray[Any]:
        wanted = min(self.length, self.length if stop is None else stop) - start
        lacking = wanted - len(values)
        return values if lacking <= 0 else np.concatenate([values, np.repeat(values[-1:], lacking, axis=0)])


def rows_of(padded_ETND: NDArray[np.float32], episodes: Episodes) -> NDArray[np.float32]:
    """Return the latents (F, N, D) of the episodes' own rows."""
    parts = [padded_ETND[number, :rows] for number, rows in enumerate(episodes.lengths.tolist())]
    return np.ascontiguousarray(np.concatenate(parts), dtype=np.float32)
