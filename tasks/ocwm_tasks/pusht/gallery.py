"""Strips of what happened and of what was imagined, for people to look at.

Shape letters: P problems, B plans, K blocks of a plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ocwm.interfaces import WorldModel
from ocwm.types import LatentBatch
from ocwm_tasks.pusht.control import NEVER, Outcomes, Problem, View
from ocwm_tasks.pusht.observer import Observer
from ocwm_tasks.pusht.probe import Pose, PoseProbe
from ocwm_tasks.pusht.rendering import render_state
from ocwm_tasks.pusht.state import AGENT, ANGLE, BLOCK, STATE_DIM

_SIZE = 160  # px of a frame


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


def draw_gallery(
    path: Path,
    outcomes: Outcomes,
    imagined: Sequence[NDArray[np.float64] | None],
    *,
    chosen: Sequence[int],
    block: int,
    title: str,
) -> None:
    """Draw some problems, two rows each: real frames after every block, with the goal at the end; and imagined ones.

    Args:
        path: of the PNG.
        outcomes: of all problems.
        imagined: for every chosen problem the imagined states (S / block, 7), or None.
        chosen: numbers of the problems.
        block: actions between two frames.
        title: above the picture.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    columns = outcomes.actions.shape[1] // block + 2
    figure, axes = plt.subplots(
        2 * len(chosen), columns, figsize=(1.1 * columns, 2.5 * len(chosen) + 0.5), squeeze=False, dpi=120
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for place, number in enumerate(chosen):
        real, dreamt = axes[2 * place], axes[2 * place + 1]
        hit = int(outcomes.joint_hit[number])
        said = "not reached" if hit == NEVER else f"reached after {hit} actions"
        real[0].set_title(f"problem {number}: {said}", fontsize=8, loc="left")
        for column, state in enumerate(outcomes.states[number, ::block]):
            _show(real[column], state, f"{column * block}" if column else "")
        _show(real[-1], outcomes.goals[number], "goal")
        states = imagined[place]
        for column, state in enumerate(() if states is None else states):
            _show(dreamt[column + 1], state, "imagined" if column == 0 else "")
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    figure.savefig(path)
    plt.close(figure)


def _show(axis: object, state: NDArray[np.float64], title: str) -> None:
    axis.imshow(render_state(state, _SIZE, draw_anchor=False))  # type: ignore[attr-defined]
    if title:
        axis.set_title(title, fontsize=7)  # type: ignore[attr-defined]
