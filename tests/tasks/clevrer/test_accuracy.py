from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ocwm_tasks.clevrer.accuracy import Outcome, declare, figures, published_report
from ocwm_tasks.clevrer.aloe.tokens import QUESTION_TYPES, UNKNOWN, encode_questions


def hand_made() -> Outcome:
    """Two videos; descriptive 1 of 3 right; explanatory one question with 1 of 2; predictive two questions, all right."""
    rows = [
        # scene, question, choice, type, label, prediction
        (1, 0, UNKNOWN, 0, 5, 5),
        (1, 1, UNKNOWN, 0, 5, 6),
        (2, 0, UNKNOWN, 0, 7, -2),
        (1, 2, 0, 1, 1, 1),
        (1, 2, 1, 1, 0, 1),
        (1, 3, 0, 2, 1, 1),
        (2, 1, 0, 2, 0, 0),
        (2, 1, 1, 2, 1, 1),
    ]
    return Outcome(*np.array(rows, dtype=np.int64).T)


def test_figures_of_a_small_case() -> None:
    found = {name: (items.share(), len(items.right)) for name, items in figures(hand_made()).items()}
    assert found == {
        "descriptive.per_question": (pytest.approx(1 / 3), 3),
        "explanatory.per_option": (0.5, 2),
        "explanatory.per_question": (0.0, 1),
        "predictive.per_option": (1.0, 3),
        "predictive.per_question": (1.0, 2),
        "multiple_choice.per_question": (pytest.approx(2 / 3), 3),
        "average.per_question": (0.5, 6),
        "mean_over_types.per_question": (pytest.approx((1 / 3 + 0 + 1) / 3), 6),
    }


def test_order_of_the_rows_does_not_matter() -> None:
    outcome = hand_made()
    order = np.random.default_rng(0).permutation(len(outcome))
    shuffled = Outcome(*(getattr(outcome, f.name)[order] for f in dataclasses.fields(outcome)))
    for name, items in figures(shuffled).items():
        assert items.share() == pytest.approx(figures(outcome)[name].share())


def test_items_know_their_video() -> None:
    found = figures(hand_made())
    assert sorted(found["predictive.per_option"].scene.tolist()) == [1, 2, 2]
    assert sorted(found["average.per_question"].scene.tolist()) == [1, 1, 1, 1, 2, 2]


def test_without_a_known_answer_nothing_is_scored() -> None:
    outcome = hand_made()
    label = np.where(outcome.type == 0, UNKNOWN, outcome.label)
    found = figures(dataclasses.replace(outcome, label=label, prediction=np.full(8, UNKNOWN)))
    assert "descriptive.per_question" not in found
    assert found["average.per_question"].share() == 0.0
    assert len(found["average.per_question"].right) == 3


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_counting_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = []
    for scene in rng.permutation(12):
        for question in range(6):
            kind = int(rng.integers(4))
            for choice in [UNKNOWN] if kind == 0 else range(int(rng.integers(1, 5))):
                rows.append((scene, question, choice, kind, int(rng.integers(2)), int(rng.integers(2))))
    outcome = Outcome(*np.array(rows, dtype=np.int64).T)
    found = figures(outcome)
    solved: dict[tuple[int, int], bool] = {}
    for scene, question, _, _, label, prediction in rows:
        solved[scene, question] = solved.get((scene, question), True) and label == prediction
    kinds = {(scene, question): kind for scene, question, _, kind, _, _ in rows}
    means = []
    for kind, name in enumerate(QUESTION_TYPES):
        mine = [right for key, right in solved.items() if kinds[key] == kind]
        means.append(np.mean(mine))
        assert found[f"{name}.per_question"].share() == pytest.approx(means[-1])
        if kind:
            options = [label == prediction for *_, k, label, prediction in rows if k == kind]
            assert found[f"{name}.per_option"].share() == pytest.approx(np.mean(options))
    assert found["average.per_question"].share() == pytest.approx(np.mean(list(solved.values())))
    assert found["mean_over_types.per_question"].share() == pytest.approx(np.mean(means))


def test_declared_metrics() -> None:
    names = [metric.name for metric in declare("aloe")]
    assert names[0] == "aloe.descriptive.per_question"
    assert names[-1] == "aloe.mean_over_types.per_question"
    assert len(names) == 9
    assert [metric.name for metric in declare("symbolic", ["explanatory"])] == [
        "symbolic.explanatory.per_option",
        "symbolic.explanatory.per_question",
        "symbolic.average.per_question",
        "symbolic.mean_over_types.per_question",
    ]


def scenes(*questions: dict) -> list[dict]:
    return [{"scene_index": 3, "questions": list(questions)}]


def described(number: int, answer: str) -> dict:
    return {"question_id": number, "question_type": "descriptive", "question": "how many cubes", "answer": answer}


def test_published_script_goes_by_position() -> None:
    truth = scenes(described(0, "1"), described(1, "2"), described(2, "3"))
    swapped = scenes(
        {"question_id": 0, "answer": "1"}, {"question_id": 2, "answer": "3"}, {"question_id": 1, "answer": "2"}
    )
    report = published_report(truth, swapped)
    assert report.invalid == 2
    assert report.lines[0] == "descriptive accuracy: 100.00% (1/1)"
    assert report.lines[-1] == "Overall accuracy: 100.00% (1/1)"
    assert report.lines[1] == "explanatory accuracy per option: 0.00% (0/0)"
    assert figures(Outcome.of(encode_questions(truth), np.array([2, 3, 4])))["average.per_question"].share() == 1.0
