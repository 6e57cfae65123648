"""Slot errors of runs on slots that exist already: against the real future, or against held-back observed frames.

Which slot holds which object is not known there, so positions, collisions and the symbolic reasoner have nothing to go by.

Shape letters: V videos, K predicted frames, N slots, D slot dimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ocwm.interfaces import WorldModel
from ocwm_tasks.clevrer.measures import Figures, slot_error_name
from ocwm_tasks.clevrer.rollout_metrics import slot_errors

if TYPE_CHECKING:
    from ocwm_tasks.clevrer.pipeline import Pipeline
    from ocwm_tasks.clevrer.precomputed import PrecomputedSlots


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
    if not isinstance(pipeline.context.model, WorldModel):
        return []
    still = np.broadcast_to(videos.latents[:, first - 1 : first], predicted.shape)
    floor = slot_errors(still, truth, horizons=horizons[-1:]).mean()
    return keys[-1:] if errors.mean()[-1] >= floor[0] else []


def facts(stored: PrecomputedSlots) -> Mapping[str, Any]:
    """What a record says about the slots."""
    return {
        "file": stored.path.name,
        "sha256": stored.store.identity,
        "shape": list(stored.store.shape),
        "future": stored.future or "none",
    }


def messages(pipeline: Pipeline, stored: PrecomputedSlots) -> list[str]:
    """What a reader of the figures must know about them."""
    found = [
        f"Slots of {stored.path.name}: which object a slot holds is not known, so position errors, collision F1 and the "
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
