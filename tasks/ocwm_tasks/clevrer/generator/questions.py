"""The questions of a split, in the official schema, with every answer out of its program.

Which questions are asked is decided over the whole split, so that neither the text of a question nor the answer "as if nothing
were removed" tells more than chance: see `selection.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ocwm_tasks.clevrer.executor import judge
from ocwm_tasks.clevrer.generator import choices
from ocwm_tasks.clevrer.generator.choices import Option
from ocwm_tasks.clevrer.generator.descriptive import COUNT_SHARES, SUBTYPES, Candidate, candidates
from ocwm_tasks.clevrer.generator.facts import Facts, Margins, QuestionSource
from ocwm_tasks.clevrer.generator.phrases import Phrase, pick
from ocwm_tasks.clevrer.generator.selection import Contrasts, Marks, Tally, draw
from ocwm_tasks.clevrer.scene import COLORS, MATERIALS, SHAPES

__all__ = ["QuestionConfig", "QuestionSource", "make_questions"]

CAP = 5  # how far the counts of correct and wrong options of a wording may be apart at any time
PULL = 0.4  # how strongly the scarcer of the two is preferred
WORDINGS = {"explanatory": 12, "predictive": 20, "counterfactual": 8}  # of the options of a cell, to choose from
POOL = 4  # candidates for each descriptive question that is asked

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
    for makers in (_descriptive, _multiple_choice):
        makers(facts, asked, config, rng)
    scenes = []
    for known, questions in zip(facts, asked, strict=True):
        for number, question in enumerate(questions):
            question["question_id"] = number
        index = known.source.index
        scenes.append({"scene_index": index, "video_filename": f"video_{index:05d}.mp4", "questions": questions})
    return scenes


# Descriptive


def _descriptive(
    facts: Sequence[Facts], asked: list[list[dict[str, Any]]], config: QuestionConfig, rng: np.random.Generator
) -> None:
    for subtype in SUBTYPES:
        wanted: int = getattr(config, subtype)
        tally = Tally(len(CLASSES[subtype]))
        for video in rng.permutation(len(facts)).tolist() if wanted else ():
            pool = candidates(facts[video], subtype, POOL * wanted, rng)
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
    left = [(c, tally.read(c.text, c.frame), _residual(c)) for c in pool]
    chosen = []
    while left and len(chosen) < wanted:
        drifts = [tally.drift(marks, residual) + 1e-3 * float(rng.random()) for _, marks, residual in left]
        candidate, marks, residual = left.pop(int(np.argmin(drifts)))
        tally.add(marks, residual)
        chosen.append(candidate)
    return chosen


def _residual(candidate: Candidate) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    classes = CLASSES[candidate.subtype]
    shares = COUNT_SHARES[candidate.support] if candidate.support else (1 / len(classes),) * len(classes)
    residual = -np.array(shares)
    residual[classes.index(candidate.answer)] += 1
    return residual


# Multiple choice


@dataclass(frozen=True)
class _Worded:
    option: Option
    phrase: Phrase
    marks: Marks


def _multiple_choice(
    facts: Sequence[Facts], asked: list[list[dict[str, Any]]], config: QuestionConfig, rng: np.random.Generator
) -> None:
    for kind, options_of, negatable in (
        ("explanatory", choices.explanatory_options, True),
        ("predictive", choices.predictive_options, False),
        ("counterfactual", choices.counterfactual_options, True),
    ):
        tally, contrasts = Tally(1), Contrasts(cap=CAP, pull=PULL)
        for video in rng.permutation(len(facts)).tolist():
            known = facts[video]
            options = options_of(known)
            for _ in range(getattr(config, kind)):
                negated = negatable and bool(rng.random() < 0.5)
                size = config.predictive_choices if kind == "predictive" else 2 + _draw_size(config, rng)
                question, used = _ask(known, kind, options, negated, size, tally, contrasts, rng)
                if question is None:
                    continue
                asked[video].append(question)
                options = [o for o in options if o not in used]


def _draw_size(config: QuestionConfig, rng: np.random.Generator) -> int:
    drawn = draw(config.choice_shares, rng)
    return 0 if drawn is None else drawn


def _ask(
    facts: Facts,
    kind: str,
    options: Sequence[Option],
    negated: bool,
    size: int,
    tally: Tally,
    contrasts: Contrasts,
    rng: np.random.Generator,
) -> tuple[dict[str, Any] | None, list[Option]]:
    """Put together one question option by option; None when fewer than two options can be balanced."""
    subject_words: Phrase | None = None
    chosen: list[_Worded] = []
    frame = f"{kind}-{'not' if negated else 'yes'}"
    left = list(options)
    while left and len(chosen) < size:
        option_cell = _draw_cell(left, negated, frame, contrasts, rng)
        if not option_cell:
            break
        if subject_words is None:
            subject = pick(rng, option_cell).subject
            option_cell = [o for o in option_cell if o.subject == subject]
            left = [o for o in left if o.subject == subject]
            if len(left) < 2:
                return None, []
            subject_words = _word_question(facts, kind, subject, negated, rng)
        best = _best_wording(facts, kind, option_cell, subject_words, negated, frame, tally, rng)
        tally.add(best.marks, _answer_sign(best.option, negated))
        contrasts.add(_signs(best.option, negated, frame))
        chosen.append(best)
        left = [o for o in left if o is not best.option]
    if subject_words is None or len(chosen) < 2:
        for worded in chosen:
            tally.add(worded.marks, _answer_sign(worded.option, negated), -1)
            contrasts.add(_signs(worded.option, negated, frame), -1)
        return None, []
    return _question(facts, kind, subject_words, [chosen[k] for k in rng.permutation(len(chosen))]), [
        w.option for w in chosen
    ]


def _answer_sign(option: Option, negated: bool) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.array([1.0 if option.holds != negated else -1.0])


def _signs(option: Option, negated: bool, frame: str) -> list[tuple[Hashable, int]]:
    """Counts that the option adds to: right answers of its wording and form, and whatever the option itself names."""
    right = 1 if option.holds != negated else -1
    return [(frame, right), ((frame, option.form), right), *(((frame, key), sign) for key, sign in option.signs)]


def _draw_cell(
    options: Sequence[Option], negated: bool, frame: str, contrasts: Contrasts, rng: np.random.Generator
) -> list[Option]:
    """Options that count alike, the scarcer kinds more often."""
    cells: dict[tuple[tuple[Hashable, int], ...], list[Option]] = {}
    for option in options:
        cells.setdefault(tuple(_signs(option, negated, frame)), []).append(option)
    drawn = draw([contrasts.weight(signs) for signs in cells], rng)
    return [] if drawn is None else list(cells.values())[drawn]


def _word_question(facts: Facts, kind: str, subject: Any, negated: bool, rng: np.random.Generator) -> Phrase:
    if kind == "explanatory":
        return choices.word_explanatory(facts, subject, negated, rng)
    if kind == "predictive":
        return choices.word_predictive(rng)
    return choices.word_counterfactual(facts, subject, negated, rng)


def _best_wording(
    facts: Facts,
    kind: str,
    cell: Sequence[Option],
    question: Phrase,
    negated: bool,
    frame: str,
    tally: Tally,
    rng: np.random.Generator,
) -> _Worded:
    """Of several options of a cell, in several wordings, the one whose text gives least away."""
    word: Callable[[Facts, Any, np.random.Generator], Phrase]
    word = choices.word_cause if kind == "explanatory" else choices.word_pair
    best: tuple[float, _Worded] | None = None
    for _ in range(WORDINGS[kind]):
        option = pick(rng, cell)
        phrase = word(facts, option.content, rng)
        marks = tally.read(f"{question.text} {phrase.text}", frame, option.hints)
        drift = tally.drift(marks, _answer_sign(option, negated)) + 1e-3 * float(rng.random())
        if best is None or drift < best[0]:
            best = drift, _Worded(option, phrase, marks)
    assert best is not None
    return best[1]


def _question(facts: Facts, kind: str, words: Phrase, options: Sequence[_Worded]) -> dict[str, Any]:
    question: dict[str, Any] = {
        "question_id": -1,
        "question": words.text,
        "question_type": kind,
        "program": list(words.program),
    }
    question["choices"] = [
        {"choice_id": number, "choice": worded.phrase.text, "program": list(worded.phrase.program)}
        for number, worded in enumerate(options)
    ]
    for choice in question["choices"]:
        choice["answer"] = judge(question, choice, facts.world)
    return question
