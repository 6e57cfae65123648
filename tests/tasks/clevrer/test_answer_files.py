from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.accuracy import Outcome
from ocwm_tasks.clevrer.aloe.tokens import ANSWER_IDS, encode_questions
from ocwm_tasks.clevrer.answers import read_answers, submission, write_answers

SCENES: list[dict[str, Any]] = [
    {
        "scene_index": 15001,
        "questions": [
            {"question_id": 0, "question_type": "descriptive", "question": "how many cubes"},
            {"question_id": 1, "question_type": "descriptive", "question": "are there any spheres"},
            {
                "question_id": 2,
                "question_type": "predictive",
                "question": "what will happen next",
                "choices": [
                    {"choice_id": 0, "choice": "the cube exits"},
                    {"choice_id": 1, "choice": "the sphere exits"},
                ],
            },
        ],
    },
    {
        "scene_index": 15000,
        "questions": [{"question_id": 0, "question_type": "descriptive", "question": "what color is the cube"}],
    },
]


def outcome() -> Outcome:
    prediction = np.array([ANSWER_IDS["2"], ANSWER_IDS["no"], ANSWER_IDS["red"], 1, 0])
    return Outcome.of(encode_questions(SCENES), prediction)


def test_official_layout() -> None:
    assert submission(outcome()) == [
        {"scene_index": 15000, "questions": [{"question_id": 0, "answer": "red"}]},
        {
            "scene_index": 15001,
            "questions": [
                {"question_id": 0, "answer": "2"},
                {"question_id": 1, "answer": "no"},
                {
                    "question_id": 2,
                    "choices": [{"choice_id": 0, "answer": "correct"}, {"choice_id": 1, "answer": "wrong"}],
                },
            ],
        },
    ]


def test_written_answers_come_back(tmp_path: Path) -> None:
    path = tmp_path / "CLEVRER.json"
    write_answers(path, outcome())
    assert (read_answers(path, SCENES).prediction == outcome().prediction).all()


def test_what_could_not_be_answered_is_never_right(tmp_path: Path) -> None:
    path = tmp_path / "CLEVRER.json"
    predicted = outcome()
    predicted.prediction[:] = -2
    write_answers(path, predicted)
    assert json.loads(path.read_text())[0]["questions"][0]["answer"] == "error"
    assert read_answers(path, SCENES).prediction.tolist() == [-1, -1, -1, 0, 0]


def drop_scene(data: list[Any]) -> None:
    del data[0]


def drop_choice(data: list[Any]) -> None:
    del data[1]["questions"][2]["choices"][1]


def add_question(data: list[Any]) -> None:
    data[0]["questions"].append({"question_id": 7, "answer": "red"})


def double_choices(data: list[Any]) -> None:
    data[1]["questions"][2]["choices"] *= 2


def wrong_word(data: list[Any]) -> None:
    data[0]["questions"][0]["answer"] = "crimson"


def no_id(data: list[Any]) -> None:
    del data[0]["questions"][0]["question_id"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_scene, "scene 15000, question 0 is not answered"),
        (drop_choice, "scene 15001, question 2, choice 1 is not answered"),
        (add_question, "scene 15000, question 7 is not among the questions"),
        (double_choices, "scene 15001, question 2, choice 0 is answered twice"),
        (wrong_word, "scene 15000, question 0: 'crimson' is no answer"),
        (no_id, "not an answer file.*question_id"),
    ],
)
def test_flaws_are_named(tmp_path: Path, damage: Callable[[list[Any]], None], message: str) -> None:
    data = copy.deepcopy(submission(outcome()))
    damage(data)
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(data))
    with pytest.raises(BenchError, match=message):
        read_answers(path, SCENES)


@pytest.mark.parametrize("content", ["[{", "7", '{"scene_index": 1}', "[1]"])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "answers.json"
    path.write_text(content)
    with pytest.raises(BenchError, match=r"answers\.json"):
        read_answers(path, SCENES)
    with pytest.raises(BenchError, match=r"missing\.json"):
        read_answers(tmp_path / "missing.json", SCENES)
