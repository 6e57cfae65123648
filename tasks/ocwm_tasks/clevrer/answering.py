"""ALOE in a run: trained on training videos, asked about the measured split.

Shape letters: V videos, T frames, N slots, D slot dimension, R removals.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm.interfaces import RolloutReference
from ocwm_tasks.clevrer.accuracy import Outcome
from ocwm_tasks.clevrer.aloe.batches import VideoLatents, imagined_share
from ocwm_tasks.clevrer.aloe.reasoner import VERSION, AloeConfig, AloeReasoner
from ocwm_tasks.clevrer.data_stages import Key
from ocwm_tasks.clevrer.executor import NotExecutable, judge
from ocwm_tasks.clevrer.pipeline import Float32, Pipeline
from ocwm_tasks.clevrer.resimulated import Resimulated
from ocwm_tasks.clevrer.symbolic.reasoner import Reading, Recorder
from ocwm_tasks.clevrer.symbolic.sources import ModelRemoval
from ocwm_tasks.clevrer.world import World

WEIGHTS, CURVE = "aloe.safetensors", "curve.json"


@dataclass(frozen=True)
class Asked:
    """ALOE's answers, its learning curve, and the share of imagined frames in its input by question type."""

    outcome: Outcome
    curve: list[dict[str, float]]
    imagined_share: dict[str, float]


def answer_with_aloe(pipeline: Pipeline, questions: Sequence[dict[str, Any]]) -> Asked:
    """Train the reasoner where it is not cached and answer questions about the measured split."""
    context, task = pipeline.context, pipeline.task
    spec = context.model.spec
    reasoner = AloeReasoner(
        AloeConfig.of(task.aloe),
        num_slots=spec.num_slots,
        slot_dim=spec.slot_dim,
        sees_video=_sees_video(pipeline),
        window="full" if task.protocol == "imagined" or pipeline.native else "published",
        seed=context.seeds.reasoner,
    )
    key = aloe_key(pipeline)

    def build(folder: Path) -> None:
        parts = {name: pipeline.splits[name].questions for name in ("train", "dev")}
        with context.progress("aloe", reasoner.trainer.max_steps) as bar:
            report = reasoner.fit(
                _training_latents(pipeline, "train"),
                reasoner.encode(parts["train"]),
                folder=context.work("aloe", key),
                device=context.device,
                progress=bar,
                dev=(_training_latents(pipeline, "dev"), reasoner.encode(parts["dev"])),
            )
        context.count_before(report.seconds_before)
        reasoner.save(folder / WEIGHTS)
        (folder / CURVE).write_text(json.dumps(report.curve))

    folder = context.stage("aloe", key, build, together=True)
    reasoner.load(folder / WEIGHTS)
    curve: list[dict[str, float]] = json.loads((folder / CURVE).read_text())
    encoded = reasoner.encode(questions)
    latents = _latents(pipeline, task.split) if _sees_video(pipeline) else None
    with context.measure("answers"), context.progress("answers", len(encoded.question)) as bar:
        rng = np.random.default_rng(context.seeds.eval)
        outcome = reasoner.answer(latents, encoded, device=context.device, rng=rng, advance=bar.update)
    share = {} if latents is None else imagined_share(encoded, latents, reasoner.frame_choice)
    return Asked(outcome, curve, share)


def aloe_key(pipeline: Pipeline) -> Key:
    """Everything that the trained reasoner depends on."""
    context, task = pipeline.context, pipeline.task
    parts = context.part("data", "task.aloe", "seeds.reasoner")
    start = {"init": task.aloe_init} if task.aloe_init else {}
    common = {**parts, **start, "protocol": task.protocol, "version": VERSION}
    if not _sees_video(pipeline):
        return {**common, "latents": "none"}
    if pipeline.native or not _sees_rollout(pipeline):
        return {**common, **pipeline.slots_key("train"), "latents": "observed"}
    if task.reasoner_train == "true":
        return {**common, **pipeline.slots_key("train"), "latents": "true"}
    return {**common, **pipeline.rollout_key("train"), "latents": "imagined", "prefix": task.prefix}


def _sees_video(pipeline: Pipeline) -> bool:
    model = pipeline.model
    return not isinstance(model, RolloutReference) or model.sees_video


def _sees_rollout(pipeline: Pipeline) -> bool:
    model = pipeline.model
    return not isinstance(model, RolloutReference) or model.sees_rollout


