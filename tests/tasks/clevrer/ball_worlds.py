"""A toy world for the symbolic reasoner: equal balls that collide elastically and never slow down.

Shape letters: V videos, T frames, n balls, N slots, D slot dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.clevrer.scene import COLORS, MATERIALS, SHAPES, Collision, ObjectProperty, Scene
from ocwm_tasks.clevrer.symbolic.probe import WIDTH

RADIUS = 0.3
VIEW = 3.0  # balls are in view where |x| and |y| are below
FRAMES = 160
SLOTS, DIM = 5, 24
_SUBSTEPS = 8
_BASIS = np.linalg.qr(np.random.default_rng(7).standard_normal((DIM, DIM)))[0][:WIDTH]

Start = tuple[tuple[float, float], tuple[float, float]]  # position, velocity in units per frame
Floats = NDArray[np.float64]


def roll(starts: Sequence[Start], *, removed: int | None = None) -> tuple[Floats, tuple[Collision, ...]]:
    """Positions (T, n, 2) and collisions; a removed ball is NaN."""
    position = np.array([p for p, _ in starts], dtype=float)
    velocity = np.array([v for _, v in starts], dtype=float)
    balls = [i for i in range(len(starts)) if i != removed]
    out, collisions = np.full((FRAMES, len(starts), 2), np.nan), []
    for frame in range(FRAMES):
        for _ in range(_SUBSTEPS if frame else 0):
            position += velocity / _SUBSTEPS
            for k, a in enumerate(balls):
                for b in balls[k + 1 :]:
                    way = position[a] - position[b]
                    closing = -(velocity[a] - velocity[b]) @ way
                    if way @ way < (2 * RADIUS) ** 2 and closing > 0:
                        change = closing / (way @ way) * way
                        velocity[a] += change
                        velocity[b] -= change
                        collisions.append(Collision(frame, a, b))
        out[frame, balls] = position[balls]
    return out, tuple(collisions)


def scene_of(index: int, starts: Sequence[Start], *, removed: int | None = None, frames: int = FRAMES) -> Scene:
    """A scene of spheres, each of its own colour."""
    positions, collisions = roll(starts, removed=removed)
    visible = np.nan_to_num(np.abs(positions), nan=np.inf).max(axis=-1) < VIEW
    objects = tuple(ObjectProperty(COLORS[i], MATERIALS[i % 2], "sphere") for i in range(len(starts)))
    return Scene(
        index,
        objects,
        np.arange(frames),
        positions[:frames].astype(np.float32),
        visible[:frames],
        tuple(c for c in collisions if c.frame < frames),
        "world",
    )


def random_starts(rng: np.random.Generator) -> list[Start]:
    """Two balls at rest and two that come in and head for one of them each, one early and one late: a hit or a near miss."""
    rest = [(-1.2, 0.0), (1.2, 0.0)]
    starts: list[Start] = [(place, (0.0, 0.0)) for place in rest]
    for k in range(2):
        angle = rng.uniform(0.2, 0.8) * np.pi * (1 if k else -1)
        speed, arrival = rng.uniform(0.02, 0.05), rng.uniform(*((115, 150) if k else (40, 115)))
        way = np.array([np.cos(angle), np.sin(angle)])
        target = np.array(rest[int(rng.integers(2))]) + rng.choice([0.0, 0.3, 1.1, -1.1]) * np.array([way[1], -way[0]])
        place, velocity = target - way * speed * arrival, way * speed
        starts.append(((float(place[0]), float(place[1])), (float(velocity[0]), float(velocity[1]))))
    return starts


def encode(scenes: Sequence[Scene]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Latents (V, T, N, D) as the state encoder gives, and the slot (V, N) of each ball."""
    frames = len(scenes[0].frames)
    latents = np.zeros((len(scenes), frames, SLOTS, DIM), dtype=np.float32)
    slot_of = np.zeros((len(scenes), SLOTS), dtype=np.int64)
    for row, scene in enumerate(scenes):
        slot_of[row] = np.random.default_rng(scene.index).permutation(SLOTS)
        for i, thing in enumerate(scene.objects):
            state = np.zeros((frames, WIDTH))
            state[:, :2], state[:, 2] = np.nan_to_num(scene.positions[:, i]), 1.0
            state[:, 3 + COLORS.index(thing.color)] = 1.0
            state[:, 11 + MATERIALS.index(thing.material)] = 1.0
            state[:, 13 + SHAPES.index(thing.shape)] = 1.0
            latents[row, :, slot_of[row, i]] = np.where(scene.visible[:, i, None], state, 0.0) @ _BASIS
    return latents, slot_of


def questions_of(scene: Scene, *, without: dict[int, Scene]) -> dict[str, Any]:
    """A question scene about every pair: what comes next, and what happens without each of the other balls."""
    things = range(len(scene.objects))
    pairs = [(a, b) for a in things for b in things if a < b]
    questions: list[dict[str, Any]] = []

    def ask(kind: str, program: list[str], happens: set[tuple[int, int]], asked: list[tuple[int, int]]) -> None:
        choices = [
            {
                "choice_id": number,
                "choice": "",
                "program": [
                    "all_events",
                    *_thing(scene, a),
                    "filter_collision",
                    *_thing(scene, b),
                    "filter_collision",
                    "unique",
                ],
                "answer": "correct" if (a, b) in happens else "wrong",
            }
            for number, (a, b) in enumerate(asked)
        ]
        questions.append(
            {
                "question_id": len(questions),
                "question": "",
                "question_type": kind,
                "program": program,
                "choices": choices,
            }
        )

    early = {(c.a, c.b) for c in scene.collisions if c.frame < 128}
    ask(
        "predictive",
        ["unseen_events", "belong_to"],
        {(c.a, c.b) for c in scene.collisions if c.frame >= 128},
        [pair for pair in pairs if pair not in early],
    )
    for removed, other in without.items():
        ask(
            "counterfactual",
            ["all_events", *_thing(scene, removed), "get_counterfact", "belong_to"],
            {(c.a, c.b) for c in other.collisions},
            [pair for pair in pairs if removed not in pair],
        )
    count = {"question_type": "descriptive", "question_subtype": "count", "question": ""}
    program = ["events", "objects", "filter_collision", "count"]
    answer = str(sum(c.frame < 128 for c in scene.collisions))
    questions.append({**count, "question_id": len(questions), "program": program, "answer": answer})
    return {"scene_index": scene.index, "questions": questions}


def _thing(scene: Scene, ball: int) -> list[str]:
    return ["objects", scene.objects[ball].color, "filter_color", "unique"]
