"""Measures a trained world model or a reference: rollout errors, symbolic reasoner, ALOE.

Shape letters: V videos, T observed frames, K predicted frames, N slots, D slot dimension, n objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ocwm.context import Evaluation, RunContext
from ocwm.interfaces import RolloutReference, WorldModel
from ocwm.leakage import KEY as LEAKAGE
from ocwm_tasks.clevrer.aloe.tokens import COUNTERFACTUAL, QUESTION_TYPES
from ocwm_tasks.clevrer.answering import answer_with_aloe
from ocwm_tasks.clevrer.audit import audit_videos
from ocwm_tasks.clevrer.imagined import answerable, entrances, without_entrants
from ocwm_tasks.clevrer.measures import Figures
from ocwm_tasks.clevrer.pipeline import Pipeline
from ocwm_tasks.clevrer.resimulated import Resimulated
from ocwm_tasks.clevrer.rollout_metrics import collision_f1, position_errors, slot_errors
from ocwm_tasks.clevrer.scene import OBSERVED_FRAMES, ROLLOUT_FRAMES
from ocwm_tasks.clevrer.slot_figures import add_slot_errors, facts, messages
from ocwm_tasks.clevrer.symbolic.answers import SymbolicOutcome, answer_questions
from ocwm_tasks.clevrer.symbolic.reasoner import Reading, idle_future
from ocwm_tasks.clevrer.symbolic.sources import ModelRemoval, ObservedRemoval, RemovalSource, TrueRemoval
from ocwm_tasks.clevrer.world import World

if TYPE_CHECKING:
    from ocwm_tasks.clevrer.task import ClevrerTask

REFERENCES = ("copy_last", "constant_velocity", "true_future", "no_rollout", "question_only")
Float32 = NDArray[np.float32]


def evaluate(task: ClevrerTask, context: RunContext) -> Evaluation:
    """Do all stages of a run and measure."""
    pipeline = Pipeline(task, context)
    model = context.model
    sees_video = not isinstance(model, RolloutReference) or model.sees_video
    notes: dict[str, Any] = {"references": list(_references(task)), LEAKAGE: audit_videos(pipeline)}
    if sees_video and pipeline.measures_quality:
        notes["encoder_quality"] = pipeline.quality()
    curves: dict[str, list[dict[str, float]]] = {}
    if curve := pipeline.train():
        curves["world_model"] = curve
    figures = Figures(np.random.default_rng(context.seeds.eval), task.draws)
    if task.objects_known:
        notes["probe"] = pipeline.symbolic.probe.report.as_dict()
    share: dict[str, float] = {}
    predicted = pipeline.rollout(task.split)
    collapsed: list[str] = [] if task.objects_known else add_slot_errors(figures, pipeline)
    questions, excluded = _questions(pipeline)
    if task.protocol == "imagined":
        notes["excluded_questions"] = excluded
    if sees_video and task.objects_known:
        with context.measure("symbolic"):
            reading = _read(pipeline, predicted)
            if predicted is not None:
                collapsed += _add_rollout(figures, pipeline, predicted, reading)
            if pipeline.native:  # its questions are about what happened in the whole video
                videos = pipeline.latents(task.split)
                reading = pipeline.symbolic.read(np.asarray(videos.latents), frames=pipeline.frames)
            if "symbolic" in task.reasoners:
                notes["symbolic"] = _add_symbolic(figures, pipeline, questions, reading, predicted, share)
    if "aloe" in task.reasoners:
        aloe = answer_with_aloe(pipeline, questions)
        curves["aloe"] = aloe.curve
        figures.add_answers("aloe", aloe.outcome, asked=_asked(pipeline))
        share.update({f"aloe.{name}": value for name, value in aloe.imagined_share.items()})
        collapsed += _constant_answers(aloe.outcome.type, aloe.outcome.prediction)
    notes["imagined_share"] = share
    if slots := facts(pipeline):
        notes["slots"] = slots
    return Evaluation(
        metrics=figures.complete(task.metrics()),
        items=figures.items,
        notes=notes,
        curves=curves,
        data=dict(context.data or {}),
        split={"name": task.split, "hash": pipeline.measured.hash},
        warnings=_warnings(pipeline),
        collapsed=collapsed,
        protocol=task.protocol,
    )


def _add_rollout(figures: Figures, pipeline: Pipeline, predicted: Float32, reading: Reading) -> list[str]:
    """Add rollout errors; return the figure in which a learned model is no better than repeating the last frame."""
    task, videos, scenes = pipeline.task, pipeline.latents(pipeline.task.split), pipeline.measured.scenes
    observed, horizons = pipeline.observed, task.horizons_for(pipeline.steps)
    probe = pipeline.symbolic.probe
    errors = position_errors(probe, predicted, scenes, videos.slot_of, observed=observed, horizons=horizons)
    reaches = videos.latents.shape[1] >= observed + pipeline.steps
    slots = (
        slot_errors(predicted, videos.latents[:, observed : observed + pipeline.steps], horizons=horizons)
        if reaches
        else None
    )
    for column, horizon in enumerate(horizons):
        only = replace(errors, value=errors.value[:, column], weight=errors.weight[:, column])
        figures.add_videos(f"rollout.position_error.{horizon}", only, videos.index)
        if slots is not None:
            only = replace(slots, value=slots.value[:, column], weight=slots.weight[:, column])
            figures.add_videos(f"rollout.slot_error.{horizon}", only, videos.index)
    frames = pipeline.frames
    first, end = int(frames[observed]), int(frames[-1]) + 1
    f1, eventful = collision_f1(reading.collisions, scenes, videos.slot_of, first=first, end=end)
    figures.add_videos("rollout.collision_f1.all", f1, videos.index, scale=100.0)
    figures.add_videos("rollout.collision_f1.eventful", f1[eventful], videos.index[eventful], scale=100.0)
    if not isinstance(pipeline.model, WorldModel):
        return []
    # At short horizons standing still is hard to beat; at the longest one it means that nothing was learned.
    still = np.broadcast_to(videos.latents[:, observed - 1 : observed], predicted.shape)
    last = horizons[-1:]
    floor = position_errors(probe, still, scenes, videos.slot_of, observed=observed, horizons=last).mean()
    return [f"rollout.position_error.{last[0]}"] if errors.mean()[-1] >= floor[0] else []


def _add_symbolic(
    figures: Figures,
    pipeline: Pipeline,
    questions: Sequence[dict[str, Any]],
    reading: Reading,
    predicted: Float32 | None,
    share: dict[str, float],
) -> dict[str, float]:
    """Add the symbolic reasoner's accuracies; return its counts."""
    measured = pipeline.measured
    embedded = pipeline.dataset.kind == "embedded"
    facts = {s.index: World.from_scene(s) for s in measured.scenes} if embedded else None
    shown = idle_future(reading) if predicted is None and embedded else reading
    removal, free = _removals(pipeline, predicted)
    if embedded and removal is None:
        questions = [
            {**scene, "questions": [q for q in scene["questions"] if q["question_type"] != "counterfactual"]}
            for scene in questions
        ]

    def ask(source: RemovalSource | None) -> tuple[SymbolicOutcome, dict[str, float]]:
        return answer_questions(
            pipeline.symbolic,
            shown,
            questions,
            scene_index=pipeline.latents(pipeline.task.split).index,
            removal=source,
            facts=facts,
        )

    outcomes, counts = ask(removal)
    figures.add_answers("symbolic", outcomes, asked=_asked(pipeline))
    for key, items in outcomes.by_flip.items():
        figures.add_items(f"symbolic.{key}", items)
    if free is not None:
        loose, loose_counts = ask(free)
        figures.add_items("symbolic.counterfactual.free_running", loose.options(loose.type == COUNTERFACTUAL))
        counts["free_running_imagined_object_frames"] = loose_counts["imagined_object_frames"]
    if predicted is not None and embedded:
        share["symbolic.predictive"] = (ROLLOUT_FRAMES - OBSERVED_FRAMES) / ROLLOUT_FRAMES
    if counts["removals"]:
        visible = reading.tracks.visible.any(axis=2).shape[1] * counts["removals"]
        share["symbolic.counterfactual"] = counts["imagined_object_frames"] / max(
            visible * float(reading.tracks.objects.sum(axis=1).mean()), 1.0
        )
    for name in ("descriptive", "explanatory"):
        share[f"symbolic.{name}"] = 0.0
    return counts