def _training_latents(pipeline: Pipeline, name: str) -> VideoLatents | None:
    """What the reasoner learns from, and its learning curve is measured on."""
    if not _sees_video(pipeline):
        return None
    if pipeline.task.reasoner_train == "imagined" or not _sees_rollout(pipeline):
        return _latents(pipeline, name)
    videos = pipeline.latents(name)
    if pipeline.task.protocol == "published":
        return VideoLatents(videos.index, videos.latents)
    # The truth about a removed object is the simulation without it.
    rows = _removed_slots(pipeline, name, _true_reading(pipeline, name))
    simulated = Resimulated(pipeline, name)
    without = [
        simulated(rows.video[low : low + 64], rows.slot[low : low + 64]) for low in range(0, len(rows.video), 64)
    ]
    return _joined(videos.index, np.asarray(videos.latents), rows, without)


def _latents(pipeline: Pipeline, name: str) -> VideoLatents:
    """What the reasoner is asked about: observed frames and the model's rollouts."""
    index = pipeline.latents(name).index
    if pipeline.native:  # its questions are about what happened in the whole video, and nothing is imagined for them
        return VideoLatents(index, pipeline.latents(name).latents)
    if pipeline.task.protocol == "published":
        return VideoLatents(index, pipeline.rolled(name))
    prefix, latents = pipeline.prefix(name), pipeline.imagined(name)
    context, model = pipeline.context, pipeline.model
    reading = pipeline.symbolic.read(latents, observed=prefix)
    rows = _removed_slots(pipeline, name, reading)
    if isinstance(model, RolloutReference) and model.privileged == "future":
        simulated = Resimulated(pipeline, name)
        without = [
            simulated(rows.video[low : low + 64], rows.slot[low : low + 64]) for low in range(0, len(rows.video), 64)
        ]
        return replace(_joined(index, latents, rows, without), first_imagined=None)
    asked = [
        (int(v), int(np.flatnonzero(reading.slots[v] == s)[0])) for v, s in zip(rows.video, rows.slot, strict=True)
    ]
    removals = pipeline.symbolic.removals(reading, asked)
    source = ModelRemoval(model, device=context.device, keep_latents=True)
    imagined = source(
        latents,
        removals,
        probe=pipeline.symbolic.probe,
        shape=reading.tracks.shape,
        touch=pipeline.symbolic.rules.touch,
    )
    assert imagined.latents is not None
    joined = _joined(index, latents, rows, [imagined.latents])
    return replace(joined, first_imagined=np.concatenate([prefix, prefix[rows.video]]))


@dataclass(frozen=True)
class _Rows:
    """Counterfactual questions that read a video without an object: each distinct (video, slot), and whose it is."""

    video: NDArray[np.int64]
    slot: NDArray[np.int64]
    row_of: Mapping[tuple[int, int], int]  # (scene index, question id) -> row of the two above


def _removed_slots(pipeline: Pipeline, name: str, reading: Reading) -> _Rows:
    split, index = pipeline.splits[name], pipeline.latents(name).index
    place = {int(scene): row for row, scene in enumerate(index)}
    found: dict[tuple[int, int], int] = {}
    row_of: dict[tuple[int, int], int] = {}
    for scene in split.questions:
        video = place[scene["scene_index"]]
        for question in scene["questions"]:
            if question["question_type"] != "counterfactual":
                continue
            thing = removed_object(question, reading.worlds[video])
            if thing is not None:
                pair = (video, int(reading.slots[video][thing]))
                row_of[scene["scene_index"], question["question_id"]] = found.setdefault(pair, len(found))
    pairs = np.array(list(found), dtype=np.int64).reshape(-1, 2)
    return _Rows(pairs[:, 0], pairs[:, 1], row_of)


def removed_object(question: Mapping[str, Any], world: World) -> int | None:
    """Number of the object that a counterfactual question removes; None where the world does not tell."""
    recorder = Recorder()
    for choice in question["choices"]:
        try:
            judge(question, choice, replace(world, counterfactual=recorder))
        except NotExecutable:
            continue
    return next(iter(recorder.asked), None)


def _true_reading(pipeline: Pipeline, name: str) -> Reading:
    return pipeline.symbolic.read(np.asarray(pipeline.latents(name).latents))


def _joined(index: NDArray[np.int64], latents: Float32, rows: _Rows, without: Sequence[Float32]) -> VideoLatents:
    """Videos followed by videos without an object."""
    count = len(index)
    return VideoLatents(
        np.concatenate([index, index[rows.video]]),
        np.concatenate([latents, *without]),
        row_of={key: count + row for key, row in rows.row_of.items()},
    )
