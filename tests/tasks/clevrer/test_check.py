from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from tests.tasks.clevrer.clevrer_files import questions, trajectories, write_embedded, write_json, write_official

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.annotation import read_annotation
from ocwm_tasks.clevrer.check import check_dataset, render
from ocwm_tasks.clevrer.embedded import EmbeddedDataset
from ocwm_tasks.clevrer.generator.config import GeneratorConfig
from ocwm_tasks.clevrer.generator.make import make_dataset
from ocwm_tasks.clevrer.reader import open_dataset

REAL = os.environ.get("OCWM_REAL_DATA")
real_data = pytest.mark.skipif(not REAL, reason="OCWM_REAL_DATA is not set: no real sample data")


def counts(choices: int, agree: int, not_executable: int) -> dict[str, int]:
    return {"choices": choices, "agree": agree, "not_executable": not_executable}


def test_official_data_knows_neither_future_nor_removals(tmp_path: Path) -> None:
    report = check_dataset(open_dataset(write_official(tmp_path)))
    assert report["executor"] == {
        "descriptive": counts(2, 2, 0),
        "explanatory": counts(6, 4, 2),
        "predictive": counts(4, 0, 4),
        "counterfactual": counts(2, 0, 2),
    }
    assert report["reasons"]["the choice carries no program"] == 2
    assert sum(report["reasons"].values()) == 8
    assert report["problems"] == report["disagreements"] == []
    assert report["manifest"]["splits"]["train"]["videos"]["count"] == 2
    json.dumps(report)


def test_embedded_data_knows_both(tmp_path: Path) -> None:
    report = check_dataset(open_dataset(write_embedded(tmp_path)))
    assert report["executor"] == {
        "descriptive": counts(3, 3, 0),
        "explanatory": counts(9, 6, 3),
        "predictive": counts(6, 6, 0),
        "counterfactual": counts(3, 3, 0),
    }
    assert report["scenes"] == {"validation": {"annotation": {"read": 3, "failed": 0}}}


def test_generated_data_is_read_and_answers_itself(tmp_path: Path) -> None:
    config = GeneratorConfig(train=2, validation=3, test=2, rendered_train=0, rendered_validation=1, rendered_test=0)
    make_dataset(tmp_path, config, seed=3, workers=1)
    data = open_dataset(tmp_path)
    assert isinstance(data, EmbeddedDataset)
    report = check_dataset(data, videos=True)
    assert report["problems"] == report["disagreements"] == []
    for split, count in (("train", 2), ("validation", 3), ("test", 2)):
        assert report["scenes"][split]["annotation"] == {"read": count, "failed": 0}
    for kind, row in report["executor"].items():
        assert row["agree"] == row["choices"] - row["not_executable"]
        assert row["not_executable"] == 0 or kind == "counterfactual"  # removals are kept for validation and test only
    assert report["executor"]["counterfactual"]["agree"] > 0
    from_state = data.scenes("validation").of(10000)
    annotated = data.files("validation").annotations[10000]
    from_file = read_annotation(annotated, index=10000)
    seen = from_state.visible
    np.testing.assert_array_equal(seen, from_file.visible)
    np.testing.assert_allclose(from_state.positions[seen], from_file.positions[seen], atol=1e-4)
    assert from_state.collisions == from_file.collisions
    masks = data.masks("validation", 10000)
    assert masks.shape == (160, config.height, config.width)
    assert masks.max() <= len(from_state.objects)
    assert data.future_frames("validation", 10000).shape == (32, config.height, config.width, 3)


def test_trajectories_serve_where_there_is_no_annotation(tmp_path: Path) -> None:
    write_official(tmp_path, indices=[10000], split="validation")
    for index in (10000, 10001):
        write_json(tmp_path / "trajectories" / f"sim_{index}.json", trajectories())
    write_json(tmp_path / "questions" / "validation.json", [questions(index) for index in (10000, 10001, 10002)])
    report = check_dataset(open_dataset(tmp_path))
    assert report["executor"]["explanatory"] == counts(6, 4, 2)
    assert report["by_source"]["annotation"]["choices"] == report["by_source"]["trajectories"]["choices"] == 7
    assert report["unknown_state"] == {"descriptive": 1, "explanatory": 3, "predictive": 2, "counterfactual": 1}


def test_a_wrong_answer_is_named_and_a_missing_one_not_counted_as_wrong(tmp_path: Path) -> None:
    wrong = questions(0)
    wrong["questions"][0]["answer"] = "2"
    root = write_official(tmp_path)
    write_json(root / "questions" / "train.json", [wrong, questions(1, answered=False)])
    report = check_dataset(open_dataset(root))
    assert report["executor"]["descriptive"] == counts(2, 0, 1)
    assert report["disagreements"] == ["scene 0, question 0 (descriptive), 'How many objects are stationary?': 1"]


def test_every_broken_file_is_listed(tmp_path: Path) -> None:
    root = write_official(tmp_path, indices=range(4))
    (root / "video_train" / "video_00000-01000" / "video_00002.mp4").write_bytes(b"no video")
    (root / "annotation_train" / "annotation_00000-01000" / "annotation_00001.json").write_text("{")
    quick = check_dataset(open_dataset(root))
    assert quick["videos"]["train"] == {"decoded": 2, "tried": 2, "of": 4}
    assert ["annotation_00001.json" in line for line in quick["problems"]] == [True]
    done: list[str] = []
    full = check_dataset(open_dataset(root), videos=True, tick=done.append)
    assert full["videos"]["train"] == {"decoded": 3, "tried": 4, "of": 4}
    assert len(full["problems"]) == 2
    assert full["scenes"]["train"]["annotation"] == {"read": 3, "failed": 1}
    assert len(done) == 4 + 3
    (root / "questions" / "train.json").write_text("[")
    with pytest.raises(BenchError, match=r"train\.json is no JSON.*line 1"):
        check_dataset(open_dataset(root))


def test_the_report_as_text(tmp_path: Path) -> None:
    root = write_official(tmp_path, indices=[0])
    write_json(root / "questions" / "train.json", [questions(0), questions(8)])
    text = render(check_dataset(open_dataset(root)))
    assert "official CLEVRER data" in text
    assert "note: train: 1 questions without video" in text
    assert any(line.split()[:4] == ["explanatory", "3", "2", "1"] for line in text.splitlines())
    assert "100.00 %" in text
    assert "left out: 3 explanatory" in text


@real_data
def test_real_data() -> None:
    report = check_dataset(open_dataset(Path(str(REAL)) / "clevrer"), videos=True)
    assert report["problems"] == []
    explanatory = report["executor"]["explanatory"]
    assert explanatory["choices"] > 1200
    assert explanatory["not_executable"] < 10
    assert explanatory["agree"] >= 0.995 * (explanatory["choices"] - explanatory["not_executable"])
    print(render(report))