def _removals(pipeline: Pipeline, predicted: Float32 | None) -> tuple[RemovalSource | None, RemovalSource | None]:
    """Where counterfactuals come from: the source, and its free-running variant."""
    model, context = pipeline.model, pipeline.context
    if pipeline.dataset.kind != "embedded":
        return None, None
    if predicted is None:
        return ObservedRemoval(), None
    if isinstance(model, RolloutReference) and model.privileged == "future":
        # What happens without an object was simulated, but never rendered.
        states = pipeline.context.encoder.reads == "state"
        return (TrueRemoval(Resimulated(pipeline, pipeline.task.split)) if states else None), None
    return (
        ModelRemoval(model, device=context.device),
        ModelRemoval(model, device=context.device, free_running=True),
    )


def _read(pipeline: Pipeline, predicted: Float32 | None) -> Reading:
    """What the symbolic reasoner makes of the latents that the protocol shows."""
    name = pipeline.task.split
    if pipeline.task.protocol == "imagined":
        return pipeline.symbolic.read(pipeline.imagined(name), observed=pipeline.prefix(name))
    frames = pipeline.frames[: pipeline.length(predicted)]
    return pipeline.symbolic.read(pipeline.rolled(name), frames=frames, observed=pipeline.observed)


def _questions(pipeline: Pipeline) -> tuple[Sequence[dict[str, Any]], int]:
    """Questions that can be answered under the protocol, and how many are left out."""
    measured = pipeline.measured
    if pipeline.task.protocol == "published":
        return measured.questions, 0
    prefix = pipeline.prefix(pipeline.task.split)
    removals = {removal.index: removal.pairs for removal in measured.removals}
    worlds, known = {}, {}
    for scene, frames in zip(measured.scenes, prefix.tolist(), strict=True):
        worlds[scene.index] = World.from_scene(scene, counterfactual=removals.get(scene.index))
        # Where nobody enters later, nothing is to be left out.
        late = (entrances(scene) >= frames).any()
        known[scene.index] = World.from_scene(without_entrants(scene, frames)) if late else worlds[scene.index]
    return answerable(measured.questions, worlds, known)


