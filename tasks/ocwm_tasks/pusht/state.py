"""The 7 numbers that describe a Push-T scene, and what its units are.

A state is float64 [agent x, agent y, block x, block y, block angle, agent vx, agent vy]: pixels of the 512 x 512 arena, radians
in [0, 2 pi), pixels a second. The block's velocity is no part of it: it is zero after every step (no damping carries it
on), but contacts that the solver remembers are not in the state either (see docs/pusht_data.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

STATE_DIM, ACTION_DIM, PROPRIO_DIM = 7, 2, 4
AGENT = slice(0, 2)  # x, y
BLOCK = slice(2, 4)  # x, y
POSITIONS = slice(0, 4)  # agent x, y, block x, y
ANGLE = 4
VELOCITY = slice(5, 7)  # of the agent
PROPRIO = (0, 1, 5, 6)  # agent x, y, vx, vy

ARENA = 512.0  # px, side of the square
ACTION_SCALE = 100.0  # px: an action of 1 asks for a target 100 px away
FULL_TURN = 2 * np.pi
BLOCK_CENTRE = (
    0.0,
    45.0,
)  # px, centre of gravity in the block's own coordinates; its position is the middle of its top


def wrap(angles: Any) -> Any:
    """Return angles (any shape, or a number) in [0, 2 pi)."""
    wrapped = np.mod(angles, FULL_TURN)
    return np.where(wrapped == FULL_TURN, 0.0, wrapped)[()]  # the remainder of a tiny negative number rounds up


def proprio_of(states: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return agent position and velocity (..., 4) float32 of states (..., 7)."""
    return states[..., PROPRIO].astype(np.float32)


def turn_between(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the smaller angle between angles of any equal shapes, in [0, pi]."""
    gap = np.abs(wrap(first) - wrap(second))
    return np.asarray(np.minimum(gap, FULL_TURN - gap))


def block_centre(states: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the block's centre of gravity (..., 2) in px for states (..., 7); turns do not move it."""
    x, y = BLOCK_CENTRE
    sin, cos = np.sin(states[..., ANGLE]), np.cos(states[..., ANGLE])
    return np.asarray(states[..., BLOCK] + np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1))
