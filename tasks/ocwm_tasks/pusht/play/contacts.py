"""Where the block can be pushed, and where a push would take it.

Shape letters: C candidate pushes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.pusht.state import BLOCK_CENTRE

AGENT_RADIUS = 15.0  # px
CLEAR = 97.0  # px from the block's centre of gravity, where the agent touches it at no angle
# Straight parts of the T's outline that an agent can reach along their normal, in the block's own coordinates (px): two ends
# and the outward normal. Corners are left out, and what lies too deep in the two niches.
_SIDES = (
    ((-56, 0), (56, 0), (0, -1)),  # top of the bar
    ((60, 4), (60, 26), (1, 0)),  # its ends
    ((-60, 4), (-60, 26), (-1, 0)),
    ((36, 30), (56, 30), (0, 1)),  # its underside beside the stem
    ((-56, 30), (-36, 30), (0, 1)),
    ((15, 54), (15, 116), (1, 0)),  # sides of the stem
    ((-15, 54), (-15, 116), (-1, 0)),
    ((-11, 120), (11, 120), (0, 1)),  # its end
)
_MOMENT = 3000.0  # px^2: moment of inertia over mass
_MOST_TURN = 1.3  # radians: beyond it the agent has slipped off

_FIRST, _LAST, _NORMAL = (np.array([side[part] for side in _SIDES], dtype=np.float64) for part in range(3))
_LENGTH = np.linalg.norm(_LAST - _FIRST, axis=1)


@dataclass(frozen=True)
class Pushes:
    """Candidate pushes of the block where it is now, all in px of the arena and radians.

    Attributes:
        contact: (C, 2) centre of the agent when it touches.
        direction: (C, 2) unit vectors into the block.
        entry: (C, 2) where the straight way to the contact begins, clear of the block.
        length: (C,) how far the agent goes on from the contact.
        shift, turn: (C, 2) and (C,) what the push is expected to do to the block's centre of gravity and its angle.
    """

    contact: NDArray[np.float64]
    direction: NDArray[np.float64]
    entry: NDArray[np.float64]
    length: NDArray[np.float64]
    shift: NDArray[np.float64]
    turn: NDArray[np.float64]


def draw_pushes(
    rng: np.random.Generator, *, count: int, centre: NDArray[np.float64], angle: float, low: float, high: float
) -> Pushes:
    """Draw pushes onto the outline, evenly over its length, with lengths low .. high px.

    The block has no friction, neither with the ground nor with the agent: a push acts along the normal n at a lever
    k = r x n, and moves the centre of gravity by L / (1 + k^2 / c^2) and the angle by L k / (c^2 + k^2), c^2 being the
    moment of inertia over the mass. It holds for short pushes; the simulation is what counts.
    """
    side = rng.choice(len(_SIDES), size=count, p=_LENGTH / _LENGTH.sum())
    along = rng.random((count, 1))
    length = rng.uniform(low, high, count)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    lever = (_FIRST[side] + along * (_LAST - _FIRST)[side] - np.array(BLOCK_CENTRE)) @ turned.T
    direction = -_NORMAL[side] @ turned.T
    moment = lever[:, 0] * direction[:, 1] - lever[:, 1] * direction[:, 0]
    turn = length * moment / (_MOMENT + moment**2)
    kept = np.minimum(1.0, _MOST_TURN / np.maximum(np.abs(turn), 1e-9))
    shift = direction * (kept * length / (1 + moment**2 / _MOMENT))[:, None]
    touch = lever - AGENT_RADIUS * direction
    # The entry lies on the line of the push where it leaves the clear circle: |touch - t direction| = CLEAR.
    ahead = (touch * direction).sum(axis=1)
    away = ahead + np.sqrt(np.maximum(CLEAR**2 - (touch**2).sum(axis=1) + ahead**2, 0.0))
    entry = touch - np.maximum(away, 0.0)[:, None] * direction
    return Pushes(centre + touch, direction, centre + entry, kept * length, shift, kept * turn)