def _references(task: ClevrerTask) -> tuple[str, ...]:
    """Floors and ceilings that a run can stand beside."""
    if task.objects_known or task.future == "real":
        return REFERENCES
    known = tuple(name for name in REFERENCES if name != "true_future")
    return (*known, "stored_rollout") if task.future == "imagined" else known


def _asked(pipeline: Pipeline) -> set[str]:
    return {question["question_type"] for scene in pipeline.measured.questions for question in scene["questions"]}


def _constant_answers(kind: NDArray[np.int64], prediction: NDArray[np.int64]) -> list[str]:
    """Figures of types in which the reasoner gives one and the same answer to everything."""
    return [
        f"aloe.{name}.{'per_question' if number == 0 else 'per_option'}"
        for number, name in enumerate(QUESTION_TYPES)
        if (mine := prediction[kind == number]).size > 1 and (mine == mine[0]).all()
    ]


def _warnings(pipeline: Pipeline) -> list[str]:
    task = pipeline.task
    found = messages(pipeline)
    if pipeline.native:
        counts = ", ".join(f"{len(split.scenes)} {name}" for name, split in pipeline.splits.items())
        found += [
            f"{counts} scenes: far too few to conclude anything about a method.",
            "Native 5-frame steps: frames 0..95 are observed, 100..125 predicted; method.frameskip is not used.",
            "Explanatory questions read observed frames only: no world model can change their answers.",
        ]
    if task.split == "dev":
        found.append("Measured on dev videos: for decisions, not for results.")
    return found
