"""The leakage audit of a CLEVRER run."""

from __future__ import annotations

from typing import Any

from ocwm.interfaces import WorldModel
from ocwm.leakage import LAST_STEP, NO_TRAINING, audit, encoder_origin
from ocwm_tasks.clevrer.pipeline import Pipeline


def audit_videos(pipeline: Pipeline) -> dict[str, Any]:
    """What of the measured videos was seen in training, and what was fitted on what."""
    task, splits = pipeline.task, pipeline.splits
    fitted = [text for text, there in (("probe", task.objects_known), ("ALOE", "aloe" in task.reasoners)) if there]
    trained = isinstance(pipeline.model, WorldModel) or "aloe" in task.reasoners
    return audit(
        train=splits["train"].contents,
        dev=[] if task.split == "dev" else splits["dev"].contents,
        measured=pipeline.measured.contents,
        unit="videos",
        identified_by="the motion of their objects" if pipeline.measured.scenes else "split and number",
        scalers=f"fitted on training videos ({', '.join(fitted)})" if fitted else "nothing is fitted",
        selection=LAST_STEP if trained else NO_TRAINING,
        encoder=encoder_origin(pipeline.context),
    )
