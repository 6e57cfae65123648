"""The questions of a split, in the official schema, with every answer out of its program.

Which questions are asked is decided over the whole split, so that neither the text of a question nor the answer "as if nothing
were removed" tells more than chance: see `selection.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ocwm_tasks.clevrer.generator.descriptive import COUNT_SHARES, SUBTYPES, Candidate, candidates
from ocwm_tasks.clevrer.generator.facts import Facts, Margins, QuestionSource
from ocwm_tasks.clevrer.generator.multiple_choice import KINDS, Asker
from ocwm_tasks.clevrer.generator.selection import TIE, Tally
from ocwm_tasks.clevrer.scene import COLORS, MATERIALS, SHAPES

__all__ = ["QuestionConfig", "QuestionSource", "make_questions"]

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
        margins: how clear a fact must be to be asked about.
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
    margins: Margins = field(default_factory=Margins)


def make_questions(
    sources: Sequence[QuestionSource], config: QuestionConfig, *, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Ask about the videos of one split; returns the official list of scenes.

    Videos are gone through in a drawn order, so that early ones are not different from late ones. A video may get fewer
    questions than asked for, of the multiple-choice types none, where the balance of the split forbids more.
    """
    facts = [Facts(source, config.margins) for source in sources]
    asked: list[list[dict[str, Any]]] = [[] for _ in facts]
    _ask_descriptive(facts, asked, config, rng)
    for kind in KINDS:
        fewest = config.predictive_choices if kind == "predictive" else 2
        shares = (1.0,) if kind == "predictive" else config.choice_shares
        asker = Asker(kind, {fewest + k: share for k, share in enumerate(shares)}, rng)
        for video in rng.permutation(len(facts)).tolist():
            asked[video] += asker.ask(facts[video], getattr(config, kind))
    scenes = []
    for known, questions in zip(facts, asked, strict=True):
        for number, question in enumerate(questions):
            question["question_id"] = number
        index = known.source.index
        scenes.append({"scene_index": index, "video_filename": f"video_{index:05d}.mp4", "questions": questions})
    return scenes


# Descriptive


def _ask_descriptive(
    facts: Sequence[Facts], asked: list[list[dict[str, Any]]], config: QuestionConfig, rng: np.random.Generator
) -> None:
    for subtype in SUBTYPES:
        wanted: int = getattr(config, subtype)
        tally = Tally(len(CLASSES[subtype]))
        for video in rng.permutation(len(facts)).tolist() if wanted else ():
            pool = candidates(facts[video], subtype, POOL[subtype] * wanted, rng)
            chosen = _choose(pool, wanted, tally, rng)
            asked[video] += [
                {
                    "question_id": -1,
                    "question": c.text,
                    "question_type": "descriptive",
                    "question_subtype": subtype,
                    "program": list(c.program),
                    "answer": c.answer,
                }
                for c in chosen
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
