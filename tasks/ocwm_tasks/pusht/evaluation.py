"""Measures a world model's planning, or a floor or ceiling of it.

Shape letters: P problems.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ocwm.context import Evaluation, RunContext
from ocwm.interfaces import WorldModel
from ocwm.leakage import KEY as LEAKAGE
from ocwm.leakage import LAST_STEP, NO_TRAINING, audit, encoder_origin
from ocwm_tasks.pusht.control import NEVER, Outcomes
from ocwm_tasks.pusht.measures import Figures
from ocwm_tasks.pusht.problems import problems_of
from ocwm_tasks.pusht.rollouts import check_stride, rollout_errors
from ocwm_tasks.pusht.runner import Runner, sizes
from ocwm_tasks.pusht.stages import Stages

if TYPE_CHECKING:
    from ocwm_tasks.pusht.task import PushtTask

REFERENCES = ("random", "zero_action", "replay", "simulator")
_IMAGINED = 12  # problems whose imagination is kept
_ROLLED = 500  # clips of the measured split that rollout errors are averaged over


def evaluate(task: PushtTask, context: RunContext) -> Evaluation:
    """Train where there is something to train, run all problems, and measure."""
    stages = Stages(task, context)
    model = context.model if isinstance(context.model, WorldModel) else None
    if model is not None:
        check_stride(model, block=task.action_block)
    source = stages.splits[task.source_split]
    problems = problems_of(stages.pairs, source, block=task.action_block, history=task.history)
    figures = Figures(np.random.default_rng([context.seeds.eval, 1]), task.draws)
    curves: dict[str, list[dict[str, float]]] = {}
    notes: dict[str, Any] = {
        "references": [name for name in REFERENCES if name != "simulator" or not task.reads_frames],
        "pairs": {
            "drawn_from": task.source_split,
            "offset": stages.pairs.offset,
            "block_must_move": float(stages.pairs.moved.mean()),
            "sha256": stages.pairs.sha256,
        },
        LEAKAGE: _audit(stages),
        "planning": {**asdict(task.planning), "take": task.take, "history": task.history, "budget": task.budget},
    }
    if model is not None:
        curves["world_model"] = stages.train(model, lambda trained: _dev_errors(stages, trained))
        _add_rollouts(figures, stages, model)
    run = Runner(task, context, stages, problems)
    with context.measure("planning"):
        outcomes, times = run.all()
    items = np.arange(len(problems))
    episodes = np.array([problem.episode for problem in problems])
    figures.add_outcomes(outcomes, items=items, episodes=episodes)
    _keep_evidence(figures, run, outcomes)
    notes["seconds"] = times
    floor = None
    if model is not None:
        notes["latency"] = run.latency()
        notes["budget_curve"] = run.budget_curve()
        floor = run.floor()
        context.costs.note("planning", **sizes(run, model))
    if task.gallery:
        context.say(f"gallery: {run.gallery(outcomes)}")
    return Evaluation(
        metrics=figures.complete(task.metrics()),
        items=figures.items,
        notes=notes,
        curves=curves,
        data=dict(context.data or {}),
        split={"name": f"{task.source_split} pairs", "hash": stages.pairs.sha256[:16]},
        warnings=_warnings(task, stages),
        collapsed=_collapsed(outcomes, floor),
        protocol=task.label,
    )


def _keep_evidence(figures: Figures, run: Runner, outcomes: Outcomes) -> None:
    """What reports draw: the states of all problems, their goals, and what was imagined in the first of them."""
    figures.items["states"] = outcomes.states.astype(np.float32)
    figures.items["goals"] = outcomes.goals.astype(np.float32)
    imagined = [
        states for states in run.imagined(outcomes, range(len(outcomes.goals))[:_IMAGINED]) if states is not None
    ]
    if imagined:
        figures.items["imagined"] = np.stack(imagined).astype(np.float32)


def _audit(stages: Stages) -> dict[str, Any]:
    """What of the measured episodes was seen in training, and what was fitted on what."""
    task, splits = stages.task, stages.splits
    source = splits[task.source_split]
    numbers = [source.number_of(int(episode)) for episode in np.unique(stages.pairs.episodes)]
    return audit(
        train=splits["train"].contents(),
        dev=[] if task.source_split == "dev" else splits["dev"].contents(),
        measured=source.contents(numbers),
        unit="episodes",
        identified_by="their states",
        scalers="actions and proprioception, fitted on training episodes",
        selection=LAST_STEP if isinstance(stages.context.model, WorldModel) else NO_TRAINING,
        encoder=encoder_origin(stages.context),
        reserved=task.source_split != "train",
    )


def _dev_errors(stages: Stages, model: WorldModel) -> dict[str, float]:
    task = stages.task
    errors = rollout_errors(stages, "dev", model, history=task.history, horizons=task.horizons, count=task.dev_clips)
    found = {f"dev_slot_error_{h}": float(errors.slots[:, i].mean()) for i, h in enumerate(task.horizons)}
    for name, values in (("agent", errors.agent), ("block", errors.block)):
        if values is not None:
            found |= {f"dev_{name}_error_{h}": float(values[:, i].mean()) for i, h in enumerate(task.horizons)}
    return found


def _add_rollouts(figures: Figures, stages: Stages, model: WorldModel) -> None:
    task = stages.task
    errors = rollout_errors(stages, task.split, model, history=task.history, horizons=task.horizons, count=_ROLLED)
    items = np.arange(len(errors.episodes))
    for name, values in (("slot", errors.slots), ("agent", errors.agent), ("block", errors.block)):
        for column, horizon in enumerate(task.horizons) if values is not None else ():
            assert values is not None
            key = f"rollout.{name}_error.{horizon}"
            figures.add_errors(key, values[:, column], items=items, episodes=errors.episodes)


def _collapsed(outcomes: Outcomes, floor: Outcomes | None) -> list[str]:
    """Success that is no better than that of random actions."""
    if floor is None:
        return []
    return [
        key
        for key, ours, theirs in (
            ("success.joint.first_hit", outcomes.joint_hit, floor.joint_hit),
            ("success.block.first_hit", outcomes.block_hit, floor.block_hit),
        )
        if (ours != NEVER).mean() <= (theirs != NEVER).mean()
    ]


def _warnings(task: PushtTask, stages: Stages) -> list[str]:
    found = []
    if task.root is not None:
        counts = ", ".join(f"{len(split)} {name}" for name, split in stages.splits.items())
        found.append(f"{counts} episodes of {task.root.name}.")
    if task.protocol == "cjepa":
        found.append("Starts and goals come from training episodes, as published: this says nothing about new ones.")
    if task.protocol == "dino_wm":
        found.append("The planner is told of success, as published, and stops there.")
    if task.split == "dev" and task.protocol == "held_out":
        found.append("Measured on dev episodes: for decisions, not for results.")
    if task.number < 100:
        found.append(f"{task.number} pairs: intervals are wide.")
    return found
