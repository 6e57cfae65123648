"""Runs on slots of which it is not known which object they hold: those that exist already, and those of encoders or data
without masks. Positions, collisions and the symbolic reasoner have nothing to go by there.

What is left are slot errors, against the real future or against held-back observed frames.

Shape letters: V videos, K predicted frames, N slots, D slot dimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ocwm.interfaces import WorldModel
from ocwm.segmentation import FOUND
from ocwm_tasks.clevrer.data_stages import NAMES
from ocwm_tasks.clevrer.measures import Figures, slot_error_name
from ocwm_tasks.clevrer.rollout_metrics import slot_errors

if TYPE_CHECKING:
    from ocwm_tasks.clevrer.pipeline import Pipeline


def add_slot_errors(figures: Figures, pipeline: Pipeline) -> list[str]:
    """Add the slot errors of the measured split; return the one in which a learned model does not beat standing still."""
    task, name = pipeline.task, pipeline.task.split
    known = pipeline.future_known
    predicted = pipeline.rollout(name) if known else pipeline.held_back(name)
    if predicted is None:
        return []
    videos = pipeline.latents(name)
    first, horizons = pipeline.known_from, task.horizons_for(pipeline.steps)
    truth = videos.latents[:, first : first + pipeline.steps]
    errors = slot_errors(predicted, truth, horizons=horizons)
    keys = [f"{slot_error_name(future_known=known)}.{horizon}" for horizon in horizons]
    for column, key in enumerate(keys):
        only = replace(errors, value=errors.value[:, column], weight=errors.weight[:, column])
        figures.add_videos(key, only, videos.index)
    if not isinstance(pipeline.model, WorldModel):
        return []
    still = np.broadcast_to(videos.latents[:, first - 1 : first], predicted.shape)
    floor = slot_errors(still, truth, horizons=horizons[-1:]).mean()
    return keys[-1:] if errors.mean()[-1] >= floor[0] else []


def facts(pipeline: Pipeline) -> Mapping[str, Any]:
    """What a record says about slots that were not made of states: of a file, or of each split's videos."""
    stored = pipeline.task.stored
    if stored is None:
        reports = {name: pipeline.extraction(name) for name in NAMES if pipeline.task.reads_videos}
        return {name: report for name, report in reports.items() if report}
    return {
        "file": stored.path.name,
        "sha256": stored.store.identity,
        "shape": list(stored.store.shape),
        "future": stored.future or "none",
    }


def messages(pipeline: Pipeline) -> list[str]:
    """What a reader of the figures must know about the slots."""
    task, stored = pipeline.task, pipeline.task.stored
    if task.objects_known:
        return _missed(pipeline) if task.reads_videos else []
    if stored is not None:
        slots = f"Slots of {stored.path.name}"
    else:
        without = "an encoder without masks" if task.embedded else "videos without masks"
        slots = f"Slots of {without}"
    found = [
        f"{slots}: which object a slot holds is not known, so position errors, collision F1 and the "
        "symbolic reasoner are left out."
    ]
    if not pipeline.future_known:
        first, end = pipeline.known_from, pipeline.observed
        found.append(
            f"The real slots after frame {end - 1} are not known: slot errors are those of frames {first}..{end - 1}, "
            f"predicted from the frames before {first}."
        )
    for split in pipeline.splits.values():
        if split.left_out:
            found.append(f"{split.left_out} questions of {split.name} are left out: their broken videos have no slots.")
    return found


def _missed(pipeline: Pipeline) -> list[str]:
    """How many objects of the measured split have a slot that does not show them."""
    name = pipeline.task.split
    report = pipeline.extraction(name)
    share = report.get("missed_objects")
    if not share:
        return []
    return [
        f"The encoder misses {share:.1%} of {report['objects']:,} objects of {name} (IoU with their slot below "
        f"{FOUND}): they count in every figure with a slot that does not show them."
    ]
