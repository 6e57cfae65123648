"""The learning curve of a world model: rollout errors on dev videos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocwm.interfaces import WorldModel
from ocwm_tasks.clevrer.measures import slot_error_name
from ocwm_tasks.clevrer.rollout_metrics import position_errors, slot_errors
from ocwm_tasks.clevrer.windows import extend_all

if TYPE_CHECKING:
    from ocwm_tasks.clevrer.pipeline import Pipeline


def dev_errors(pipeline: Pipeline, model: WorldModel) -> dict[str, float]:
    """Position errors on `task.dev_videos` dev videos by horizon; slot errors where objects are not known."""
    task = pipeline.task
    dev = pipeline.latents("dev")
    some = slice(0, task.dev_videos)
    horizons = task.horizons_for(pipeline.steps)
    first = pipeline.known_from
    predicted = extend_all(
        model,
        dev.latents[some, :first],
        steps=pipeline.steps,
        stride=pipeline.stride,
        device=pipeline.context.device,
    )
    if not task.objects_known:
        errors = slot_errors(predicted, dev.latents[some, first : first + pipeline.steps], horizons=horizons)
        name = slot_error_name(future_known=pipeline.future_known).removeprefix("rollout.")
    else:
        errors = position_errors(
            pipeline.symbolic.probe,
            predicted,
            pipeline.splits["dev"].scenes[some],
            dev.slot_of[some],
            observed=first,
            horizons=horizons,
        )
        name = "position_error"
    named = zip(horizons, errors.mean().tolist(), strict=True)
    return {f"dev.{name}.{horizon}": error for horizon, error in named}
