"""When a plan has succeeded: the published joint rule, and a rule on the block alone. All on arrays of states (..., 7)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.pusht.state import ANGLE, BLOCK, FULL_TURN, POSITIONS

POSITION_TOLERANCE = 20.0  # px
ANGLE_TOLERANCE = np.pi / 9  # 20 degrees


def joint_success(states: Any, goals: Any) -> NDArray[np.bool_]:
    """The published rule: agent and block in place, and the block turned right.

    Args:
        states: (..., 7).
        goals: (..., 7), of the same shape or one that broadcasts with it.

    Returns:
        (...): whether the norm of the four differences of positions (agent x, y, block x, y) is below 20 px and the
        angles differ by less than 20 degrees.
    """
    return _near(states, goals, POSITIONS)


def block_success(states: Any, goals: Any) -> NDArray[np.bool_]:
    """Whether the block is in place and turned right, wherever the agent is; arguments as for `joint_success`."""
    return _near(states, goals, BLOCK)


def state_distance(states: Any, goals: Any) -> NDArray[np.float64]:
    """The published figure beside success: the norm (...) over all 7 entries, which mixes px, radians and px/s."""
    distance: NDArray[np.float64] = np.linalg.norm(np.subtract(goals, states, dtype=np.float64), axis=-1)
    return distance


def _near(states: Any, goals: Any, positions: slice) -> NDArray[np.bool_]:
    gap = np.abs(np.subtract(goals, states, dtype=np.float64))
    # As published, without a modulo: angles that are more than a full turn apart always pass. States of the simulator are
    # in [0, 2 pi), where it makes no difference.
    turn = np.minimum(gap[..., ANGLE], FULL_TURN - gap[..., ANGLE])
    near = np.linalg.norm(gap[..., positions], axis=-1) < POSITION_TOLERANCE
    return np.asarray(near & (turn < ANGLE_TOLERANCE))
