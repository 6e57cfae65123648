from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.aloe.tokens import (
    ANSWER_IDS,
    ANSWER_NAMES,
    UNKNOWN,
    WORD_IDS,
    FrameChoice,
    encode_questions,
    tokenize,
)


def descriptive(number: int, text: str, answer: str | None = "yes") -> dict[str, Any]:
    question = {"question_id": number, "question_type": "descriptive", "question": text}
    return question if answer is None else {**question, "answer": answer}


def predictive(number: int, *choices: str) -> dict[str, Any]:
    entries = [{"choice_id": k, "choice": text, "answer": "correct"} for k, text in enumerate(choices)]
    return {
        "question_id": number,
        "question_type": "predictive",
        "question": "What will happen next?",
        "choices": entries,
    }


def scene(index: int, *questions: dict[str, Any]) -> dict[str, Any]:
    return {"scene_index": index, "questions": list(questions)}


def test_ids_are_the_published_ones() -> None:
    assert len(WORD_IDS) == 81
    assert (WORD_IDS["after"], WORD_IDS["cube's"], WORD_IDS["cube,"], WORD_IDS["yellow"]) == (1, 17, 18, 81)
    assert len(ANSWER_IDS) == 21
    assert (ANSWER_IDS["0"], ANSWER_IDS["blue"], ANSWER_IDS["yes"]) == (1, 7, 21)
    assert all(ANSWER_NAMES[number] == name for name, number in ANSWER_IDS.items())


def test_text_is_split_at_spaces_only() -> None:
    text = "If the Cube, is  removed, what will happen?"
    words = ["if", "the", "cube,", "is", "removed,", "what", "will", "happen"]
    assert tokenize(text, length=20, where="") == [WORD_IDS[word] for word in words]


def test_an_unknown_word_is_named_with_its_place() -> None:
    with pytest.raises(BenchError, match=r"scene 7, question 3.*'spheer'.*Did you mean 'sphere'"):
        encode_questions([scene(7, descriptive(3, "What is the spheer?"))])


def test_nothing_is_cut() -> None:
    with pytest.raises(BenchError, match=r"scene 1, question 0, choice 0.*has 6 words, the reasoner takes 5"):
        encode_questions([scene(1, predictive(0, "the cube and the sphere collide"))], choice_len=5)


@pytest.mark.parametrize(("key", "value"), [("question_type", "predictiv"), ("answer", "maybe")])
def test_unknown_types_and_answers_are_refused(key: str, value: str) -> None:
    with pytest.raises(BenchError, match=f"scene 1, question 0.*'{value}'"):
        encode_questions([scene(1, {**descriptive(0, "Are there any cubes?"), key: value})])


def test_descriptive_questions_come_first_and_choices_start_at_their_own_column() -> None:
    questions = encode_questions(
        [scene(4, predictive(0, "the cube exits", "the sphere exits"), descriptive(1, "how many cubes", "3")),
         scene(2, descriptive(0, "how many spheres", None))],
        question_len=6,
        choice_len=4,
    )  # fmt: skip
    assert questions.scene.tolist() == [4, 2, 4]
    assert questions.type.tolist() == [0, 0, 2]
    assert questions.question.tolist() == [0, 1, 2, 2]
    assert questions.choice_id.tolist() == [UNKNOWN, UNKNOWN, 0, 1]
    assert questions.label.tolist() == [ANSWER_IDS["3"], UNKNOWN, 1, 1]
    what = [WORD_IDS[word] for word in ("what", "will", "happen", "next")]
    sphere = [WORD_IDS[word] for word in ("the", "sphere", "exits")]
    assert questions.tokens[3].tolist() == [*what, 0, 0, *sphere, 0]
    assert questions.tokens.shape == (4, 10)


def test_no_questions_give_empty_arrays() -> None:
    questions = encode_questions([scene(1)])
    assert len(questions) == 0
    assert questions.tokens.shape == (0, 32)


def test_published_frames() -> None:
    choice = FrameChoice()
    assert choice.starts(128) == choice.starts(160) == 8
    assert choice.middle(160) == 3
    seen = choice.frames(np.array([0, 7]), np.array([False, False]), length=160)
    assert seen[0].tolist() == list(range(0, 121, 5))
    assert seen[1, -1] == 127
    moved = choice.frames(np.array([0, 7]), np.array([True, True]), length=160)
    assert moved[:, 0].tolist() == [32, 39]
    assert moved[1, -1] == 159


def test_without_a_rollout_predictive_questions_see_what_the_others_see() -> None:
    choice = FrameChoice()
    both = choice.frames(np.array([3, 3]), np.array([False, True]), length=128)
    assert (both[0] == both[1]).all()
    assert not choice.shifted(128)


def test_full_window_spreads_over_everything() -> None:
    choice = FrameChoice(25, "full")
    assert choice.starts(160) == 16
    frames = choice.frames(np.array([15]), np.array([False]), length=160)
    assert frames[0, 0] == 15
    assert frames[0, -1] == 159
    assert not choice.shifted(160)


@pytest.mark.parametrize("count", [1, 2, 8, 12, 25, 128])
@pytest.mark.parametrize(("window", "length"), [("published", 128), ("published", 160), ("full", 160)])
def test_every_start_stays_inside(count: int, window: str, length: int) -> None:
    choice = FrameChoice(count, window)
    starts = np.arange(choice.starts(length))
    for shifted in (False, True):
        frames = choice.frames(starts, np.full(len(starts), shifted), length=length)
        assert frames.min() >= 0
        assert frames.max() < (length if shifted or window == "full" else 128)


def test_more_frames_than_there_are_and_unknown_windows_are_refused() -> None:
    with pytest.raises(BenchError, match="129 of 128 frames"):
        FrameChoice(129).starts(160)
    with pytest.raises(BenchError, match="the latents have 100"):
        FrameChoice(25).starts(100)
    with pytest.raises(BenchError, match="Did you mean 'published'"):
        FrameChoice(25, "publishd")
