"""Prefixes, exclusion of questions about later entrants, and rollouts from a prefix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ocwm.errors import BenchError
from ocwm.types import LatentSpec
from ocwm_baselines.extrapolation import ConstantVelocity
from ocwm_tasks.clevrer.imagined import answerable, imagine_rest, prefixes, without_entrants
from ocwm_tasks.clevrer.scene import Collision, ObjectProperty, Scene
from ocwm_tasks.clevrer.world import World

RED = ObjectProperty("red", "metal", "cube")
BLUE = ObjectProperty("blue", "rubber", "sphere")
LATE = ObjectProperty("green", "rubber", "cylinder")


def scene() -> Scene:
    """Three objects: two from the start, which touch at frame 30, and one that enters at frame 60."""
    visible = np.ones((160, 3), dtype=bool)
    visible[:60, 2] = False
    positions = np.zeros((160, 3, 2), dtype=np.float32)
    positions[:, :, 0] = np.arange(3)
    return Scene(7, (RED, BLUE, LATE), np.arange(160), positions, visible, (Collision(30, 0, 1),), "world")


def count(word: str, answer: str, number: int) -> dict:
    program = ["objects", word, "filter_shape" if word != "rubber" else "filter_material", "count"]
    return {
        "question_id": number,
        "question": "",
        "question_type": "descriptive",
        "program": program,
        "answer": answer,
    }


def test_the_prefix_ends_twelve_frames_after_the_last_entrance() -> None:
    assert prefixes([scene()], fixed=0, least=12).tolist() == [72]
    assert prefixes([scene()], fixed=40, least=12).tolist() == [40]
    assert prefixes([without_entrants(scene(), 50)], fixed=0, least=16).tolist() == [16]
    for wrong in (5, 129):
        with pytest.raises(BenchError, match=f"task.prefix={wrong}"):
            prefixes([scene()], fixed=wrong, least=12)


def test_a_scene_without_its_late_entrants() -> None:
    early = without_entrants(scene(), 60)
    assert early.objects == (RED, BLUE)
    assert early.collisions == (Collision(30, 0, 1),)
    assert without_entrants(scene(), 61).objects == scene().objects


def test_questions_that_depend_on_a_late_entrant_are_excluded_and_counted() -> None:
    questions = [{"scene_index": 7, "questions": [count("cube", "1", 0), count("rubber", "2", 1)]}]
    worlds = {7: World.from_scene(scene())}
    known = {7: World.from_scene(without_entrants(scene(), 50))}
    kept, excluded = answerable(questions, worlds, known)
    assert excluded == 1
    assert [q["question_id"] for q in kept[0]["questions"]] == [0]
    assert answerable(questions, worlds, worlds)[1] == 0


def test_each_video_is_rolled_on_from_its_own_prefix() -> None:
    line = np.arange(160, dtype=np.float32).reshape(1, 160, 1, 1).repeat(3, axis=0)
    line[:, 100:] = -1.0  # what comes later must not be read
    model = ConstantVelocity(LatentSpec(1, 1))
    rest = imagine_rest(model, line, np.array([20, 100, 50]), device=torch.device("cpu"), batch=2)
    np.testing.assert_allclose(rest[:, :, 0, 0], np.tile(np.arange(160.0), (3, 1)), rtol=1e-4)
