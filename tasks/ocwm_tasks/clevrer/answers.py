"""Answer files in the official submission format: written, checked and read back.

The format: a JSON list of `{"scene_index", "questions": [{"question_id", "answer"} | {"question_id", "choices":
[{"choice_id", "answer": "correct" | "wrong"}]}]}`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.accuracy import Outcome
from ocwm_tasks.clevrer.aloe.tokens import (
    ANSWER_IDS,
    ANSWER_NAMES,
    CHOICE_IDS,
    DESCRIPTIVE,
    QUESTION_TYPES,
    UNKNOWN,
    encode_questions,
)

NO_ANSWER = "error"  # what the official executor writes where a program can't be carried out; never right
_HINT = "The format is the one of the CLEVRER test server, with an answer to every question."


class Predicted(Protocol):
    """What is written: predictions by scene, question and choice; see `Outcome`."""

    scene: NDArray[np.int64]
    question_id: NDArray[np.int64]
    choice_id: NDArray[np.int64]
    prediction: NDArray[np.int64]


def submission(predicted: Predicted) -> list[dict[str, Any]]:
    """Return predictions in the submission format, scenes, questions and choices in the order of their ids.

    A negative prediction becomes "error" for a question and "wrong" for a choice.
    """
    scenes: dict[int, dict[int, dict[str, Any]]] = {}
    order = np.lexsort((predicted.choice_id, predicted.question_id, predicted.scene))
    columns = (predicted.scene, predicted.question_id, predicted.choice_id, predicted.prediction)
    for scene, question, choice, answer in zip(*(column[order].tolist() for column in columns), strict=True):
        questions = scenes.setdefault(scene, {})
        if choice == UNKNOWN:
            questions[question] = {"question_id": question, "answer": ANSWER_NAMES[answer] if answer > 0 else NO_ANSWER}
        else:
            entry = questions.setdefault(question, {"question_id": question, "choices": []})
            entry["choices"].append({"choice_id": choice, "answer": "correct" if answer == 1 else "wrong"})
    return [{"scene_index": scene, "questions": list(questions.values())} for scene, questions in scenes.items()]


def write_answers(path: Path, predicted: Predicted) -> None:
    """Write an answer file."""
    path.write_text(json.dumps(submission(predicted)), encoding="utf-8")


def read_answers(path: Path, scenes: Sequence[Mapping[str, Any]]) -> Outcome:
    """Read an answer file against the questions that it answers.

    Args:
        path: the file.
        scenes: question scenes of the official format; their answers may be missing.

    Raises:
        BenchError: not JSON, another layout, a question or choice that is missing, unknown or answered twice, or an
            answer that is none; the first place is named.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(
            f"{path}: cannot be read as JSON ({error})", "Give a file that `answers` has written."
        ) from error
    try:
        said = _flatten(data)
    except (KeyError, TypeError, AttributeError) as error:
        raise BenchError(f"{path}: not an answer file ({type(error).__name__}: {error})", _HINT) from error
    given = dict(said)
    if len(given) < len(said):
        twice = next(key for key, times in Counter(key for key, _ in said).items() if times > 1)
        raise BenchError(f"{path}: {_place(twice)} is answered twice", _HINT)
    asked = set(_asked(scenes))
    for missing in sorted(asked - given.keys()):
        raise BenchError(f"{path}: {_place(missing)} is not answered", _HINT)
    for extra in sorted(given.keys() - asked):
        raise BenchError(f"{path}: {_place(extra)} is not among the questions", _HINT)
    questions = encode_questions(scenes)
    outcome = Outcome.of(questions, np.full(len(questions.question), UNKNOWN, dtype=np.int64))
    columns = (outcome.scene, outcome.question_id, outcome.choice_id)
    for row, key in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        known = ANSWER_IDS | {NO_ANSWER: UNKNOWN} if key[2] == UNKNOWN else CHOICE_IDS
        if given[key] not in known:
            raise BenchError(f"{path}: {_place(key)}: '{given[key]}' is no answer", f"Known: {', '.join(known)}.")
        outcome.prediction[row] = known[given[key]]
    return outcome


_Key = tuple[int, int, int]


def _flatten(data: Iterable[Mapping[str, Any]]) -> list[tuple[_Key, str]]:
    """(scene, question, choice or UNKNOWN) and answer of everything in an answer file."""
    found = []
    for scene in data:
        for question in scene["questions"]:
            place = scene["scene_index"], question["question_id"]
            if "choices" in question:
                found += [((*place, choice["choice_id"]), choice["answer"]) for choice in question["choices"]]
            else:
                found.append(((*place, UNKNOWN), question["answer"]))
    return found


def _asked(scenes: Sequence[Mapping[str, Any]]) -> Iterable[_Key]:
    for scene in scenes:
        for question in scene["questions"]:
            place = scene["scene_index"], question["question_id"]
            if question["question_type"] == QUESTION_TYPES[DESCRIPTIVE]:
                yield (*place, UNKNOWN)
            else:
                for choice in question["choices"]:
                    yield (*place, choice["choice_id"])


def _place(key: _Key) -> str:
    scene, question, choice = key
    return f"scene {scene}, question {question}" + ("" if choice == UNKNOWN else f", choice {choice}")
