"""Floors and ceilings that act."""

from __future__ import annotations

import numpy as np
import pytest
from tests.tasks.pusht.conftest import BLOCK, HISTORY, OFFSET

from ocwm.types import LatentSpec
from ocwm_tasks.pusht.control import View, control
from ocwm_tasks.pusht.normalisation import column_statistics
from ocwm_tasks.pusht.references import Random, Replay, Setting, SimulatorModel, ZeroAction
from ocwm_tasks.pusht.state import AGENT

SPEC = LatentSpec(2, 8)


@pytest.fixture(scope="module")
def setting(played):
    return Setting(seed=3, block=BLOCK, steps=BLOCK, actions=column_statistics(played.actions))


def run(problems, reference, setting, budget=20):
    return control(problems, reference(SPEC).controller(setting), budget=budget, block=BLOCK, history=HISTORY)


def test_replay_reaches_every_goal_then_rests(problems, setting):
    outcomes = run(problems, Replay, setting)
    assert (outcomes.joint_hit > 0).all()
    np.testing.assert_array_equal(outcomes.states[:, OFFSET], outcomes.goals)
    assert not outcomes.actions[:, OFFSET:].any()
    shared = run(problems, Replay, Setting(3, BLOCK, 3 * BLOCK, setting.actions))  # however often it is asked
    np.testing.assert_array_equal(shared.states, outcomes.states)


def test_without_action_the_agent_comes_to_rest(problems, setting):
    outcomes = run(problems, ZeroAction, setting)
    assert not outcomes.actions.any()
    last = outcomes.states[:, -5:, AGENT]
    np.testing.assert_allclose(last, np.repeat(last[:, :1], 5, axis=1), atol=0.1)


def test_random_actions_are_as_large_as_the_training_actions(problems, setting):
    actions = run(problems * 6, Random, setting).actions
    np.testing.assert_allclose(actions[:6].mean(axis=(0, 1)), setting.actions.mean, atol=0.1)
    np.testing.assert_allclose(actions[:6].std(axis=(0, 1)), setting.actions.std, rtol=0.2)


def test_random_actions_are_drawn_by_problem(problems, setting):
    together = run(problems, Random, setting)
    alone = run(problems[2:3], Random, setting)
    np.testing.assert_array_equal(alone.actions[0], together.actions[2])
    blocks = together.actions.reshape(len(problems) * 4, -1)
    assert len(np.unique(blocks, axis=0)) == len(blocks)  # every problem, every time it is asked
    other = run(problems, Random, Setting(4, BLOCK, BLOCK, setting.actions))
    assert (other.actions != together.actions).all()


def test_random_does_not_look(problems, setting):
    view = View(problems[0], problems[0].goal[None], np.zeros((0, BLOCK, 2)), replan=1, step=5)
    elsewhere = View(problems[0], problems[1].goal[None], np.zeros((0, BLOCK, 2)), replan=1, step=5)
    acts = [Random(SPEC).controller(setting).act([seen]) for seen in (view, elsewhere)]
    np.testing.assert_array_equal(*acts)


def test_what_they_may_read_is_said():
    privileges = [reference.privileged for reference in (Random, ZeroAction, Replay, SimulatorModel)]
    assert privileges == ["none", "none", "recorded_actions", "simulator"]
