"""Strips of what happened and of what was imagined, for people to look at.

Shape letters: P problems, B plans, K blocks of a plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ocwm.interfaces import WorldModel
from ocwm.types import LatentBatch
from ocwm_tasks.pusht.control import NEVER, Outcomes, Problem, View
from ocwm_tasks.pusht.observer import Observer
from ocwm_tasks.pusht.probe import Pose, PoseProbe
from ocwm_tasks.pusht.rendering import render_masks, render_state
from ocwm_tasks.pusht.state import AGENT, ANGLE, BLOCK, STATE_DIM, turn_between

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GALLERY_VERSION = 1  # goes up whenever pictures change

_SIZE = 192  # px of a frame
_DPI = 120
_MOST = 10  # frames of a strip beside start and goal; of longer ones evenly spread
# Inches.
_CELL, _GAP, _APART, _BETWEEN = 1.0, 0.04, 0.1, 0.14
_MARGIN, _LABEL, _TITLE, _HEAD = 0.1, 0.66, 0.3, 0.2
_SHADES = np.array([[255, 255, 255], [190, 225, 255], [200, 240, 200]], dtype=np.uint8)  # nothing, agent, block
_BACKGROUND = 250  # frames are white where nothing is drawn


def imagined_states(
    problem: Problem,
    states: NDArray[np.float64],
    actions: NDArray[np.float64],
    *,
    model: WorldModel,
    observer: Observer,
    probe: PoseProbe,
    slot_of: NDArray[np.int64],
    block: int,
    history: int,
    take: int,
) -> NDArray[np.float64]:
    """What the model imagined under the actions that were taken, from the moment of each plan to the next.

    Args:
        problem: that was run.
        states, actions: (S + 1, 7) and (S, 2) of it.
        model, observer, probe: of the run.
        slot_of: (1, 2) which slots hold agent and block.
        block, history, take: as in the run.

    Returns:
        (S / block, 7) poses after every action block; velocities are 0.
    """
    found = []
    for first in range(0, len(actions), take * block):
        frames = np.concatenate([problem.past_states, states[: first + 1 : block]])[-history:]
        taken = actions[:first].reshape(-1, block, actions.shape[1])
        past = np.concatenate([problem.past_actions, taken])
        past = past[len(past) - len(frames) + 1 :]
        chosen = actions[first : first + take * block].reshape(-1, block, actions.shape[1])
        seen, _ = observer.look([View(problem, frames, past, 0, first)])
        blocks = observer.normalised(chosen)
        assert seen.actions is not None
        with torch.no_grad():
            known = torch.cat([seen.actions, blocks[None]], dim=1)
            rolled = model.rollout(LatentBatch(seen.latents, actions=known, proprio=seen.proprio), steps=len(chosen))
        found.append(_as_states(probe.read(rolled.latents.cpu().numpy(), slot_of)))
    return np.concatenate(found)


def _as_states(pose: Pose) -> NDArray[np.float64]:
    states = np.zeros((*pose.angle.shape[1:], STATE_DIM))
    states[:, AGENT], states[:, BLOCK], states[:, ANGLE] = pose.agent[0], pose.block[0], pose.angle[0]
    return states


def choose(hits: NDArray[np.bool_], count: int) -> list[int]:
    """Numbers of `count` problems (fewer where there are not so many), half of them reached (P,) if there are enough."""
    reached, missed = np.flatnonzero(hits).tolist(), np.flatnonzero(~hits).tolist()
    wanted = max(-(-count // 2), count - len(missed))
    return sorted([*reached[:wanted], *missed[: count - len(reached[:wanted])]])


def draw_gallery(
    path: Path,
    outcomes: Outcomes,
    imagined: Sequence[NDArray[np.float64] | None],
    *,
    chosen: Sequence[int],
    block: int,
    title: str,
) -> None:
    """Draw a strip for each of some problems: real frames, the goal, and below them what was imagined.

    The goal's pose is shaded in every frame.

    Args:
        path: of the PNG.
        outcomes: of all problems.
        imagined: for every chosen problem the imagined states (S / block, 7), or None.
        chosen: numbers of the problems.
        block: actions between two frames.
        title: above the picture.

    Errors: OSError.
    """
    from matplotlib.figure import Figure

    blocks = outcomes.actions.shape[1] // block
    shown = np.unique(np.linspace(1, blocks, min(blocks, _MOST)).round().astype(int))
    rows = [1 if states is None else 2 for states in imagined]
    width = 2 * _MARGIN + _LABEL + (len(shown) + 2) * (_CELL + _GAP) + _APART
    height = 2 * _MARGIN + _TITLE + sum(_HEAD + count * (_CELL + _GAP) for count in rows) + _BETWEEN * (len(rows) - 1)
    sheet = _Sheet(Figure(figsize=(width, height), dpi=_DPI), width, height)
    sheet.write(_MARGIN, _MARGIN, title, size=9, weight="bold")
    top = _MARGIN + _TITLE
    left = _MARGIN + _LABEL
    for number, states, count in zip(chosen, imagined, rows, strict=True):
        goal = outcomes.goals[number]
        sheet.write(_MARGIN, top, _verdict(outcomes, number), size=8)
        top += _HEAD
        sheet.write(_MARGIN, top + _CELL / 2, "real", size=8, middle=True)
        places = [left + column * (_CELL + _GAP) for column in range(len(shown) + 1)]
        sheet.show(places[0], top, outcomes.states[number, 0], goal, "start")
        for place, step in zip(places[1:], shown, strict=True):
            sheet.show(place, top, outcomes.states[number, step * block], goal, f"{step * block}")
        sheet.show(places[-1] + _CELL + _GAP + _APART, top, goal, goal, "goal")
        if states is not None:
            below = top + _CELL + _GAP
            sheet.write(_MARGIN, below + _CELL / 2, "imagined", size=8, middle=True)
            for place, step in zip(places[1:], shown, strict=True):
                sheet.show(place, below, states[step - 1], goal, f"{step * block}")
        top += count * (_CELL + _GAP) + _BETWEEN
    sheet.figure.savefig(path)


def _verdict(outcomes: Outcomes, number: int) -> str:
    """One line on what came of a problem."""
    final, goal = outcomes.final[number], outcomes.goals[number]
    hit = int(outcomes.joint_hit[number])
    block_hit = int(outcomes.block_hit[number])
    said = f"reached after {hit} actions"
    if hit == NEVER:
        said = "not reached" + ("" if block_hit == NEVER else f", the block alone after {block_hit} actions")
    agent, block = (np.linalg.norm(final[part] - goal[part]) for part in (AGENT, BLOCK))
    turn = np.degrees(turn_between(final[ANGLE], goal[ANGLE]))
    return f"problem {number}: {said}; at the end agent {agent:.0f} px, block {block:.0f} px and {turn:.0f}° off"


@dataclass(frozen=True)
class _Sheet:
    """A figure on which things are placed in inches from the upper left corner."""

    figure: Figure
    width: float
    height: float

    def write(
        self, left: float, top: float, text: str, *, size: float, weight: str = "normal", middle: bool = False
    ) -> None:
        place = (left / self.width, 1 - top / self.height)
        self.figure.text(*place, text, fontsize=size, fontweight=weight, va="center" if middle else "top")

    def show(self, left: float, top: float, state: NDArray[np.float64], goal: NDArray[np.float64], label: str) -> None:
        place = (left / self.width, 1 - (top + _CELL) / self.height, _CELL / self.width, _CELL / self.height)
        axes = self.figure.add_axes(place, xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color="0.75", linewidth=0.6)
        axes.imshow(_over_goal(state, goal), interpolation="antialiased")
        axes.text(0.05, 0.95, label, fontsize=6.5, color="0.35", va="top", transform=axes.transAxes)


def _over_goal(state: NDArray[np.float64], goal: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The frame of a state over a shade of its goal."""
    frame = render_state(state, _SIZE, draw_anchor=False)
    masks = render_masks(goal, _SIZE)
    ghost = _SHADES[masks]
    empty = (frame > _BACKGROUND).all(axis=-1, keepdims=True)
    return np.asarray(np.where(empty & (masks > 0)[..., None], ghost, frame))
