"""What encoders read of Push-T: states as features of two objects, or frames.

Shape letters: B batch, T time, n objects (agent, block), F features.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ocwm.types import Observations
from ocwm_tasks.pusht.state import AGENT, ANGLE, ARENA, BLOCK, FULL_TURN, STATE_DIM

OBJECTS = ("agent", "block")
GROUPS = (("position", 2), ("heading", 2), ("kind", 2))
POSITION_UNIT = 128.0  # px: positions are between -2 and 2


def features(states: NDArray[np.float64]) -> NDArray[np.float32]:
    """Features (..., 2, F) of states (..., 7), for the agent and the block.

    Position from the arena's middle, heading (sine and cosine of the block's angle, zeros for the round agent) and which of
    the two it is. There is no velocity: the agent's is part of the proprioception, the block's is zero after every step.
    """
    found = np.zeros((*states.shape[:-1], len(OBJECTS), sum(width for _, width in GROUPS)), dtype=np.float32)
    found[..., 0, :2] = (states[..., AGENT] - ARENA / 2) / POSITION_UNIT
    found[..., 1, :2] = (states[..., BLOCK] - ARENA / 2) / POSITION_UNIT
    found[..., 1, 2] = np.sin(states[..., ANGLE])
    found[..., 1, 3] = np.cos(states[..., ANGLE])
    found[..., 0, 4] = found[..., 1, 5] = 1
    return found


def observe_states(states_BT7: NDArray[np.float64], ids_B: NDArray[np.int64]) -> Observations:
    """What a `state` encoder reads; `ids_B` says which episode each row is of."""
    return Observations(
        ids=torch.from_numpy(np.asarray(ids_B, dtype=np.int64)),
        state=torch.from_numpy(features(states_BT7)),
        visible=torch.ones(*states_BT7.shape[:2], len(OBJECTS), dtype=torch.bool),
        groups=GROUPS,
    )


def observe_frames(frames_BTHW3: NDArray[np.uint8], ids_B: NDArray[np.int64]) -> Observations:
    """What an encoder of pixels reads."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames_BTHW3.transpose(0, 1, 4, 2, 3)))
    return Observations(ids=torch.from_numpy(np.asarray(ids_B, dtype=np.int64)), pixels=pixels)


def drawn_states(videos: int, frames: int) -> Observations:
    """Agent and block on straight lines, the block turning: what encoders are checked on."""
    rng = np.random.default_rng(0)
    states = np.zeros((videos, frames, STATE_DIM))
    start, pace = rng.uniform(150, 350, (videos, 1, 4)), rng.uniform(-3, 3, (videos, 1, 4))
    time = np.arange(frames)[:, None]
    states[..., :4] = start + pace * time
    states[..., ANGLE] = (rng.uniform(0, FULL_TURN, (videos, 1)) + 0.05 * np.arange(frames)) % FULL_TURN
    return observe_states(states, np.arange(videos))
