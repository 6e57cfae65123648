"""The questions of a split, in the official schema, with every answer out of its program.

Which questions are asked is decided video by video with those before in mind, so that over the whole split neither the
text of a question nor the answer "as if nothing were removed" tells more than chance: see `selection.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ocwm.errors import BenchError, suggest
from ocwm_tasks.clevrer.generator.descriptive import COUNT_SHARES, SUBTYPES, Candidate, candidates
from ocwm_tasks.clevrer.generator.facts import Facts, Margins, QuestionSource
from ocwm_tasks.clevrer.generator.multiple_choice import KINDS, Asker
from ocwm_tasks.clevrer.generator.selection import TIE, Tally
from ocwm_tasks.clevrer.scene import COLORS, MATERIALS, SHAPES

__all__ = ["QuestionConfig", "QuestionMaker", "QuestionSource"]

# Candidates for each descriptive question that is asked: counts and yes-no answers depend most on how a question is put.
POOL = {"count": 5, "exist": 7, "query_color": 3, "query_material": 3, "query_shape": 4}

CLASSES: Mapping[str, tuple[str, ...]] = {
    "count": ("0", "1", "2", "3", "4", "5"),
    "exist": ("no", "yes"),
    "query_color": COLORS,
    "query_material": MATERIALS,
    "query_shape": SHAPES,
}


@dataclass(frozen=True)
class QuestionConfig:
    """How many questions a video gets at most; the defaults are those of the real set.

    Attributes:
        count, exist, query_color, query_material, query_shape: descriptive questions.
        explanatory, predictive, counterfactual: multiple-choice questions.
        choice_shares: chances that an explanatory or counterfactual question has 2, 3 or 4 options (fewer when there are no more).
        predictive_choices: options of a predictive question.
        more_in_training: descriptive subtype -> further questions of it that a training video gets, so that few videos
            suffice to learn from; development and test videos do not.
        margins: how clear a fact must be to be asked about.

    Errors: BenchError for what `more_in_training` can't be.
    """

    count: int = 4
    exist: int = 2
    query_color: int = 2
    query_material: int = 2
    query_shape: int = 1
    explanatory: int = 2
    predictive: int = 1
    counterfactual: int = 2
    choice_shares: tuple[float, float, float] = (0.1, 0.25, 0.65)
    predictive_choices: int = 2
    more_in_training: Mapping[str, int] = field(default_factory=dict)
    margins: Margins = field(default_factory=Margins)

    def __post_init__(self) -> None:
        for subtype, number in self.more_in_training.items():
            where = f"task.generator.questions.more_in_training.{subtype}"
            if subtype not in SUBTYPES:
                raise BenchError(f"unknown key {where}", suggest(subtype, SUBTYPES))
            if type(number) is not int or number < 0:
                raise BenchError(f"{where}={number} is not possible", "Choose a whole number, 0 or more.")

    def of_training(self) -> QuestionConfig:
        """The same for training videos."""
        more = {subtype: getattr(self, subtype) + number for subtype, number in self.more_in_training.items()}
        return replace(self, more_in_training={}, **more)

    def sizes(self, kind: str) -> dict[int, float]:
        """Numbers of options of a multiple-choice type, and the share of questions that should have as many."""
        if kind == "predictive":
            return {self.predictive_choices: 1.0}
        return {2 + k: share for k, share in enumerate(self.choice_shares)}


class QuestionMaker:
    """Asks about the videos of a split, one after the other, and keeps its questions in balance.

    The first videos are asked about with no balance to keep, so the order should be a drawn one.

    Args:
        config: how many questions.
        rng: decides all that balance leaves open.
    """

    def __init__(self, config: QuestionConfig, rng: np.random.Generator) -> None:
        self._config = config
        self._rng = rng
        self._tallies = {subtype: Tally(len(CLASSES[subtype])) for subtype in SUBTYPES}
        self._askers = {kind: Asker(kind, config.sizes(kind), rng) for kind in KINDS}

    def ask(self, source: QuestionSource) -> dict[str, Any]:
        """The official entry of a video: `{"scene_index", "video_filename", "questions"}`.

        A video may get fewer questions than asked for, of the multiple-choice types none, where the balance of the
        split forbids more.
        """
        facts = Facts(source, self._config.margins)
        questions: list[dict[str, Any]] = []
        for subtype in SUBTYPES:
            questions += self._describe(facts, subtype)
        for kind in KINDS:
            questions += self._askers[kind].ask(facts, getattr(self._config, kind))
        for number, question in enumerate(questions):
            question["question_id"] = number
        index = source.index
        return {"scene_index": index, "video_filename": f"video_{index:05d}.mp4", "questions": questions}

    def _describe(self, facts: Facts, subtype: str) -> list[dict[str, Any]]:
        """Descriptive questions of one subtype."""
        wanted: int = getattr(self._config, subtype)
        if not wanted:
            return []
        pool = candidates(facts, subtype, POOL[subtype] * wanted, self._rng)
        return [
            {
                "question_id": -1,
                "question": c.text,
                "question_type": "descriptive",
                "question_subtype": subtype,
                "program": list(c.program),
                "answer": c.answer,
            }
            for c in _choose(pool, wanted, self._tallies[subtype], self._rng)
        ]


def _choose(pool: Sequence[Candidate], wanted: int, tally: Tally, rng: np.random.Generator) -> list[Candidate]:
    left = list(range(len(pool)))
    marks = [tally.read(c.text, c.frame) for c in pool]
    residuals = np.array([_residual(c) for c in pool])
    chosen: list[Candidate] = []
    while left and len(chosen) < wanted:
        drifts = tally.drifts([marks[k] for k in left], residuals[left]) + TIE * rng.random(len(left))
        best = left.pop(int(drifts.argmin()))
        tally.add(marks[best], residuals[best])
        chosen.append(pool[best])
    return chosen


def _residual(candidate: Candidate) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    classes = CLASSES[candidate.subtype]
    shares = COUNT_SHARES[candidate.support] if candidate.support else (1 / len(classes),) * len(classes)
    residual = -np.array(shares)
    residual[classes.index(candidate.answer)] += 1
    return residual
