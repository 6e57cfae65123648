"""Answers of the symbolic reasoner to the questions of a split.

Shape letters: V videos, S answers (one for each descriptive question and one for each choice of the others).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.clevrer.accuracy import Items, Outcome
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
class SymbolicOutcome(Outcome):
    """Answers with what only programs know of; `prediction` may be `ERROR` or `NOT_EXECUTABLE`.

    Attributes:
        flips: (S,) int8: for options of counterfactual questions 1 where the truth differs from what happens with
            nothing removed, 0 where not; -1 elsewhere and where that is not known.
    """

    flips: NDArray[np.int8]

    @property
    def scored(self) -> Bools:
        """(S,) whether there is something to score: a known answer and a program that could be tried."""
        return np.asarray((self.label != UNKNOWN) & (self.prediction != NOT_EXECUTABLE))

    @property
    def by_flip(self) -> dict[str, Items]:
        """Counterfactual options whose truth flips against the observation, and those whose truth does not."""
        return {
            f"counterfactual.{name}": self.options(self.flips == value) for name, value in (("flipped", 1), ("same", 0))
        }


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
) -> tuple[SymbolicOutcome, dict[str, float]]:
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
    outcomes = SymbolicOutcome(scene, question_id, choice_id, kind, label, prediction, flips.astype(np.int8))
    return outcomes, counts


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
