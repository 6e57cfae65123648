"""Answers of the symbolic reasoner to the questions of a split, and how good they are.

Shape letters: V videos, S answers (one for each descriptive question and one for each choice of the others).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.clevrer.aloe.tokens import (
    ANSWER_IDS,
    CHOICE_IDS,
    COUNTERFACTUAL,
    DESCRIPTIVE,
    QUESTION_TYPES,
    UNKNOWN,
)
from ocwm_tasks.clevrer.executor import NotExecutable, answer, judge
from ocwm_tasks.clevrer.scene import ROLLOUT_FRAMES
from ocwm_tasks.clevrer.symbolic.reasoner import Reading, Recorder, SymbolicReasoner
from ocwm_tasks.clevrer.symbolic.sources import RemovalSource
from ocwm_tasks.clevrer.symbolic.tracks import Bools, Ints
from ocwm_tasks.clevrer.world import World

ERROR = -2  # the program could not be carried out on what was read: wrong
NOT_EXECUTABLE = -3  # nothing to run: no program, or it asks for what the reading does not cover

Question = Mapping[str, Any]


@dataclass(frozen=True)
class Outcomes:
    """One row for each descriptive question and for each choice; descriptive ones first, each in file order.

    Attributes:
        scene: (S,) int64 scene index.
        question_id: (S,) int64, unique within a scene.
        choice_id: (S,) int64, `UNKNOWN` (-1) for descriptive questions.
        type: (S,) int64 index into QUESTION_TYPES.
        label: (S,) int64 true answer: class of descriptive answers, 1 correct and 0 wrong for choices; `UNKNOWN` where
            the file gives none.
        prediction: (S,) int64 in the same code, `ERROR` or `NOT_EXECUTABLE`.
        flips: (S,) int8: for choices of counterfactual questions 1 where the truth differs from what happens with
            nothing removed, 0 where not; -1 elsewhere and where that is not known.
    """

    scene: Ints
    question_id: Ints
    choice_id: Ints
    type: Ints
    label: Ints
    prediction: Ints
    flips: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.scene)

    @property
    def correct(self) -> Bools:
        """(S,) whether the prediction is the true answer."""
        return np.asarray((self.prediction == self.label) & (self.label != UNKNOWN))

    @property
    def scored(self) -> Bools:
        """(S,) whether there is something to score: a known answer and a program that could be tried."""
        return np.asarray((self.label != UNKNOWN) & (self.prediction != NOT_EXECUTABLE))


@dataclass(frozen=True)
class _Item:
    row: int  # of the video
    scene: int
    kind: int
    question: Question
    choice: Question | None


def answer_questions(
    reasoner: SymbolicReasoner,
    reading: Reading,
    scenes: Sequence[Question],
    *,
    scene_index: Ints,
    removal: RemovalSource | None = None,
    facts: Mapping[int, World] | None = None,
) -> tuple[Outcomes, dict[str, float]]:
    """Answer the questions of the videos that were read.

    Args:
        reasoner: fitted.
        reading: V videos.
        scenes: question scenes of the official format; those of other videos are left out.
        scene_index: (V,) scene index of each video.
        removal: what happens without an object; without it counterfactual questions are not executable.
        facts: true world to frame 159 by scene index, where known: tells which counterfactual options flip.

    Returns:
        The outcomes, and counts: `removals`, `imagined_object_frames` (visible states that the removal rollouts drove),
        `model_calls`.
    """
    items = _items(scenes, scene_index)
    worlds = list(reading.worlds)
    counts = {"removals": 0.0, "imagined_object_frames": 0.0, "model_calls": 0.0}
    asked = _asked(items, worlds)
    if removal is not None and asked:
        pairs, imagined = reasoner.without(reading, asked, removal)
        counts = {
            "removals": float(len(asked)),
            "imagined_object_frames": float(imagined.object_frames),
            "model_calls": float(imagined.calls),
        }
        worlds = [replace(world, counterfactual=pairs.get(row, {})) for row, world in enumerate(worlds)]
    columns = [
        (
            item.scene,
            item.question["question_id"],
            UNKNOWN if item.choice is None else item.choice["choice_id"],
            item.kind,
            _label(item),
            _try(item, worlds[item.row]),
            _flips(item, None if facts is None else facts.get(item.scene)),
        )
        for item in items
    ]
    table = np.array(columns, dtype=np.int64).reshape(-1, 7).T
    scene, question_id, choice_id, kind, label, prediction, flips = table
    outcomes = Outcomes(scene, question_id, choice_id, kind, label, prediction, flips.astype(np.int8))
    return outcomes, counts


def accuracies(outcomes: Outcomes) -> dict[str, tuple[float, int]]:
    """Shares of right answers with the number of items behind each, keyed `type.unit`.

    `descriptive`, `<type>.per_option`, `<type>.per_question` (all options right), and for counterfactual options
    `counterfactual.flipped` and `counterfactual.same`. What can't be scored is left out; a type without items is too.
    """
    found: dict[str, tuple[float, int]] = {}
    scored = outcomes.scored
    for kind, name in enumerate(QUESTION_TYPES):
        mine = scored & (outcomes.type == kind)
        if not mine.any():
            continue
        right = outcomes.correct[mine]
        if kind == DESCRIPTIVE:
            found[name] = float(right.mean()), len(right)
            continue
        found[f"{name}.per_option"] = float(right.mean()), len(right)
        keys = np.stack([outcomes.scene[mine], outcomes.question_id[mine]])
        _, question = np.unique(keys, axis=1, return_inverse=True)
        wrong = np.bincount(question.ravel(), weights=~right)
        found[f"{name}.per_question"] = float((wrong == 0).mean()), len(wrong)
    for name, flips in (("flipped", 1), ("same", 0)):
        mine = scored & (outcomes.flips == flips)
        if mine.any():
            found[f"counterfactual.{name}"] = float(outcomes.correct[mine].mean()), int(mine.sum())
    return found


def _items(scenes: Sequence[Question], scene_index: Ints) -> list[_Item]:
    row_of = {int(scene): row for row, scene in enumerate(scene_index)}
    items = []
    for scene in scenes:
        row = row_of.get(scene["scene_index"])
        for question in scene["questions"] if row is not None else ():
            assert row is not None
            kind = QUESTION_TYPES.index(question["question_type"])
            choices = [None] if kind == DESCRIPTIVE else question["choices"]
            items += [_Item(row, scene["scene_index"], kind, question, choice) for choice in choices]
    return sorted(items, key=lambda item: item.kind != DESCRIPTIVE)


def _asked(items: Sequence[_Item], worlds: Sequence[World]) -> list[tuple[int, int]]:
    """(video, object) of every removal that a question asks about and that can be told from what was read."""
    recorders: dict[int, Recorder] = {}
    for item in items:
        if item.kind == COUNTERFACTUAL:
            recorder = recorders.setdefault(item.row, Recorder())
            _try(item, replace(worlds[item.row], counterfactual=recorder))
    return [(row, thing) for row, recorder in sorted(recorders.items()) for thing in sorted(recorder.asked)]


def _try(item: _Item, world: World) -> int:
    try:
        if item.choice is None:
            return ANSWER_IDS.get(answer(item.question, world), ERROR)
        return CHOICE_IDS.get(judge(item.question, item.choice, world), ERROR)
    except NotExecutable:
        return NOT_EXECUTABLE


def _label(item: _Item) -> int:
    if item.choice is None:
        return ANSWER_IDS.get(item.question.get("answer", ""), UNKNOWN)
    return CHOICE_IDS.get(item.choice.get("answer", ""), UNKNOWN)


def _flips(item: _Item, truth: World | None) -> int:
    """Whether the answer differs from that to "and if nothing were removed?"."""
    if item.kind != COUNTERFACTUAL or truth is None or truth.horizon < ROLLOUT_FRAMES:
        return -1
    happens = frozenset(frozenset(e.objects) for e in truth.events if e.kind == "collision")
    as_if = _try(item, replace(truth, counterfactual=Recorder(happens)))
    label = _label(item)
    return -1 if as_if < 0 or label == UNKNOWN else int(as_if != label)
