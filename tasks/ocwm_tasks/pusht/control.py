"""The closed loop: start every problem, let a controller act in the simulator, measure what came of it.

The loop knows the simulator's states and the success rules; what a controller makes of them is its own business, and
learned models get observations only (see `controllers.py`).

Shape letters: P problems, S steps of the budget, h observed frames, k actions of a block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.pusht.simulator import Simulator
from ocwm_tasks.pusht.state import ACTION_DIM, STATE_DIM
from ocwm_tasks.pusht.success import block_success, joint_success

NEVER = -1


@dataclass(frozen=True)
class Problem:
    """A start and a goal.

    Attributes:
        number: of the problem in its set; random numbers are drawn by it.
        episode: stable id of the episode that it comes from.
        reset: (7,) the state that the simulator is set to.
        lead: (n, 2) actions from there to the start; none where the start itself is set.
        goal: (7,).
        recorded: (o, 2) the actions that led from the start to the goal in the episode.
        past_states, past_actions: (h - 1, 7) and (h - 1, k, 2) what was observed before the start, one action block apart.
    """

    number: int
    episode: int
    reset: NDArray[np.float64]
    lead: NDArray[np.float64]
    goal: NDArray[np.float64]
    recorded: NDArray[np.float64]
    past_states: NDArray[np.float64]
    past_actions: NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """Where one problem stands when a controller is asked.

    Attributes:
        problem: which one.
        states: (h, 7) the last h frames, one action block apart, the newest last.
        actions: (h - 1, k, 2) what was done between them.
        replan: how often the controller was asked before.
        step: how many actions were taken since the start.
    """

    problem: Problem
    states: NDArray[np.float64]
    actions: NDArray[np.float64]
    replan: int
    step: int


class Controller(ABC):
    """Chooses actions."""

    @abstractmethod
    def act(self, views: Sequence[View]) -> NDArray[np.float64]:
        """Return the actions (P, n, 2) to take until it is asked again; n is a multiple of the block."""


@dataclass(frozen=True)
class Outcomes:
    """What came of P problems.

    Attributes:
        states: (P, S + 1, 7) from the start on; a problem that was stopped keeps its last state.
        actions: (P, S, 2) that were taken.
        goals: (P, 7).
        joint_hit, block_hit: (P,) the first step after which the rule held, NEVER where it did not.
        seconds: spent in the simulator.
    """

    states: NDArray[np.float64]
    actions: NDArray[np.float64]
    goals: NDArray[np.float64]
    joint_hit: NDArray[np.int64]
    block_hit: NDArray[np.int64]
    seconds: float

    @property
    def final(self) -> NDArray[np.float64]:
        """The last states (P, 7)."""
        return self.states[:, -1]


def control(
    problems: Sequence[Problem],
    controller: Controller,
    *,
    budget: int,
    block: int,
    history: int,
    published_reset: bool = False,
    until_success: bool = False,
    advance: Callable[[int], object] | None = None,
) -> Outcomes:
    """Run problems side by side.

    Args:
        problems: to run.
        controller: is asked for all running problems together, whenever its actions are used up.
        budget: number S of actions.
        block: actions k between two frames that are observed.
        history: largest number h of frames that the controller sees.
        published_reset: see `Simulator`.
        until_success: stop a problem where the joint rule holds when the controller would be asked again, and look at
            successes at these moments only (DINO-WM's protocol: it lets the planner know of success); else all problems
            use up their budget, and nobody tells the controller anything.
        advance: told of every problem's step.
    """
    spent = 0.0
    count = len(problems)
    simulators = [Simulator(published_reset=published_reset) for _ in problems]
    states = np.zeros((count, budget + 1, STATE_DIM))
    actions = np.zeros((count, budget, ACTION_DIM))
    started = perf_counter()
    for row, (problem, simulator) in enumerate(zip(problems, simulators, strict=True)):
        states[row, 0] = simulator.reset(problem.reset)
        for action in problem.lead:
            states[row, 0] = simulator.step(action)
    spent += perf_counter() - started
    running, step, replan = list(range(count)), 0, 0
    asked = [0]
    while running and step < budget:
        views = [_view(problems[row], states[row], actions[row], step, replan, block, history) for row in running]
        chosen = controller.act(views)[:, : budget - step]
        started = perf_counter()
        for row, sequence in zip(running, chosen, strict=True):
            for offset, action in enumerate(sequence):
                actions[row, step + offset] = action
                states[row, step + offset + 1] = simulators[row].step(action)
        spent += perf_counter() - started
        step += chosen.shape[1]
        replan += 1
        asked.append(step)
        if advance is not None:
            advance(len(running) * chosen.shape[1])
        if until_success:
            for row in [r for r in running if joint_success(states[r, step], problems[r].goal)]:
                states[row, step + 1 :] = states[row, step]
                running.remove(row)
    goals = np.stack([problem.goal for problem in problems])
    # A success that was there before the first action would not be the controller's.
    counted = np.zeros(budget + 1, dtype=np.bool_)
    counted[asked[1:] if until_success else slice(1, None)] = True
    joint, of_block = (_first(rule(states, goals[:, None]) & counted) for rule in (joint_success, block_success))
    return Outcomes(states, actions, goals, joint, of_block, spent)


def _view(
    problem: Problem,
    states: NDArray[np.float64],
    actions: NDArray[np.float64],
    step: int,
    replan: int,
    block: int,
    history: int,
) -> View:
    """The last frames of a problem, one block apart, as far as they reach back."""
    passed = step // block
    frames = np.concatenate([problem.past_states, states[step % block : step + 1 : block]])[-history:]
    taken = actions[step % block : step].reshape(passed, block, ACTION_DIM)
    blocks = np.concatenate([problem.past_actions, taken])[len(problem.past_actions) + passed - len(frames) + 1 :]
    return View(problem, frames, blocks, replan, step)


def _first(reached_PS: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The first step at which something holds (P,)."""
    return np.where(reached_PS.any(axis=1), reached_PS.argmax(axis=1), NEVER).astype(np.int64)
