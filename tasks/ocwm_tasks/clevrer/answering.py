"""ALOE in a run: trained on training videos with their rollouts, asked about the measured split.

Shape letters: V videos, T observed frames, K predicted frames, N slots, D slot dimension.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ocwm.interfaces import Reference
from ocwm_tasks.clevrer.accuracy import Outcome
from ocwm_tasks.clevrer.aloe.batches import VideoLatents, imagined_share
from ocwm_tasks.clevrer.aloe.reasoner import VERSION, AloeConfig, AloeReasoner
from ocwm_tasks.clevrer.pipeline import Key, Pipeline

WEIGHTS, CURVE = "aloe.safetensors", "curve.json"


def aloe_key(pipeline: Pipeline) -> Key:
    """Everything that the trained reasoner depends on."""
    context, task = pipeline.context, pipeline.task
    parts = context.part("data", "task.aloe", "seeds.reasoner")
    seen = pipeline.rollout_key("train") if _sees_video(pipeline) else {}
    return {**seen, **parts, "protocol": task.protocol, "version": VERSION, "sees_video": _sees_video(pipeline)}


def answer_with_aloe(pipeline: Pipeline) -> tuple[Outcome, list[dict[str, float]], dict[str, float]]:
    """Train the reasoner where it is not cached and answer the measured split.

    Returns:
        The outcome, the learning curve, and the share of imagined frames by question type.
    """
    context, task = pipeline.context, pipeline.task
    spec = context.model.spec
    reasoner = AloeReasoner(
        AloeConfig.of(task.aloe),
        num_slots=spec.num_slots,
        slot_dim=spec.slot_dim,
        sees_video=_sees_video(pipeline),
        seed=context.seeds.reasoner,
    )
    key = aloe_key(pipeline)

    def build(folder: Path) -> None:
        train, dev = (reasoner.encode(pipeline.splits[name].questions) for name in ("train", "dev"))
        with context.progress("aloe", reasoner.trainer.max_steps) as bar:
            report = reasoner.fit(
                _video_latents(pipeline, "train"),
                train,
                folder=context.work("aloe", key),
                device=context.device,
                progress=bar,
                dev=(_video_latents(pipeline, "dev"), dev),
            )
        reasoner.save(folder / WEIGHTS)
        (folder / CURVE).write_text(json.dumps(report.curve))

    folder = context.stage("aloe", key, build)
    reasoner.load(folder / WEIGHTS)
    curve: list[dict[str, float]] = json.loads((folder / CURVE).read_text())
    questions = reasoner.encode(pipeline.measured.questions)
    latents = _video_latents(pipeline, task.split)
    with context.measure("answers"), context.progress("answers", len(questions.question)) as bar:
        rng = np.random.default_rng(context.seeds.eval)
        outcome = reasoner.answer(latents, questions, device=context.device, rng=rng, advance=bar.update)
    share = {} if latents is None else imagined_share(questions, latents, reasoner.frame_choice)
    return outcome, curve, share


def _sees_video(pipeline: Pipeline) -> bool:
    model = pipeline.context.model
    return not isinstance(model, Reference) or model.sees_video


def _video_latents(pipeline: Pipeline, name: str) -> VideoLatents | None:
    if not _sees_video(pipeline):
        return None
    return VideoLatents(pipeline.latents(name).index, pipeline.rolled(name))
