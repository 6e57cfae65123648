"""The closed loop: what controllers see, when they are asked, and what counts as success."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.tasks.pusht.conftest import BLOCK, HISTORY, OFFSET

from ocwm_tasks.pusht.control import NEVER, Controller, control
from ocwm_tasks.pusht.simulator import Simulator, replay


class Scripted(Controller):
    """Takes the same actions (n, 2) whenever it is asked, and keeps what it was shown."""

    def __init__(self, actions):
        self.actions = np.asarray(actions, dtype=np.float64)
        self.views = []

    def act(self, views):
        self.views.append(list(views))
        return np.repeat(self.actions[None], len(views), axis=0)


class Recorded(Controller):
    """Takes the recorded actions, a block at a time; then none."""

    def act(self, views):
        chosen = np.zeros((len(views), BLOCK, 2))
        for row, view in enumerate(views):
            left = view.problem.recorded[view.step : view.step + BLOCK]
            chosen[row, : len(left)] = left
        return chosen


def run(problems, controller, **settings):
    return control(problems, controller, **{"budget": 20, "block": BLOCK, "history": HISTORY, **settings})


@pytest.fixture(scope="module")
def replayed(problems):
    return run(problems, Recorded())


def test_recorded_actions_lead_to_the_goal_bit_for_bit(problems, replayed):
    np.testing.assert_array_equal(replayed.states[:, OFFSET], replayed.goals)
    assert ((replayed.joint_hit > 0) & (replayed.joint_hit <= OFFSET)).all()
    assert (replayed.block_hit <= replayed.joint_hit).all()
    np.testing.assert_array_equal(replayed.actions[:, :OFFSET], [problem.recorded for problem in problems])
    assert not replayed.actions[:, OFFSET:].any()


def test_outcomes_are_the_states_of_a_simulator(problems):
    actions = np.random.default_rng(0).normal(0, 0.3, (BLOCK, 2))
    outcomes = run(problems, Scripted(actions))
    for number, problem in enumerate(problems):
        whole = replay(Simulator(), problem.reset, np.concatenate([problem.lead, *[actions] * 4]))
        np.testing.assert_array_equal(outcomes.states[number], whole[len(problem.lead) :])


def test_a_published_reset_lets_time_pass(problems):
    fast = replace(problems[0], lead=problems[0].lead[:0], reset=np.array([100.0, 100, 300, 300, 1.0, 200, -100]))
    assert run([fast], Scripted(np.zeros((5, 2)))).states[0, 0].tolist() == fast.reset.tolist()
    moved = run([fast], Scripted(np.zeros((5, 2))), published_reset=True).states[0, 0]
    np.testing.assert_allclose(moved[:2], [102.0, 99.0])


def test_views_hold_the_last_frames_one_block_apart(problems):
    controller = Scripted(np.full((2 * BLOCK, 2), 0.1))
    outcomes = run(problems, controller, budget=30)
    assert [len(views) for views in controller.views] == [len(problems)] * 3
    for replan, views in enumerate(controller.views):
        for row, view in enumerate(views):
            problem, states = problems[row], outcomes.states[row]
            assert (view.replan, view.step) == (replan, 2 * BLOCK * replan)
            assert len(view.states) <= HISTORY
            assert view.actions.shape == (len(view.states) - 1, BLOCK, 2)
            np.testing.assert_array_equal(view.states[-1], states[view.step])
            if replan:
                np.testing.assert_array_equal(view.states[-3:], states[view.step - 2 * BLOCK : view.step + 1 : BLOCK])
                assert (view.actions[-2:] == 0.1).all()
            else:
                np.testing.assert_array_equal(view.states[:-1], problem.past_states)
                np.testing.assert_array_equal(view.actions, problem.past_actions)


def test_the_first_frames_reach_back_into_the_episode(problems, played):
    depths = {len(problem.past_states) for problem in problems}
    assert depths > {HISTORY - 1}, "some start late enough for the whole history, some do not"
    for problem in problems:
        start, states = len(problem.lead), played.episode(played.number_of(problem.episode)).states
        known = len(problem.past_states)
        assert known == min(HISTORY - 1, start // BLOCK)
        np.testing.assert_array_equal(problem.past_states, states[start - known * BLOCK : start : BLOCK])


def test_actions_beyond_the_budget_are_not_taken(problems):
    outcomes = run(problems[:2], Scripted(np.full((15, 2), 0.1)), budget=20)
    assert outcomes.actions.shape == (2, 20, 2)
    assert (outcomes.actions == 0.1).all()


def goal_after(problem, actions, steps):
    """The problem with the state that some actions lead to as its goal."""
    states = replay(Simulator(), problem.reset, np.concatenate([problem.lead, *[actions] * 4]))
    return replace(problem, goal=states[len(problem.lead) + steps])


@pytest.fixture(scope="module")
def passing(problems):
    """A problem whose goal is passed by after 8 actions, on a way that goes on."""
    far = replace(problems[0], lead=problems[0].lead[:0], reset=np.array([60.0, 60, 400, 400, 1.0, 0, 0]))
    return goal_after(far, np.tile([0.6, 0.0], (BLOCK, 1)), 8)


def test_the_first_hit_counts_even_where_the_goal_is_left_again(passing):
    outcomes = run([passing], Scripted(np.tile([0.6, 0.0], (BLOCK, 1))))
    assert outcomes.joint_hit.tolist() == [8]
    assert np.linalg.norm(outcomes.final[0, :2] - passing.goal[:2]) > 100


def test_what_holds_before_the_first_action_is_no_success(passing):
    solved = goal_after(passing, np.zeros((BLOCK, 2)), 0)
    away = run([solved], Scripted(np.tile([1.0, 1.0], (BLOCK, 1))))
    assert away.joint_hit.tolist() == [NEVER]
    assert away.block_hit.tolist() == [1]  # the block still stands where it is to be


def test_the_published_protocol_looks_between_plans_and_stops_there(passing):
    push = Scripted(np.tile([0.6, 0.0], (BLOCK, 1)))
    assert run([passing], push, until_success=True).joint_hit.tolist() == [NEVER]
    reached = goal_after(passing, push.actions, 2 * BLOCK)
    push.views.clear()
    outcomes = run([reached, passing], push, until_success=True)
    assert outcomes.joint_hit.tolist() == [2 * BLOCK, NEVER]
    assert [len(views) for views in push.views] == [2, 2, 1, 1]
    np.testing.assert_array_equal(outcomes.states[0, 2 * BLOCK :], np.repeat(reached.goal[None], 11, axis=0))
    assert not outcomes.actions[0, 2 * BLOCK :].any()


def test_problems_side_by_side_do_not_touch(problems, replayed):
    for number, problem in enumerate(problems):
        np.testing.assert_array_equal(run([problem], Recorded()).states[0], replayed.states[number])
