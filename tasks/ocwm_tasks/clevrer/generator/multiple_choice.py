"""Puts explanatory, predictive and counterfactual questions together, option by option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.clevrer.executor import judge
from ocwm_tasks.clevrer.generator import choices
from ocwm_tasks.clevrer.generator.choices import Option
from ocwm_tasks.clevrer.generator.facts import Facts
from ocwm_tasks.clevrer.generator.phrases import Phrase, pick
from ocwm_tasks.clevrer.generator.selection import TIE, Counts, Marks, Place, Tally, draw

KINDS = ("explanatory", "predictive", "counterfactual")

CAP = 6  # how many more options one cell may hold than the smallest of its group
PULL = 0.5  # how strongly the smaller cells are preferred
# Wordings of each option to choose from: more where so few pairs collide that there is little else to choose.
WORDINGS = {"explanatory": 10, "predictive": 16, "counterfactual": 8}


@dataclass(frozen=True)
class _Worded:
    option: Option
    phrase: Phrase
    marks: Marks
    places: list[Place]
    residual: NDArray[np.float64]


class Asker:
    """Asks questions of one type about the videos of a split, one video after the other, and keeps them in balance.

    Args:
        kind: see `KINDS`.
        sizes: number of options and the share of questions that should have as many.
        rng: decides all that balance leaves open.
    """

    def __init__(self, kind: str, sizes: Mapping[int, float], rng: np.random.Generator) -> None:
        self._kind = kind
        self._sizes = sizes
        self._rng = rng
        self._tally = Tally(1)
        self._counts = Counts(cap=CAP, pull=PULL)

    def ask(self, facts: Facts, number: int) -> list[dict[str, Any]]:
        """Up to `number` questions about a video, fewer or none where there is nothing to ask or balance forbids it."""
        options = self._options(facts)
        questions = []
        for _ in range(number):
            negated = self._kind != "predictive" and bool(self._rng.random() < 0.5)
            words, chosen = self._compose(facts, options, negated)
            if words is not None:
                questions.append(self._question(facts, words, chosen))
                used = [worded.option for worded in chosen]
                options = [o for o in options if not any(o is u for u in used)]
        return questions

    def _compose(self, facts: Facts, options: Sequence[Option], negated: bool) -> tuple[Phrase | None, list[_Worded]]:
        """Wording and options of one question; no wording when fewer than two options can be balanced."""
        size = list(self._sizes)[draw(list(self._sizes.values()), self._rng) or 0]
        words: Phrase | None = None
        chosen: list[_Worded] = []
        left = list(options)
        while left and len(chosen) < size:
            cell = self._draw_cell(left, negated)
            if words is None and cell:
                # The first option decides what the question is about.
                subject = pick(self._rng, cell).subject
                words = self._word_question(facts, subject, negated)
                cell = [o for o in cell if o.subject == subject]
                left = [o for o in left if o.subject == subject]
            if words is None or not cell:
                break
            best = self._best_wording(facts, cell, negated)
            best.marks.extend(self._tally.read(words.text, str(negated))[1:])
            self._count(best, 1)
            chosen.append(best)
            left = [o for o in left if o is not best.option]
        if len(chosen) < 2:
            for worded in chosen:
                self._count(worded, -1)
            return None, []
        return words, [chosen[k] for k in self._rng.permutation(len(chosen))]

    def _draw_cell(self, options: Sequence[Option], negated: bool) -> list[Option]:
        """Options that count alike, of smaller cells more often."""
        cells: dict[tuple[Place, ...], list[Option]] = {}
        for option in options:
            cells.setdefault(tuple(self._places(option, negated)), []).append(option)
        drawn = draw([self._counts.weight(places) for places in cells], self._rng)
        return [] if drawn is None else list(cells.values())[drawn]

    def _places(self, option: Option, negated: bool) -> list[Place]:
        right = option.holds != negated
        if option.observed is not None:
            return [Place(negated, (right, option.observed))]
        return [Place(negated, (right,)), Place((negated, option.form), (right,))]

    def _count(self, worded: _Worded, times: int) -> None:
        self._tally.add(worded.marks, worded.residual, times)
        self._counts.add(worded.places, times)

    def _best_wording(self, facts: Facts, cell: Sequence[Option], negated: bool) -> _Worded:
        """Of several options of a cell, in several wordings, the one whose text gives least away.

        The marks of the question are the same for all of them and need not be compared.
        """
        wording = str(negated)
        drawn = [pick(self._rng, cell) for _ in range(WORDINGS[self._kind])]
        phrases = [self._word_option(facts, option) for option in drawn]
        marks = [self._tally.read(p.text, wording, o.hints) for p, o in zip(phrases, drawn, strict=True)]
        residual = np.array([1.0 if drawn[0].holds != negated else -1.0])
        drifts = self._tally.drifts(marks, np.tile(residual, (len(drawn), 1))) + TIE * self._rng.random(len(drawn))
        best = int(drifts.argmin())
        return _Worded(drawn[best], phrases[best], marks[best], self._places(drawn[best], negated), residual)

    def _options(self, facts: Facts) -> list[Option]:
        if self._kind == "explanatory":
            return choices.explanatory_options(facts)
        return (
            choices.predictive_options(facts) if self._kind == "predictive" else choices.counterfactual_options(facts)
        )

    def _word_question(self, facts: Facts, subject: Any, negated: bool) -> Phrase:
        if self._kind == "explanatory":
            return choices.word_explanatory(facts, subject, negated, self._rng)
        if self._kind == "predictive":
            return choices.word_predictive(self._rng)
        return choices.word_counterfactual(facts, subject, negated, self._rng)

    def _word_option(self, facts: Facts, option: Option) -> Phrase:
        content: Any = option.content
        if self._kind == "explanatory":
            return choices.word_cause(facts, content, self._rng)
        return choices.word_pair(facts, content, self._rng)

    def _question(self, facts: Facts, words: Phrase, options: Sequence[_Worded]) -> dict[str, Any]:
        question: dict[str, Any] = {
            "question_id": -1,
            "question": words.text,
            "question_type": self._kind,
            "program": list(words.program),
        }
        question["choices"] = [
            {"choice_id": number, "choice": worded.phrase.text, "program": list(worded.phrase.program)}
            for number, worded in enumerate(options)
        ]
        for choice in question["choices"]:
            choice["answer"] = judge(question, choice, facts.world)
        return question
