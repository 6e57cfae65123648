"""How good answers are: by ids; and the published script, which goes by position.

Shape letters: S answers (one for each descriptive question and one for each choice of the others), Q questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ocwm.stats import weighted_mean
from ocwm.types import Metric
from ocwm_tasks.clevrer.aloe.tokens import DESCRIPTIVE, QUESTION_TYPES, UNKNOWN, QuestionSet

INTERVAL = "bootstrap over videos"
MOST_QUESTIONS, MOST_CHOICES = 1000, 10  # of a video and of a question: places in the number of an item


class Answered(Protocol):
    """What accuracies are computed from; `Outcome` is one."""

    @property
    def scene(self) -> NDArray[np.int64]:
        """(S,) scene index."""

    @property
    def question_id(self) -> NDArray[np.int64]:
        """(S,) unique within a scene."""

    @property
    def choice_id(self) -> NDArray[np.int64]:
        """(S,) unique within a question, UNKNOWN for descriptive questions."""

    @property
    def type(self) -> NDArray[np.int64]:
        """(S,) index into QUESTION_TYPES."""

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(S,) whether the answer is right."""

    @property
    def scored(self) -> NDArray[np.bool_]:
        """(S,) whether it counts."""


@dataclass(frozen=True)
class Outcome:
    """Answers to questions; one row for each descriptive question and for each choice of the others.

    Attributes:
        scene: (S,) int64 scene index.
        question_id: (S,) int64, unique within a scene.
        choice_id: (S,) int64, UNKNOWN for descriptive questions.
        type: (S,) int64 index into QUESTION_TYPES.
        label: (S,) int64 true answer: class of descriptive answers, 1 correct and 0 wrong for choices; UNKNOWN where
            the file gives none.
        prediction: (S,) int64 in the same code; a negative number where there is no answer.
    """

    scene: NDArray[np.int64]
    question_id: NDArray[np.int64]
    choice_id: NDArray[np.int64]
    type: NDArray[np.int64]
    label: NDArray[np.int64]
    prediction: NDArray[np.int64]

    @classmethod
    def of(cls, questions: QuestionSet, prediction: NDArray[np.int64]) -> Outcome:
        """Put predictions (S,), one for each sequence of `questions`, beside the true answers."""
        row = questions.question
        return cls(
            scene=questions.scene[row],
            question_id=questions.question_id[row],
            choice_id=questions.choice_id,
            type=questions.type[row],
            label=questions.label,
            prediction=prediction,
        )

    def __len__(self) -> int:
        return len(self.scene)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(S,) whether the prediction is the true answer."""
        return np.asarray((self.prediction == self.label) & self.scored)

    @property
    def scored(self) -> NDArray[np.bool_]:
        """(S,) whether the true answer is known."""
        return np.asarray(self.label != UNKNOWN)

    def options(self, chosen: NDArray[np.bool_]) -> Items:
        """Items of the chosen (S,) rows that count."""
        kept = self.scored & chosen
        asked = self.scene * MOST_QUESTIONS + self.question_id
        return Items(self.correct[kept], self.scene[kept], (asked * MOST_CHOICES + self.choice_id.clip(min=0))[kept])


@dataclass(frozen=True)
class Items:
    """The items behind one figure: right or wrong, and the video and a number of each that is the same in every run."""

    right: NDArray[np.bool_]
    scene: NDArray[np.int64]
    number: NDArray[np.int64]
    weight: NDArray[np.float64] | None = None

    def share(self) -> float:
        """Weighted share of right items, 0 where there are none."""
        return weighted_mean(self.right, self.weight) if len(self.right) else 0.0


def figures(answers: Answered) -> dict[str, Items]:
    """Split answers into the items of each figure; figures without items are left out.

    Returns:
        `<type>.per_option` and `<type>.per_question` (all options of a question right) for the multiple-choice
        types, `descriptive.per_question`, `multiple_choice.per_question` over the three of them together,
        `average.per_question` over all questions, and `mean_over_types.per_question`, in which every type weighs the
        same however many questions it has.
    """
    scored = answers.scored
    right, scene, kind = answers.correct[scored], answers.scene[scored], answers.type[scored]
    asked = scene * MOST_QUESTIONS + answers.question_id[scored]
    option = asked * MOST_CHOICES + answers.choice_id[scored].clip(min=0)
    keys, question = np.unique(np.stack([scene, asked]), axis=1, return_inverse=True)
    question = question.reshape(-1)
    wrong = np.bincount(question, weights=~right, minlength=keys.shape[1])
    solved, (of_scene, numbers) = wrong == 0, keys
    of_type = np.zeros(keys.shape[1], dtype=np.int64)
    of_type[question] = kind
    found: dict[str, Items] = {}
    for number, name in enumerate(QUESTION_TYPES):
        if number != DESCRIPTIVE:
            found[f"{name}.per_option"] = Items(right[kind == number], scene[kind == number], option[kind == number])
        found[f"{name}.per_question"] = Items(
            solved[of_type == number], of_scene[of_type == number], numbers[of_type == number]
        )
    chosen = of_type != DESCRIPTIVE
    found["multiple_choice.per_question"] = Items(solved[chosen], of_scene[chosen], numbers[chosen])
    found["average.per_question"] = Items(solved, of_scene, numbers)
    weight = 1.0 / np.bincount(of_type, minlength=len(QUESTION_TYPES)).clip(min=1)[of_type]
    found["mean_over_types.per_question"] = Items(solved, of_scene, numbers, weight)
    return {name: items for name, items in found.items() if len(items.right)}


DECLARED = (
    "descriptive.per_question",
    *(f"{name}.{unit}" for name in QUESTION_TYPES[1:] for unit in ("per_option", "per_question")),
    "average.per_question",
    "mean_over_types.per_question",
)


def declare(reasoner: str, types: Sequence[str] = QUESTION_TYPES) -> tuple[Metric, ...]:
    """The metrics of a reasoner that is asked questions of these types, in the order of the tables."""
    asked = [key for key in DECLARED if (name := key.split(".")[0]) in types or name not in QUESTION_TYPES]
    return tuple(Metric(f"{reasoner}.{key}", "%", higher_is_better=True) for key in asked)


@dataclass(frozen=True)
class PublishedReport:
    """What the published script prints: its lines, and how many pairs of question and answer it dropped."""

    lines: tuple[str, ...]
    invalid: int


def published_report(truth: Sequence[Mapping[str, Any]], predicted: Sequence[Mapping[str, Any]]) -> PublishedReport:
    """Score an answer file as the script released with C-JEPA does.

    Within a scene the script pairs questions and choices by their place in the lists. A pair of questions with
    different ids is dropped and only counted; options beyond the true ones are not looked at, but a question whose
    lists differ in length is never right. Use `figures` for anything but comparing with published figures.

    Args:
        truth: question scenes of the official format, with answers.
        predicted: scenes of an answer file.
    """
    tally = dict.fromkeys(DECLARED[:-2], (0, 0))  # all but the averages
    invalid = 0

    def count(key: str, right: int, total: int) -> None:
        tally[key] = (tally[key][0] + right, tally[key][1] + total)

    given = {scene["scene_index"]: scene["questions"] for scene in predicted}
    for scene in truth:
        for question, answer in zip(scene["questions"], given.get(scene["scene_index"], ()), strict=False):
            kind = question["question_type"]
            if question["question_id"] != answer["question_id"]:
                invalid += 1
            elif kind == QUESTION_TYPES[DESCRIPTIVE]:
                count("descriptive.per_question", question["answer"] == answer.get("answer"), 1)
            else:
                wanted = [choice["answer"] for choice in question["choices"]]
                said = [choice["answer"] for choice in answer.get("choices", ())]
                matches = [a == b for a, b in zip(wanted, said, strict=False)]
                count(f"{kind}.per_option", sum(matches), len(matches))
                count(f"{kind}.per_question", wanted == said, 1)
    lines = []
    for key, (right, total) in tally.items():
        name, unit = key.split(".")
        label = "descriptive accuracy" if name == "descriptive" else f"{name} accuracy {unit.replace('_', ' ')}"
        lines.append(_line(label, right, total))
    questions = [value for key, value in tally.items() if key.endswith(".per_question")]
    lines.append(_line("Overall accuracy", sum(right for right, _ in questions), sum(total for _, total in questions)))
    return PublishedReport(tuple(lines), invalid)


def _line(label: str, right: int, total: int) -> str:
    return f"{label}: {100 * right / total if total else 0.0:.2f}% ({right}/{total})"
