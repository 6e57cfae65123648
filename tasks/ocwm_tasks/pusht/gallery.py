"""Strips of what happened and of what was imagined, for people to look at.

Shape letters: P problems, B plans, K blocks of a plan.
"""

from __future__ import annotations

import functools
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
from ocwm_tasks.pusht.rendering import CANVAS, render_masks, render_state
from ocwm_tasks.pusht.state import AGENT, ANGLE, ARENA, BLOCK, STATE_DIM, block_centre, turn_between
from ocwm_tasks.pusht.success import block_success

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GALLERY_VERSION = 1  # goes up whenever pictures change

_DPI = 120
_MOST = 10  # frames of a strip beside start and goal; of longer ones evenly spread
# Inches.
_CELL, _GAP, _APART, _BETWEEN = 1.0, 0.04, 0.1, 0.14
_MARGIN, _LABEL, _TITLE, _HEAD, _COUNT = 0.1, 0.66, 0.48, 0.18, 0.14
_SHADES = np.array([[255, 255, 255], [190, 225, 255], [200, 240, 200]], dtype=np.uint8)  # nothing, agent, block
_AGENT_REACH, _BLOCK_REACH = 25.0, 90.0  # px: a little more than from the centre to what is furthest from it
_LEGEND = "numbers: actions taken; shaded: the goal"
_IMAGINED = "; imagined: from the frames that the last plan was made from, under the actions taken"
_FRAME = 178  # grey
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

    The goal's pose is shaded in every frame. A strip shows the part of the arena in which everything in it takes place.

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
    strips = [_HEAD + _COUNT + count * (_CELL + _GAP) for count in rows]
    width = 2 * _MARGIN + _LABEL + (len(shown) + 2) * (_CELL + _GAP) + _APART
    height = 2 * _MARGIN + _TITLE + sum(strips) + _BETWEEN * (len(rows) - 1)
    sheet = _Sheet(Figure(figsize=(width, height), dpi=_DPI), width, height)
    sheet.write(_MARGIN, _MARGIN, title, size=9, weight="bold")
    sheet.write(_MARGIN, _MARGIN + _HEAD, _LEGEND + _IMAGINED * (2 in rows), size=7.5)
    top = _MARGIN + _TITLE
    left = _MARGIN + _LABEL
    for number, states, count in zip(chosen, imagined, rows, strict=True):
        goal = outcomes.goals[number]
        real = outcomes.states[number]
        window = _window(np.concatenate([real, goal[None], real[:0] if states is None else states]))
        shade = _SHADES[render_masks(goal, CANVAS)]
        show = functools.partial(sheet.show, shade=shade, window=window)
        sheet.write(_MARGIN, top, _verdict(outcomes, number), size=8, weight="bold")
        places = [left + column * (_CELL + _GAP) for column in range(len(shown) + 2)]
        places[-1] += _APART
        for place, label in zip(places, ("start", *(f"{step * block}" for step in shown), "goal"), strict=True):
            sheet.write(place, top + _HEAD, label, size=7, color="0.35")
        top += _HEAD + _COUNT
        sheet.write(_MARGIN, top + _CELL / 2, "real", size=8, middle=True)
        for place, state in zip(places, (*real[[0, *shown * block]], goal), strict=True):
            show(place, top, state)
        if states is not None:
            below = top + _CELL + _GAP
            sheet.write(_MARGIN, below + _CELL / 2, "imagined", size=8, middle=True)
            for place, state in zip(places[1:-1], states[shown - 1], strict=True):
                show(place, below, state)
        top += count * (_CELL + _GAP) + _BETWEEN
    sheet.figure.savefig(path)


def _verdict(outcomes: Outcomes, number: int) -> str:
    """One line on what came of a problem."""
    final, goal = outcomes.final[number], outcomes.goals[number]
    hit, block_hit = int(outcomes.joint_hit[number]), int(outcomes.block_hit[number])
    if hit != NEVER:
        said = f"reached after {_actions(hit)}"
    elif block_hit == NEVER or block_success(outcomes.states[number, 0], goal):
        said = "not reached"
    else:
        said = f"not reached, the block alone after {_actions(block_hit)}"
    agent, block = (np.linalg.norm(final[part] - goal[part]) for part in (AGENT, BLOCK))
    turn = np.degrees(turn_between(final[ANGLE], goal[ANGLE]))
    return f"problem {number}: {said}; at the end agent {agent:.0f} px, block {block:.0f} px and {turn:.0f}° off"


def _actions(count: int) -> str:
    return f"{count} action{'s' * (count != 1)}"


@dataclass(frozen=True)
class _Sheet:
    """A figure on which things are placed in inches from the upper left corner."""

    figure: Figure
    width: float
    height: float

    def write(
        self,
        left: float,
        top: float,
        text: str,
        *,
        size: float,
        weight: str = "normal",
        color: str = "black",
        middle: bool = False,
    ) -> None:
        place = (left / self.width, 1 - top / self.height)
        self.figure.text(*place, text, fontsize=size, fontweight=weight, color=color, va="center" if middle else "top")

    def show(
        self,
        left: float,
        top: float,
        state: NDArray[np.float64],
        *,
        shade: NDArray[np.uint8],
        window: tuple[slice, slice],
    ) -> None:
        """Show a window of the frame of a state over a shade of the goal (CANVAS, CANVAS, 3)."""
        import cv2

        frame = render_state(state, CANVAS, draw_anchor=False)
        empty = (frame > _BACKGROUND).all(axis=-1, keepdims=True)
        pixels = round(_CELL * _DPI)
        framed = cv2.resize(np.where(empty, shade, frame)[window], (pixels, pixels), interpolation=cv2.INTER_AREA)
        framed[[0, -1]] = framed[:, [0, -1]] = _FRAME
        self.figure.figimage(framed, round(left * _DPI), round((self.height - top - _CELL) * _DPI), origin="upper")


def _window(states: NDArray[np.float64]) -> tuple[slice, slice]:
    """The rows and columns of the smallest square of the arena that agent and block stay in, in states (T, 7)."""
    corners = [
        centre + sign * reach
        for centre, reach in ((states[:, AGENT], _AGENT_REACH), (block_centre(states), _BLOCK_REACH))
        for sign in (-1, 1)
    ]
    low, high = np.min(corners, axis=(0, 1)), np.max(corners, axis=(0, 1))
    side = min(float((high - low).max()), ARENA)
    first = np.clip((low + high - side) / 2, 0, ARENA - side).astype(int)
    x, y = (slice(corner, corner + int(side)) for corner in first.tolist())
    return y, x
