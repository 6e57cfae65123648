"""Measures whether questions can be answered without the video: answer shares, a text-only classifier, and shortcuts.

Shape letters: Q questions or options, V text features, C answer classes.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from tabulate import tabulate

from ocwm_tasks.clevrer.executor import judge, run
from ocwm_tasks.clevrer.generator.phrases import words
from ocwm_tasks.clevrer.scene import COLORS, MATERIALS, ROLLOUT_FRAMES, SHAPES
from ocwm_tasks.clevrer.world import World

TYPES = ("explanatory", "predictive", "counterfactual")
PENALTIES = (3.0, 30.0, 300.0)  # of the text-only classifier; the best in cross-validation on the training questions
FOLDS = 3
RARE = 3  # words and word pairs that come up less often are not learned from

Scenes = Sequence[Mapping[str, Any]]

_ATTRIBUTES = re.compile(rf"\b(?:{'|'.join((*COLORS, *MATERIALS))}) ")
_SHAPES = re.compile(rf"\b(?:{'|'.join(SHAPES)})(?=s\b|\b)")


@dataclass(frozen=True)
class Item:
    """One thing to be answered: a descriptive question or an option.

    Attributes:
        part: subtype of a descriptive question, else the type.
        family: the wording of the question without attributes.
        text: question and choice.
        answer: a word, or correct / wrong.
        scene: number of the video.
    """

    part: str
    family: str
    text: str
    answer: str
    scene: int


def family(question: str) -> str:
    """The wording of a question with every object called "object"."""
    return _SHAPES.sub("object", _ATTRIBUTES.sub("", " ".join(words(question))))


def items(scenes: Scenes) -> Iterator[Item]:
    """Everything that has an answer."""
    for scene in scenes:
        index = int(scene["scene_index"])
        for question in scene["questions"]:
            text, kind = str(question["question"]), str(question["question_type"])
            if kind == "descriptive":
                if "answer" in question:
                    part = str(question.get("question_subtype", kind))
                    yield Item(part, family(text), text, str(question["answer"]), index)
                continue
            for choice in question["choices"]:
                if "answer" in choice:
                    yield Item(kind, family(text), f"{text} | {choice['choice']}", str(choice["answer"]), index)


def describe(
    scenes: Scenes, *, train: Scenes | None = None, worlds: Mapping[int, World] | None = None
) -> dict[str, Any]:
    """Measure a split.

    Args:
        scenes: questions in the official schema; those without answers are counted only.
        train: questions of another split, to train the text-only classifier on; None: it is left out.
        worlds: by scene index, with events to frame 159; None: the score of "as if nothing were removed" is left out.

    Returns:
        videos; questions {part: n}; options {type: n}; answers {part: {answer: n}}; families {part: {wording: {answer: n}}};
        correct_options {type: {number of correct options: n}}; majority {part: share of the most frequent answer};
        family_majority {part: share of right answers of somebody who knows the most frequent answer of every wording};
        text_only {part: share of right answers of the classifier}; as_if {score, flipped, n, cells}. Shares are 0..1.
    """
    found = list(items(scenes))
    answers: defaultdict[str, Counter[str]] = defaultdict(Counter)
    families: defaultdict[str, defaultdict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for item in found:
        answers[item.part][item.answer] += 1
        families[item.part][item.family][item.answer] += 1
    questions: Counter[str] = Counter()
    options: Counter[str] = Counter()
    right: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for question in (q for scene in scenes for q in scene["questions"]):
        kind = question["question_type"]
        questions[question.get("question_subtype", kind)] += 1
        if kind != "descriptive":
            options[kind] += len(question["choices"])
            if all("answer" in choice for choice in question["choices"]):
                right[kind][sum(choice["answer"] == "correct" for choice in question["choices"])] += 1
    report: dict[str, Any] = {
        "videos": len(scenes),
        "questions": dict(questions),
        "options": dict(options),
        "answers": {part: dict(counts) for part, counts in answers.items()},
        "families": {part: {text: dict(c) for text, c in by_text.items()} for part, by_text in families.items()},
        "correct_options": {kind: dict(sorted(counts.items())) for kind, counts in right.items()},
        "majority": {part: max(c.values()) / c.total() for part, c in answers.items()},
        "family_majority": {
            part: sum(max(c.values()) for c in by_text.values()) / answers[part].total()
            for part, by_text in families.items()
        },
    }
    if train is not None:
        report["text_only"] = text_only(list(items(train)), found)
    if worlds is not None:
        report["as_if"] = as_if_nothing_removed(scenes, worlds)
    return report


# The classifier


def text_only(train: Sequence[Item], test: Sequence[Item]) -> dict[str, float]:
    """Share of right answers of a linear classifier that reads words and word pairs of question and choice, by part.

    Words of questions with "not" count as words of their own too, so that a turned-round question is no hindrance.
    """
    scores = {}
    for part in sorted({item.part for item in test} & {item.part for item in train}):
        known = [item for item in train if item.part == part]
        asked = [item for item in test if item.part == part]
        seen = Counter(f for item in known for f in _features(item.text))
        vocabulary = {name: k for k, name in enumerate(sorted(f for f, n in seen.items() if n >= RARE))}
        classes = sorted({item.answer for item in known})
        x, y = _matrix(known, vocabulary), np.array([classes.index(item.answer) for item in known])
        folds = np.array([item.scene % FOLDS for item in known])
        penalty = max(PENALTIES, key=lambda p: _validate(x, y, folds, len(classes), p))
        weights = _fit(x, y, len(classes), penalty)
        guesses = (_matrix(asked, vocabulary) @ weights).argmax(axis=1)
        scores[part] = float(np.mean([classes[k] == item.answer for k, item in zip(guesses, asked, strict=True)]))
    return scores


def _features(text: str) -> list[str]:
    pieces = words(text)
    found = list(dict.fromkeys([*pieces, *(f"{a} {b}" for a, b in pairwise(pieces))]))
    return [*found, *(f"not: {name}" for name in found)] if "not" in pieces else found


def _matrix(found: Sequence[Item], vocabulary: Mapping[str, int]) -> csr_matrix:
    """(Q, V + 1) 0/1 matrix; the last column is 1."""
    rows, columns = [], []
    for row, item in enumerate(found):
        known = [vocabulary[f] for f in _features(item.text) if f in vocabulary]
        columns += [*known, len(vocabulary)]
        rows += [row] * (len(known) + 1)
    return csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(found), len(vocabulary) + 1))


def _fit(x: csr_matrix, y: NDArray[np.int64], classes: int, penalty: float) -> NDArray[np.float64]:
    """Softmax regression with a quadratic penalty, (V + 1, C)."""
    wanted = np.eye(classes)[y]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(x.shape[1], classes)
        scores = x @ weights
        scores -= scores.max(axis=1, keepdims=True)
        log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        held = weights.copy()
        held[-1] = 0  # the constant is free
        value = -(wanted * log_p).sum() + 0.5 * penalty * (held**2).sum()
        return float(value), (x.T @ (np.exp(log_p) - wanted) + penalty * held).ravel()

    start = np.zeros(x.shape[1] * classes)
    best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 60})
    return np.asarray(best.x).reshape(x.shape[1], classes)


def _validate(x: csr_matrix, y: NDArray[np.int64], folds: NDArray[np.int64], classes: int, penalty: float) -> float:
    hits = 0
    for fold in range(FOLDS):
        weights = _fit(x[folds != fold], y[folds != fold], classes, penalty)
        hits += int(((x[folds == fold] @ weights).argmax(axis=1) == y[folds == fold]).sum())
    return hits / len(y)


# The shortcut of counterfactual questions


def as_if_nothing_removed(scenes: Scenes, worlds: Mapping[int, World]) -> dict[str, Any]:
    """How somebody fares who answers counterfactual options with what happens by frame 159 when nothing is removed.

    Returns:
        n; score; flipped (share of options whose truth the removal changes); cells {"collides, removed: collides": n, ...}.
        Videos whose future is not known are left out; without any the shares are nan.
    """
    cells: Counter[str] = Counter()
    right = total = 0
    for scene in scenes:
        world = worlds.get(int(scene["scene_index"]))
        if world is None or world.horizon < ROLLOUT_FRAMES:
            continue
        pairs = frozenset(frozenset(e.objects) for e in world.events if e.kind == "collision")
        unchanged = replace(world, counterfactual=dict.fromkeys(range(len(world.objects)), pairs))
        for question in scene["questions"]:
            if question["question_type"] != "counterfactual":
                continue
            for choice in question["choices"]:
                guess = judge(question, choice, unchanged)
                event = run(choice["program"], world)
                happens = frozenset(event.objects) in pairs
                changed = guess != choice["answer"]
                total += 1
                right += not changed
                cells[f"{_does(happens)}, removed: {_does(happens != changed)}"] += 1
    score = right / total if total else float("nan")
    return {"score": score, "flipped": 1 - score, "n": total, "cells": dict(sorted(cells.items()))}


def _does(happens: bool) -> str:
    return "collides" if happens else "passes"


# Text


def render(report: Mapping[str, Any], *, families: bool = False) -> str:
    """Plain-text tables of `describe`; with `families` also the answers of every wording."""
    parts = sorted(
        report["questions"], key=lambda part: (part in TYPES, TYPES.index(part) if part in TYPES else 0, part)
    )
    scores = report.get("text_only", {})
    rows = [
        [
            part,
            report["questions"].get(part, 0),
            report["options"].get(part, ""),
            _percent(report["majority"].get(part)),
            _percent(report["family_majority"].get(part)),
            _percent(scores.get(part)),
            "" if part not in scores else f"{100 * (scores[part] - report['majority'][part]):+.1f}",
            _shares(report["answers"].get(part, {})),
        ]
        for part in parts
    ]
    heads = ["", "questions", "options", "majority %", "by wording %", "text only %", "over majority", "answers %"]
    blocks = [f"{report['videos']} videos", _table(rows, heads)]
    correct = [[kind, _shares(counts)] for kind, counts in report["correct_options"].items()]
    blocks.append(_table(correct, ["", "questions with 0, 1, 2, ... correct options, %"]))
    if report.get("as_if", {}).get("n"):
        shortcut = report["as_if"]
        blocks.append(
            f"counterfactual options answered as if nothing were removed: {_percent(shortcut['score'])} % right of "
            f"{shortcut['n']}; the removal flips {_percent(shortcut['flipped'])} %"
        )
        blocks.append(_table([[name, n] for name, n in shortcut["cells"].items()], ["the pair", "options"]))
    if families:
        for part in parts:
            by_size = sorted(report["families"].get(part, {}).items(), key=lambda entry: -sum(entry[1].values()))
            rows = [[text, sum(counts.values()), _shares(counts)] for text, counts in by_size]
            blocks.append(_table(rows, [part, "n", "answers %"]))
    return "\n\n".join(blocks)


def _table(rows: Iterable[Sequence[Any]], heads: Sequence[str]) -> str:
    return str(tabulate(list(rows), headers=list(heads), tablefmt="plain", disable_numparse=True))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _shares(counts: Mapping[Any, int]) -> str:
    total = sum(counts.values())
    return "  ".join(f"{answer} {100 * n / total:.0f}" for answer, n in sorted(counts.items()))
