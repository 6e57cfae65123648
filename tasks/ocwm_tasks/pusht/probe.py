"""Reads the pose of agent and block back from their slots, by ridge regression on training episodes.

Shape letters: E episodes, F rows, T frames, N slots, D slot dimension.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.pusht.episodes import Episodes
from ocwm_tasks.pusht.state import AGENT, ANGLE, BLOCK, FULL_TURN, wrap

_RIDGE = 1e-6  # of the mean of the diagonal
_MOST_ROWS = 50_000
_CENTRE, _UNIT = 256.0, 128.0  # px


@dataclass(frozen=True)
class Pose:
    """What is read: positions in px (..., 2), the block's angle in radians (...)."""

    agent: NDArray[np.float64]
    block: NDArray[np.float64]
    angle: NDArray[np.float64]


@dataclass(frozen=True)
class PoseProbe:
    """Linear maps (D + 1, 2) from the agent's slot to its place, and (D + 1, 4) from the block's to place, sine, cosine."""

    agent: NDArray[np.float64]
    block: NDArray[np.float64]

    @classmethod
    def fit(cls, latents: NDArray[np.float32], episodes: Episodes, slot_of: NDArray[np.int64]) -> PoseProbe:
        """Fit on latents (F, N, D) of episodes whose slots (E, 2) are known."""
        slots = np.repeat(slot_of, episodes.lengths, axis=0)
        rows = np.flatnonzero((slots >= 0).all(axis=1))
        rows = rows[:: -(-len(rows) // _MOST_ROWS)]
        states = np.asarray(episodes.states[rows])
        agent = (states[:, AGENT] - _CENTRE) / _UNIT
        turned = np.stack([np.sin(states[:, ANGLE]), np.cos(states[:, ANGLE])], axis=1)
        block = np.concatenate([(states[:, BLOCK] - _CENTRE) / _UNIT, turned], axis=1)
        read = (np.asarray(latents[rows, slots[rows, column]], dtype=np.float64) for column in (0, 1))
        return cls(*(_ridge(features, wanted) for features, wanted in zip(read, (agent, block), strict=True)))

    def read(self, latents: NDArray[np.float32], slot_of: NDArray[np.int64]) -> Pose:
        """Read latents (B, T, N, D) whose slots (B, 2) of agent and block are known: poses (B, T, ...)."""
        batch = np.arange(len(latents))
        agent, block = (_apply(weights, latents[batch, :, slot_of[:, column]]) for column, weights in self._columns())
        return Pose(
            agent=agent * _UNIT + _CENTRE,
            block=block[..., :2] * _UNIT + _CENTRE,
            angle=np.asarray(wrap(np.arctan2(block[..., 2], block[..., 3]) % FULL_TURN)),
        )

    def _columns(self) -> tuple[tuple[int, NDArray[np.float64]], ...]:
        return (0, self.agent), (1, self.block)


def _ridge(features: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    full = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    gram = full.T @ full
    gram += _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.asarray(np.linalg.solve(gram, full.T @ wanted))


def _apply(weights: NDArray[np.float64], slots: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(slots.astype(np.float64) @ weights[:-1] + weights[-1])
