"""Measures whether a world model knows who influences whom.

Shape letters: V videos, C cuts, n objects, K frames after a cut, N slots, D slot dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ocwm.context import Evaluation, RunContext
from ocwm.interfaces import WorldModel
from ocwm.leakage import KEY as LEAKAGE
from ocwm_tasks.clevrer.audit import audit_videos
from ocwm_tasks.clevrer.observe import state_observations
from ocwm_tasks.clevrer.pipeline import Pipeline
from ocwm_tasks.clevrer.scene import Scene
from ocwm_tasks.clevrer.symbolic.probe import COLUMNS
from ocwm_tasks.interactions.imagination import Imagination, imagine_removals
from ocwm_tasks.interactions.measures import Figures
from ocwm_tasks.interactions.references import Proximity, Resimulated
from ocwm_tasks.interactions.truth import HORIZON, VERSION, Truth, simulate_truth

if TYPE_CHECKING:
    from ocwm_tasks.interactions.task import InteractionsTask

REFERENCES = ("copy_last", "constant_velocity", "proximity", "resimulated")
_TREND = 4  # frames from which velocities are told
Float32 = NDArray[np.float32]


def evaluate(task: InteractionsTask, context: RunContext) -> Evaluation:
    """Train where there is something to train, roll out with and without each object, and compare with the truth."""
    pipeline = Pipeline(task, context)
    curves = {"world_model": curve} if (curve := pipeline.train()) else {}
    truth = truth_of(task, pipeline)
    figures = Figures(truth, task.affected, np.random.default_rng(context.seeds.eval), task.draws)
    with context.measure("influence"):
        if isinstance(context.model, Proximity):
            figures.add_influence("ablation", _closeness(truth, pipeline.measured.scenes))
        elif isinstance(context.model, Resimulated):
            _add_simulator(figures, pipeline, truth)
        else:
            _add_model(figures, pipeline, truth)
    values = figures.complete()
    floor = values["influence.ablation.auroc"]
    told_apart = floor.low is not None and floor.low > 50
    notes: dict[str, Any] = {
        "references": list(REFERENCES),
        LEAKAGE: audit_videos(pipeline),
        "probe": pipeline.symbolic.probe.report.as_dict(),
        "influence": {
            "cuts": truth.cuts.tolist(),
            "horizon": HORIZON,
            "affected_from": task.affected,
            "pairs": len(figures.items["pairs.moved"]),
            "affected": figures.base_rate,
        },
        "about": {
            "influence": (
                f"{HORIZON} video frames are simulated again from several moments, with one object taken out there. Pairs: "
                f"who is removed, and another object; {100 * figures.base_rate:.1f} % of them are moved by "
                f"{task.affected:g} world units or more. AUROC: 50 % is chance."
            ),
            "counterfactual": "Mean distance to the world simulated without the object, over these frames.",
            "recency": "Mean distance of the plain rollout, by frames since the object's last collision.",
        },
    }
    return Evaluation(
        metrics=values,
        items=figures.items,
        notes=notes,
        curves=curves,
        data=dict(context.data or {}),
        split={"name": task.split, "hash": pipeline.measured.hash},
        collapsed=[] if told_apart or not isinstance(context.model, WorldModel) else ["influence.ablation.auroc"],
        protocol=f"removal at {'-'.join(map(str, task.cuts))}",
    )


def truth_of(task: InteractionsTask, pipeline: Pipeline) -> Truth:
    """The simulated truth about the measured videos, from a cached stage."""
    context = pipeline.context

    def build(folder: Path) -> None:
        split = pipeline.measured
        with context.progress("simulating without each object", len(split.scenes)) as bar:
            truth = simulate_truth(
                split.scenes,
                task.generator,
                seed=context.seeds.data,
                split=split.origin,
                cuts=task.cuts,
                workers=context.workers,
                advance=bar.update,
            )
        truth.save(folder / "truth.npz")

    return Truth.load(context.stage("truth", truth_key(task, pipeline), build) / "truth.npz")


def truth_key(task: InteractionsTask, pipeline: Pipeline) -> dict[str, Any]:
    """What the truth depends on."""
    return {**pipeline.data_key, "split": task.split, "cuts": list(task.cuts), "version": VERSION}


def _add_model(figures: Figures, pipeline: Pipeline, truth: Truth) -> None:
    context, videos = pipeline.context, pipeline.latents(pipeline.task.split)
    with context.progress("removing objects (videos)", len(videos.index) * len(truth.cuts)) as bar:
        found = imagine_removals(
            pipeline.model,
            videos.latents,
            videos.slot_of,
            truth,
            probe=pipeline.symbolic.probe,
            device=context.device,
            advance=bar.update,
        )
    _add(figures, found)
    if found.attention is not None:
        figures.add_influence("attention", found.attention)


def _add(figures: Figures, found: Imagination) -> None:
    figures.add_influence("ablation", found.change)
    figures.add_counterfactuals(found.without, found.with_all)
    figures.add_recency(found.with_all)


def _add_simulator(figures: Figures, pipeline: Pipeline, truth: Truth) -> None:
    """What the probe reads from latents of the simulated truth: what encoder and probe cost."""

    def read(positions: Float32, scene: Scene) -> Float32:
        """Positions (K, n, 2), NaN where out of view, as the encoder and the probe give them."""
        count = len(scene.objects)
        there = np.isfinite(positions[:, :count, 0])
        shown = replace(
            scene,
            positions=np.nan_to_num(positions[:, :count]),
            visible=there,
            frames=np.arange(len(positions), dtype=np.int64),
            velocities=None,
        )
        batch, _ = pipeline.context.encoder.encode(state_observations([shown]))
        found = pipeline.symbolic.probe.read(batch.latents.numpy()[0])[..., COLUMNS["position"]]
        slots = pipeline.context.encoder.slot_of(torch.tensor([scene.index]))
        assert slots is not None
        out = np.full_like(positions, np.nan)
        out[:, :count] = np.where(there[..., None], found[:, slots[0, :count].numpy()], np.nan)
        return out

    with_all, without = np.full_like(truth.with_all, np.nan), np.full_like(truth.without, np.nan)
    for video, scene in enumerate(pipeline.measured.scenes):
        for cut in range(len(truth.cuts)):
            with_all[video, cut] = read(truth.with_all[video, cut], scene)
            for removed in range(len(scene.objects)):
                without[video, cut, removed] = read(truth.without[video, cut, removed], scene)
    distance = np.linalg.norm(without - with_all[:, :, None], axis=-1)
    known = np.isfinite(distance)
    change = np.where(known, distance, 0).sum(3) / np.maximum(known.sum(3), 1)
    _add(figures, Imagination(with_all, without, None))
    figures.add_influence("ablation", change.astype(np.float32))


def _closeness(truth: Truth, scenes: Sequence[Scene]) -> Float32:
    """(V, C, n, n) minus the least distance of two objects that go on straight ahead at their last velocity."""
    most = truth.known.shape[-1]
    score = np.full((*truth.known.shape, most), np.nan, dtype=np.float32)
    ahead = np.arange(1, HORIZON + 1)[:, None, None]
    for video, scene in enumerate(scenes):
        for place, cut in enumerate(truth.cuts.tolist()):
            count = len(scene.objects)
            last = np.where(scene.visible[:cut, :, None], scene.positions[:cut], np.nan)
            velocity = (last[-1] - last[-1 - _TREND]) / _TREND
            path = last[-1] + ahead * velocity  # (K, n, 2)
            gap = np.linalg.norm(path[:, :, None] - path[:, None], axis=-1).min(axis=0)
            score[video, place, :count, :count] = -gap
    return score
