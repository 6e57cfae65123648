"""Questions for reports: the video, what is asked, and what each model's answer was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm.evidence import Evidence, Picture, Shown, Strip, most_disputed
from ocwm.markup import grid
from ocwm_tasks.clevrer.accuracy import MOST_CHOICES, MOST_QUESTIONS
from ocwm_tasks.clevrer.dataset import Dataset
from ocwm_tasks.clevrer.embedded import EmbeddedDataset
from ocwm_tasks.clevrer.scene import OBSERVED_FRAMES, ROLLOUT_FRAMES

REASONERS = ("symbolic", "aloe")
TYPES = ("predictive", "counterfactual", "explanatory", "descriptive")  # those first that imagination can change

_FRAMES = (0, 25, 51, 76, 102, 127, 137, 147, 159)
_LEAST_HEIGHT = 80  # px
_QUALITY = 82
# Outlines of objects; tell apart on any background (Okabe and Ito), as BGR.
_COLOURS = ((0, 159, 230), (233, 180, 86), (115, 158, 0), (66, 228, 240), (178, 114, 0), (0, 94, 213), (167, 121, 204))


def questions(runs: Sequence[Shown], dataset: Dataset, split: str, *, count: int) -> list[Evidence]:
    """Return up to `count` questions on videos that can be shown, of each type those on which the runs differ most.

    Args:
        runs: on the same questions.
        dataset: where videos and questions are; `split` is the split on disk.
        split: see there.
        count: of questions.

    Raises:
        BenchError: a file can't be read.
    """
    seen = set(dataset.indices(split, "videos"))
    asked = {
        scene["scene_index"] * MOST_QUESTIONS + question["question_id"]: question
        for scene in dataset.questions(split)
        if scene["scene_index"] in seen
        for question in scene["questions"]
    }
    share = {kind: count // len(TYPES) + (place < count % len(TYPES)) for place, kind in enumerate(TYPES)}
    found = []
    for kind, number in share.items():
        for item in _chosen(runs, kind, asked, count=number):
            found.append(_question(runs, kind, item, asked[item], _video(dataset, split, item // MOST_QUESTIONS)))
    return found


def _chosen(runs: Sequence[Shown], kind: str, asked: Mapping[int, Any], *, count: int) -> list[int]:
    key = f"symbolic.{kind}.per_question"
    answers = [_by_item(run, key) for run in runs if run.record.kind == "method" and key in run.items]
    return most_disputed(
        [{item: right for item, right in one.items() if item in asked} for one in answers], count=count
    )


def _by_item(run: Shown, key: str) -> dict[int, bool]:
    return dict(zip(run.items[f"{key}@item"].tolist(), run.items[key].tolist(), strict=True))


def _question(
    runs: Sequence[Shown], kind: str, item: int, question: Mapping[str, Any], video: Sequence[Strip]
) -> Evidence:
    choices = question.get("choices", [])
    said = [
        (f"{run.name}, {reasoner}", _by_item(run, key))
        for reasoner in REASONERS
        for run in runs
        if (key := f"{reasoner}.{kind}.{'per_option' if choices else 'per_question'}") in run.items
    ]
    lines = [(choice["choice"], choice.get("answer") == "correct", choice["choice_id"]) for choice in choices]
    if choices:
        header = ["answer by", *(text for text, _, _ in lines)]
        truth = ["truth", *("yes" if right else "no" for _, right, _ in lines)]
        body = [
            [name, *(_answer(answers.get(item * MOST_CHOICES + number), truth=right) for _, right, number in lines)]
            for name, answers in said
        ]
    else:
        header, truth = ["answer by", "answer"], ["truth", str(question.get("answer", "unknown"))]
        body = [[name, {True: "right", False: "wrong", None: "–"}[answers.get(item)]] for name, answers in said]
    return Evidence(
        title=f"{kind.capitalize()}: {question['question']}",
        texts=(f"Video {item // MOST_QUESTIONS}, question {question['question_id']}. ✗: the answer is wrong.",),
        strips=tuple(video),
        table=grid(header, [truth, *body], words=len(header)),
    )


def _answer(right: bool | None, *, truth: bool) -> str:
    """What was said, from whether it was right."""
    if right is None:
        return "–"
    return ("yes" if right == truth else "no") + ("" if right else " ✗")


def _video(dataset: Dataset, split: str, index: int) -> list[Strip]:
    """Frames of a video, and of what came after it where that is known, with outlines of its objects."""
    frames, masks = dataset.frames(split, index), None
    if isinstance(dataset, EmbeddedDataset):
        frames = np.concatenate([frames, dataset.future_frames(split, index)])
        masks = dataset.masks(split, index)
    shown = [number for number in _FRAMES if number < len(frames)]
    pictures = [
        Picture(_jpeg(frames[number], None if masks is None else masks[number]), f"frame {number}", f"{number}")
        for number in shown
    ]
    label = "frames; outlined: objects" if masks is not None else "frames"
    if len(frames) == ROLLOUT_FRAMES:
        label += f"; those from {OBSERVED_FRAMES} on were shown to nobody"
    return [Strip(label, tuple(pictures))]


def _jpeg(frame: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> bytes:
    import cv2

    picture = np.ascontiguousarray(frame[..., ::-1])
    zoom = -(-_LEAST_HEIGHT // len(picture))
    picture = picture.repeat(zoom, axis=0).repeat(zoom, axis=1)
    for number in np.unique(mask[mask > 0]).tolist() if mask is not None else ():
        assert mask is not None
        shape = (mask == number).astype(np.uint8).repeat(zoom, axis=0).repeat(zoom, axis=1)
        outlines, _ = cv2.findContours(shape, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, _COLOURS[(number - 1) % len(_COLOURS)], 1)
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return encoded.tobytes()
