"""The program language: every module, every way to fail, and the answers of real question files."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ocwm_tasks.clevrer.annotation import read_annotation
from ocwm_tasks.clevrer.executor import ERROR, Events, NotExecutable, Thing, Things, answer, judge, run
from ocwm_tasks.clevrer.scene import Collision, ObjectProperty, Scene
from ocwm_tasks.clevrer.trajectories import read_trajectories
from ocwm_tasks.clevrer.vocabulary import ANSWERS, QUESTION_WORDS
from ocwm_tasks.clevrer.world import Event, World, sample_speeds

REAL = os.environ.get("OCWM_REAL_DATA")
real_data = pytest.mark.skipif(not REAL, reason="OCWM_REAL_DATA is not set: no real sample data")

OBJECTS = (
    ObjectProperty("red", "metal", "cube"),  # 0: rests until 1 hits it at 40, then moves on into 2 at 60
    ObjectProperty("blue", "rubber", "sphere"),  # 1: comes in at 10, leaves at 90
    ObjectProperty("red", "rubber", "cylinder"),  # 2: rests until 60
    ObjectProperty("gray", "metal", "sphere"),  # 3: rests throughout
    ObjectProperty("cyan", "metal", "cylinder"),  # 4: never seen
)
FRAMES = np.arange(0, 160, 5)


def scene(*, frames: np.ndarray = FRAMES, coordinates: str = "world") -> Scene:
    """A red cube between a blue sphere that comes in and a red cylinder; units per frame 0.02 while moving."""
    positions = np.zeros((len(frames), 5, 2), np.float32)
    positions[:, 0, 0] = 0.02 * np.clip(frames - 40, 0, 20)
    positions[:, 1, 0] = 0.02 * (frames - 40)
    positions[:, 2, 0] = 1 + 0.02 * np.clip(frames - 60, 0, None)
    positions[:, 3, 1] = 3
    visible = np.ones((len(frames), 5), bool)
    visible[:, 1] = (frames >= 6) & (frames < 90)
    visible[:, 4] = False
    return Scene(
        index=7,
        objects=OBJECTS,
        frames=frames,
        positions=np.where(visible[..., None], positions, np.nan).astype(np.float32),
        visible=visible,
        collisions=(Collision(40, 0, 1), Collision(60, 0, 2), Collision(140, 2, 3)),
        coordinates=coordinates,
    )


@pytest.fixture(scope="module")
def world() -> World:
    removed = {1: frozenset(), 3: frozenset({frozenset({0, 1}), frozenset({0, 2})})}
    return World.from_scene(scene(), counterfactual=removed)


CUBE = "objects cube filter_shape unique"
BLUE = "objects blue filter_color unique"
CYLINDER = "objects cylinder filter_shape unique"
GRAY = "objects gray filter_color unique"
HIT = f"events {CUBE} filter_collision {BLUE} filter_collision unique"
PUSH = f"events {CUBE} filter_collision {CYLINDER} filter_collision unique"


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("objects count", 4),
        ("objects red filter_color count", 2),
        ("objects metal filter_material sphere filter_shape unique query_color", "gray"),
        (f"{BLUE} query_material", "rubber"),
        (f"{GRAY} query_shape", "sphere"),
        ("objects red filter_color metal filter_material exist", "yes"),
        ("objects purple filter_color exist", "no"),
        ("objects purple filter_color exist negate", "yes"),
        ("events start get_frame", 0),
        ("end query_frame", 125),
        ("events filter_start query_frame", 0),
        ("events filter_end get_frame", 125),
        ("objects start get_frame filter_moving count", 0),
        ("objects start get_frame filter_stationary count", 3),
        ("objects start get_frame filter_resting count", 3),
        (f"objects events {BLUE} filter_in unique get_frame filter_moving unique query_color", "blue"),
        ("objects null filter_moving count", 3),
        ("objects null filter_stationary unique query_color", "gray"),
        ("objects end get_frame filter_moving unique query_shape", "cylinder"),
        ("events objects filter_in count", 1),
        (f"events {BLUE} filter_in unique get_frame", 10),
        (f"events {BLUE} filter_out unique query_frame", 90),
        (f"events {BLUE} filter_out unique get_object query_color", "blue"),
        ("events objects filter_in first filter_order query_object query_shape", "sphere"),
        ("events objects filter_collision count", 2),
        (f"events events {BLUE} filter_out unique filter_after objects filter_collision count", 0),
        (f"events events {BLUE} filter_out unique filter_before objects filter_collision count", 2),
        (f"events {HIT} filter_before objects filter_collision exist", "no"),
        (f"events {HIT} filter_after objects filter_collision unique get_frame", 60),
        (f"events {CUBE} filter_collision second filter_order {CUBE} get_col_partner query_shape", "cylinder"),
        (f"events {CUBE} filter_collision last filter_order {CUBE} query_collision_partner query_shape", "cylinder"),
        (f"events {CUBE} filter_collision first filter_order {CUBE} get_col_partner query_color", "blue"),
        (f"{BLUE} events {PUSH} filter_ancestor belong_to", "yes"),
        (f"{GRAY} events {PUSH} filter_ancestor belong_to", "no"),
        (f"{HIT} events {PUSH} filter_ancestor belong_to", "yes"),
        (f"{PUSH} events {HIT} filter_ancestor belong_to", "no"),
        (f"events {BLUE} filter_in unique events {PUSH} filter_ancestor belong_to negate", "no"),
        ("all_events count", 6),
        (
            f"all_events {CYLINDER} filter_collision {GRAY} filter_collision unique unseen_events belong_to",
            "yes",
        ),
        (f"all_events {CUBE} filter_collision {GRAY} filter_collision unique unseen_events belong_to", "no"),
        (
            f"all_events {CUBE} filter_collision {CYLINDER} filter_collision unique all_events {GRAY} get_counterfact belong_to",
            "yes",
        ),
        (
            f"all_events {CUBE} filter_collision {CYLINDER} filter_collision unique "
            f"all_events {BLUE} filter_counterfact belong_to negate",
            "yes",
        ),
    ],
)
def test_program(world, program, expected):
    assert run(program.split(), world) == expected


@pytest.mark.parametrize(
    "program",
    [
        "unique",
        "objects red filter_color unique query_shape",  # two of them
        "objects purple filter_color unique query_shape",  # none
        "events objects filter_collision count query_color",
        f"events {CUBE} filter_in unique get_frame",  # was there from the start
        f"{HIT} get_object query_color",  # no entrance or exit
        f"{HIT} {GRAY} get_col_partner query_color",  # takes no part
        "events objects filter_in second filter_order get_frame",
        "events objects filter_collision count exist",
        f"{CUBE} negate",
        f"{CUBE} events count belong_to",
        "objects red null filter_moving count",  # the colour was not filtered: one argument too few for its place
        f"all_events {CUBE} filter_collision {BLUE} filter_collision unique get_frame",  # has no time
        "",
    ],
)
def test_a_step_that_fails_makes_the_answer_error(world, program):
    assert run(program.split(), world) == ERROR


def test_values_on_the_stack_have_types(world):
    assert isinstance(run(["objects"], world), Things)
    assert isinstance(run(["events"], world), Events)
    assert isinstance(run(CUBE.split(), world), Thing)
    assert run(HIT.split(), world) == Event("collision", 40, (0, 1))


def test_unknown_truth_is_refused_not_guessed(world):
    short = World.from_scene(scene(frames=np.arange(0, 130, 5)))
    pair = f"all_events {CUBE} filter_collision {GRAY} filter_collision unique"
    with pytest.raises(NotExecutable, match="after the observed frames"):
        run(f"{pair} unseen_events belong_to".split(), short)
    with pytest.raises(NotExecutable, match="without an object"):
        run(f"{pair} all_events {BLUE} get_counterfact belong_to".split(), short)
    with pytest.raises(NotExecutable, match="without an object"):
        run(f"{pair} all_events {CUBE} get_counterfact belong_to".split(), world)  # only others were removed
    with pytest.raises(NotExecutable, match="image-plane"):
        run(f"{BLUE} end get_frame query_direction".split(), world)


def test_judge_and_answer(world):
    question = {"program": f"events {PUSH} filter_ancestor belong_to".split()}
    assert judge(question, {"program": BLUE.split()}, world) == "correct"
    assert judge(question, {"program": GRAY.split()}, world) == "wrong"
    assert judge(question, {"program": ["objects", "purple", "filter_color", "unique"]}, world) == ERROR
    with pytest.raises(NotExecutable, match="choice carries no program"):
        judge(question, {"choice": "the presence of the red cube"}, world)
    assert answer({"program": ["objects", "count"]}, world) == "4"
    assert answer({"program": ["objects", "exist"]}, world) == "yes"
    assert answer({"program": ["objects"]}, world) == ERROR
    with pytest.raises(NotExecutable, match="question carries no program"):
        answer({"question": "?"}, world)


def test_direction_in_the_picture():
    image = World.from_scene(scene(coordinates="image"))
    # x counts downwards in trajectory files.
    program = "objects red filter_color cylinder filter_shape unique end get_frame query_direction"
    assert run(program.split(), image) == "down"


def test_a_world_is_sampled_at_every_fifth_frame():
    dense = World.from_scene(scene(frames=np.arange(160)))
    coarse = World.from_scene(scene())
    assert dense.horizon == coarse.horizon == 160
    assert dense.events == coarse.events
    np.testing.assert_array_equal(dense.frames, np.arange(0, 128, 5))
    np.testing.assert_array_equal(dense.moving, coarse.moving)
    assert World.from_scene(scene(frames=np.arange(128))).horizon == 128
    assert [e.frame for e in coarse.observed if e.kind == "collision"] == [40, 60]


def test_speeds_look_back_then_ahead_and_a_single_sight_moves():
    frames = np.array([0, 5, 10, 15])
    positions = np.array([[0, 0], [1, 0], [1, 0], [1, 0]], np.float32)[:, None].repeat(3, axis=1)
    visible = np.array([[1, 0, 0], [1, 1, 1], [1, 0, 1], [1, 0, 1]], bool)
    speeds = sample_speeds(frames, positions, visible)
    np.testing.assert_allclose(speeds[:, 0], [0.2, 0.2, 0, 0])
    np.testing.assert_allclose(speeds[:, 1], [0, np.inf, 0, 0])
    np.testing.assert_allclose(speeds[:, 2], 0)  # its way to the first sample was not seen


def test_listed_objects_without_a_position_are_in_the_video():
    """Trajectory files list what was recognised; annotations also list what never comes into view."""
    assert run(["objects", "count"], World.from_scene(scene(coordinates="image"))) == 5
    assert run(["objects", "count"], World.from_scene(scene())) == 4


def test_vocabulary_is_sorted_and_complete():
    assert list(QUESTION_WORDS) == sorted(QUESTION_WORDS)
    assert list(ANSWERS) == sorted(ANSWERS)
    assert (len(QUESTION_WORDS), len(ANSWERS)) == (81, 21)


@real_data
def test_vocabulary_is_the_published_one():
    published = json.loads((Path(REAL or "") / "clevrer/vocab_aloe_clevrer.json").read_text())
    assert {word: k for k, word in enumerate(QUESTION_WORDS, start=1)} == published["question_vocab"]
    assert {word: k for k, word in enumerate(ANSWERS, start=1)} == published["answer_vocab"]


def _agreement(questions: list[dict], world: World) -> Counter:
    found: Counter = Counter()
    for question in questions:
        if question["question_type"] == "descriptive":
            found["descriptive", answer(question, world) == question["answer"]] += 1
        for choice in question.get("choices", ()):
            if choice.get("program"):
                found["choice", judge(question, choice, world) == choice["answer"]] += 1
    return found


@real_data
def test_real_questions_on_estimated_trajectories():
    """At least 99.5 % of the explanatory choices; those missed name objects that the trajectories have no position for."""
    root = Path(REAL or "") / "clevrer"
    found: Counter = Counter()
    for entry in json.loads((root / "questions/validation.json").read_text()):
        path = root / f"trajectories/sim_{entry['scene_index']:05d}.json"
        found += _agreement(entry["questions"], World.from_scene(read_trajectories(path, index=entry["scene_index"])))
    assert found["choice", True] + found["choice", False] > 1000
    assert found["choice", True] / (found["choice", True] + found["choice", False]) >= 0.997
    assert found["descriptive", True] > 0
    assert not found["descriptive", False]


@real_data
@pytest.mark.parametrize(("split", "index"), [("train", 1000), ("validation", 10000)])
def test_real_questions_on_annotations(split, index):
    root = Path(REAL or "") / "clevrer"
    entries = json.loads((root / f"questions/{split}.json").read_text())
    (path,) = root.glob(f"annotation_{split}/*/annotation_{index:05d}.json")
    world = World.from_scene(read_annotation(path, index=index))
    found = _agreement(next(e["questions"] for e in entries if e["scene_index"] == index), world)
    assert found["choice", True] > 0
    assert not found["choice", False]
