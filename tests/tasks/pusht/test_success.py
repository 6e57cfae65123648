"""Success: the two rules at their thresholds, on arrays of any shape."""

from __future__ import annotations

import numpy as np

from ocwm_tasks.pusht.success import block_success, joint_success, state_distance

GOAL = np.array([100.0, 100.0, 300.0, 300.0, 0.1, 0.0, 0.0])


def moved(**by):
    places = {"agent": 0, "block": 2, "angle": 4, "velocity": 5}
    state = GOAL.copy()
    for name, value in by.items():
        state[places[name]] += value
    return state


def test_the_joint_rule_takes_one_norm_of_agent_and_block():
    states = np.stack(
        [moved(agent=14.0, block=14.0), moved(agent=14.2, block=14.2), moved(agent=19.9), moved(block=20.0)]
    )
    assert joint_success(states, GOAL).tolist() == [True, False, True, False]


def test_the_block_rule_ignores_the_agent():
    states = np.stack([moved(agent=200.0), moved(agent=200.0, block=20.0), moved(agent=200.0, angle=0.4)])
    assert block_success(states, GOAL).tolist() == [True, False, False]


def test_angles_are_compared_over_the_seam_and_velocities_not_at_all():
    states = np.stack([moved(angle=2 * np.pi - 0.2), moved(angle=0.36), moved(velocity=500.0)])
    assert joint_success(states, GOAL).tolist() == [True, False, True]


def test_shapes_broadcast():
    states = np.broadcast_to(GOAL, (3, 5, 7))
    assert joint_success(states, GOAL).shape == (3, 5)
    assert state_distance(states, moved(velocity=30.0)).tolist() == np.full((3, 5), 30.0).tolist()
