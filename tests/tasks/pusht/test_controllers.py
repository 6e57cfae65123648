"""Controllers that plan: from observations alone, each problem for itself, and to the goal."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from tests.tasks.pusht.conftest import BLOCK, HISTORY

from ocwm.planning import Objective, Planner, PlannerConfig
from ocwm_tasks.pusht.control import View, control
from ocwm_tasks.pusht.controllers import SimulatorController
from ocwm_tasks.pusht.observer import Observer
from ocwm_tasks.pusht.state import AGENT

METHODS = ("cjepa", "oc_dino_wm")  # one that takes slots in any order, one that does not


def run(problems, controller, budget=15):
    return control(problems, controller, budget=budget, block=BLOCK, history=HISTORY)


class Still:
    def act(self, views):
        return np.zeros((len(views), BLOCK, 2))


def first_views(problems):
    starts = run(problems, Still(), budget=BLOCK).states[:, :1]
    return [
        View(problem, np.concatenate([problem.past_states, start]), problem.past_actions, replan=0, step=0)
        for problem, start in zip(problems, starts, strict=True)
    ]


@pytest.mark.parametrize("method", METHODS)
def test_outcomes_do_not_depend_on_what_is_planned_beside(problems, model_controller, method):
    together = run(problems, model_controller(method))
    backwards = run(problems[::-1], model_controller(method))
    np.testing.assert_array_equal(backwards.states[::-1], together.states)
    for number in (0, 3):
        alone = run(problems[number : number + 1], model_controller(method))
        np.testing.assert_array_equal(alone.states[0], together.states[number])
        np.testing.assert_array_equal(alone.actions[0], together.actions[number])


@dataclass(frozen=True)
class Spying(Observer):
    seen: list = field(default_factory=list)

    def _observe(self, states, ids):
        self.seen.append(states)
        return super()._observe(states, ids)


def test_a_planner_gets_observations_only(problems, model_controller):
    views = first_views(problems)
    controller = model_controller("cjepa")
    expected = controller.act(views)

    hidden = [
        replace(
            view,
            problem=replace(
                view.problem,
                reset=np.full(7, np.nan),
                lead=np.full((3, 2), np.nan),
                recorded=np.full((10, 2), np.nan),
                past_states=np.full((2, 7), np.nan),
                past_actions=np.full((2, BLOCK, 2), np.nan),
            ),
        )
        for view in views
    ]
    again = model_controller("cjepa")
    spy = Spying(**{name: getattr(again.observer, name) for name in again.observer.__dataclass_fields__})
    again.observer = spy
    np.testing.assert_array_equal(again.act(hidden), expected)
    shown = np.concatenate([np.concatenate([view.states for view in views]), [view.problem.goal for view in views]])
    for states in np.concatenate([part.reshape(-1, 7) for part in spy.seen]):
        assert (shown == states).all(axis=1).any()


class Kept(Planner):
    """Keeps what it started from and what it found."""

    def plan(self, cost, *, keys, start=None):
        found = super().plan(cost, keys=keys, start=start)
        self.__dict__.setdefault("kept", []).append((start, found))
        return found


def kept_planner(**settings):
    config = PlannerConfig(**{"samples": 6, "iterations": 1, "elites": 2, "horizon": 2, **settings})
    return Kept(config, action_dim=2 * BLOCK, block=BLOCK)


def test_goal_history_and_seed_matter(problems, model_controller):
    view = max(first_views(problems), key=lambda view: len(view.states))
    assert len(view.states) == HISTORY

    def cost(view, seed=0):
        controller = model_controller("cjepa")
        controller.planner, controller.seed = kept_planner(), seed
        controller.act([view])
        return controller.planner.kept[0][1].costs.item()

    others = {
        "goal": replace(view, problem=replace(view.problem, goal=view.problem.goal + np.eye(7)[2])),
        "replan": replace(view, replan=1),
        "problem": replace(view, problem=replace(view.problem, number=77)),
        "history": replace(view, states=np.concatenate([view.states[[1]], view.states[1:]])),
        "past actions": replace(view, actions=view.actions + 0.3),
    }
    as_it_is = cost(view)
    assert cost(view) == as_it_is
    assert {what: cost(other) != as_it_is for what, other in others.items()} == dict.fromkeys(others, True)
    assert cost(view, seed=1) != as_it_is


@pytest.mark.parametrize(("take", "horizon"), [(1, 3), (2, 2)])
def test_what_is_left_of_a_plan_starts_the_next(problems, model_controller, take, horizon):
    controller = model_controller("cjepa", take=take)
    controller.planner = kept_planner(horizon=horizon)
    run([problem for problem in problems if len(problem.past_states) == HISTORY - 1], controller, budget=20)
    (first, plan), (second, _) = controller.planner.kept[:2]
    assert first is None
    if take == horizon:
        assert second is None
    else:
        torch.testing.assert_close(second, plan.actions[:, take:])


def test_the_times_of_a_plan_are_kept_by_part(problems, model_controller):
    controller = model_controller("cjepa")
    controller.act(first_views(problems[:2]))
    assert {"encode", "predict", "match", "search"} <= set(controller.times.seconds)
    assert all(seconds > 0 for seconds in controller.times.seconds.values())


@pytest.fixture(scope="module")
def simulator_controller(observer):
    def build():
        config = PlannerConfig(samples=24, iterations=3, elites=4, horizon=2)
        planner = Planner(config, action_dim=2 * BLOCK, block=BLOCK)
        return SimulatorController(observer, planner, Objective(), seed=0, take=1)

    return build


def test_planning_in_the_simulator_goes_to_the_goal(problems, simulator_controller):
    """The agent stands far from the block and only has to go 60 px."""
    start = np.array([100.0, 100.0, 400.0, 400.0, 1.0, 0.0, 0.0])
    goal = start + 60 * np.eye(7)[0]
    fresh = next(problem for problem in problems if not len(problem.past_states))
    way = replace(fresh, reset=start, lead=fresh.lead[:0], goal=goal)
    outcomes = run([way], simulator_controller(), budget=20)
    assert outcomes.joint_hit[0] > 0
    assert np.linalg.norm(outcomes.final[0, AGENT] - goal[AGENT]) < 25


def test_planning_in_the_simulator_is_alone_with_its_problem(problems, simulator_controller):
    together = run(problems[:2], simulator_controller(), budget=10)
    alone = run(problems[1:2], simulator_controller(), budget=10)
    np.testing.assert_array_equal(alone.states[0], together.states[1])
