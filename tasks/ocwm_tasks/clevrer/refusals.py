"""Which pairs of model and encoder can't run on which data, and what to set instead.

Shape letters: F frames that the reasoner reads, N slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocwm.interfaces import Encoder, Reference, RolloutReference, WorldModel
from ocwm_tasks.clevrer.aloe.reasoner import AloeConfig
from ocwm_tasks.clevrer.precomputed import PrecomputedSlots
from ocwm_tasks.clevrer.splits import plan

if TYPE_CHECKING:
    from ocwm_tasks.clevrer.task import ClevrerTask

MOST_TOKENS = 1250  # of a video that ALOE reads: 25 frames of 50 slots
USUAL_SLOTS = 7


def refusal(task: ClevrerTask, model: type[WorldModel] | type[Reference], encoder: Encoder) -> str:
    """Say what a pair lacks; "" where it is fine. Nothing has been computed yet."""
    if not issubclass(model, WorldModel | RolloutReference):
        return "it continues no video"
    stored = task.stored
    privileged = model.privileged if issubclass(model, Reference) else "none"
    if stored is None and privileged == "stored_rollout":
        return "it plays back a rollout that is stored with slots (set encoder=precomputed)"
    if stored is not None and task.root is None:
        return "stored slots belong to the videos of a folder (set task.root)"
    reasons = (
        *((_no_videos(task),) if task.reads_videos else ()),
        *(() if task.objects_known else (_unknown_objects(task, encoder),)),
        _future(task, model, privileged) if stored is None else _stored_future(task, stored, privileged),
        *((_slots(task, privileged, encoder),) if task.reads_videos else ()),
    )
    return next((reason for reason in reasons if reason), "")


def _no_videos(task: ClevrerTask) -> str:
    if task.embedded:
        return ""
    for name, (origin, _) in plan(task.dataset).items():
        if origin not in task.dataset.splits or not task.dataset.files(origin).videos:
            return f"the encoder reads videos, and {task.root} has none in split '{origin}', which {name} comes from"
    return ""


def _unknown_objects(task: ClevrerTask, encoder: Encoder) -> str:
    """Settings for which it must be known which slot holds which object, and what to set them to."""
    unknown = [
        ("symbolic" in task.reasoners, "the symbolic reasoner must know which object a slot holds", "reasoners=[aloe]"),
        (
            task.protocol == "imagined",
            "task.protocol=imagined must know which object a slot holds",
            "protocol=published",
        ),
        (
            task.entry_filter,
            "task.entry_filter=true must know when objects come into view",
            "entry_filter=false",
        ),
        (
            task.source != "auto",
            f"task.source={task.source} chooses states, and these slots need none",
            "source=auto",
        ),
    ]
    found = [(what, setting) for wrong, what, setting in unknown if wrong]
    if not found:
        return ""
    if isinstance(encoder, PrecomputedSlots):
        why = ""
    elif task.embedded:
        why = " (the encoder has no masks of its slots)"
    else:
        why = " (the data has no masks of its objects)"
    return f"{'; '.join(what for what, _ in found)}{why}: set {' '.join(f'task.{setting}' for _, setting in found)}"


def _future(task: ClevrerTask, model: type[WorldModel] | type[Reference], privileged: str) -> str:
    if privileged == "future" and not task.embedded:
        return "it reads the real future, which only embedded data has"
    if not task.embedded and task.protocol == "imagined":
        return "task.protocol=imagined needs data whose future is known; only embedded data has that"
    if (
        issubclass(model, RolloutReference)
        and model.sees_video
        and not model.sees_rollout
        and task.protocol == "imagined"
    ):
        return "it has no rollout, and task.protocol=imagined shows nothing else after the prefix"
    unknown = not task.embedded and (task.reads_videos or task.scene_source != "trajectories")
    if unknown and task.reasoner_train == "true" and "aloe" in task.reasoners:
        return "task.reasoner_train=true needs the real future, which official data lacks (set it to imagined)"
    return ""


def _stored_future(task: ClevrerTask, stored: PrecomputedSlots, privileged: str) -> str:
    future = stored.future
    if privileged == "future" and future != "real":
        return "it reads the real future, which these slots lack (encoder.future=real says that they have it)"
    if privileged == "stored_rollout" and future != "imagined":
        return "it reads an imagined future, which these slots lack (encoder.future=imagined says that they have it)"
    if task.reasoner_train == "true" and future != "real" and "aloe" in task.reasoners:
        return "task.reasoner_train=true needs the real future, which these slots lack (set it to imagined)"
    return ""


def _slots(task: ClevrerTask, privileged: str, encoder: Encoder) -> str:
    """What the encoder's slots can't be used for."""
    if task.objects_known and encoder.num_slots < task.most_objects:
        return (
            f"videos have up to {task.most_objects} objects, and encoder.num_slots={encoder.num_slots} "
            f"(set it to {task.most_objects} or more)"
        )
    if "aloe" not in task.reasoners:
        return ""
    if task.protocol == "imagined" and (privileged == "future" or task.reasoner_train == "true"):
        return (
            "videos without an object are re-simulated as states only, and ALOE would need their slots "
            "(set task.reasoner_train=imagined, or task.reasoners=[symbolic])"
        )
    frames = AloeConfig.of(task.aloe).frames
    tokens = frames * encoder.num_slots
    if tokens > MOST_TOKENS:
        cost = round((encoder.num_slots / USUAL_SLOTS) ** 2)
        return (
            f"{encoder.num_slots} tokens a frame make {tokens:,} tokens of {frames} frames for ALOE, whose attention "
            f"then costs {cost:,} times that of {USUAL_SLOTS} slots (pool them: encoder.pool=4 makes 16 of patches)"
        )
    return ""
