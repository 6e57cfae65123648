"""Writes tiny CLEVRER folders for the tests of the readers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

OBJECTS = (("red", "metal", "cube"), ("blue", "rubber", "sphere"), ("gray", "metal", "cylinder"))
SIZE = (24, 32)


def write_video(path: Path, *, length: int = 128) -> Path:
    """Write frames whose brightness grows with time, more red than blue."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for t in range(length):
            image = np.full((*SIZE, 3), (60 + t, 40, 20), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def positions(t: int) -> list[tuple[float, float]]:
    """Object 0 moves right until it meets object 1 at frame 60, which then moves on; object 2 rests."""
    return [(min(-3 + 0.05 * t, 0.0), 0.0), (0.4 + 0.05 * max(t - 60, 0), 0.0), (2.0, 2.0)]


def annotation(index: int) -> dict[str, Any]:
    """Return an annotation; object 0 is in view from frame 21 on."""
    return {
        "scene_index": index,
        "video_filename": f"video_{index:05d}.mp4",
        "object_property": [
            {"object_id": i, "color": c, "material": m, "shape": s} for i, (c, m, s) in enumerate(OBJECTS)
        ],
        "motion_trajectory": [
            {
                "frame_id": t,
                "objects": [
                    {
                        "object_id": i,
                        "location": [x, y, 0.2],
                        "orientation": [0.0, 0.0, 0.0],
                        "velocity": [1.25 if i == 0 and t < 60 else 0.0, 0.0, 0.0],
                        "angular_velocity": [0.0, 0.0, 0.0],
                        "inside_camera_view": i > 0 or t > 20,
                    }
                    for i, (x, y) in enumerate(positions(t))
                ],
            }
            for t in range(128)
        ],
        "collision": [{"frame_id": 60, "object_ids": [1, 0], "location": [0.2, 0.0, 0.2]}],
    }


def trajectories() -> dict[str, Any]:
    """Return the same video as an estimate: every fifth frame, in pixels, object 0 not before frame 25."""
    things = [{"color": c, "material": m, "shape": s} for c, m, s in OBJECTS]
    return {
        "objects": [{**thing, "id": i} for i, thing in enumerate(things)],
        "predictions": [
            {
                "what_if": -1,
                "trajectory": [
                    {
                        "frame_index": t,
                        "objects": [
                            {"x": 100 - 20 * y, "y": 160 + 40 * x, **thing}
                            for i, ((x, y), thing) in enumerate(zip(positions(t), things, strict=True))
                            if i > 0 or t > 20
                        ],
                    }
                    for t in range(0, 126, 5)
                ],
                "collisions": [{"frame": 60, "objects": [things[1], things[0]]}],
            }
        ],
    }


def unique(color: str) -> list[str]:
    return ["objects", color, "filter_color", "unique"]


def questions(index: int, *, answered: bool = True) -> dict[str, Any]:
    """Return a scene of a question file; the last explanatory choice has no program, as in the official files."""
    collision = ["events", *unique("red"), "filter_collision", *unique("blue"), "filter_collision", "unique"]
    asked: list[dict[str, Any]] = [
        {
            "question_id": 0,
            "question": "How many objects are stationary?",
            "question_type": "descriptive",
            "question_subtype": "count",
            "program": ["objects", "null", "filter_stationary", "count"],
            "answer": "1",
        },
        {
            "question_id": 1,
            "question": "Which of the following is responsible for the red object's colliding with the blue object?",
            "question_type": "explanatory",
            "program": ["events", *collision, "filter_ancestor", "belong_to"],
            "choices": [
                {"choice_id": 0, "choice": "the red object's entrance", "program": unique("red"), "answer": "correct"},
                {"choice_id": 1, "choice": "the gray object's entrance", "program": unique("gray"), "answer": "wrong"},
                {"choice_id": 2, "choice": "the blue object's entrance", "answer": "wrong"},
            ],
        },
        {
            "question_id": 2,
            "question": "What will happen next?",
            "question_type": "predictive",
            "program": ["unseen_events", "belong_to"],
            "choices": [
                {
                    "choice_id": 0,
                    "choice": "The blue object collides with the gray object",
                    "program": _pair("blue", "gray"),
                    "answer": "correct",
                },
                {
                    "choice_id": 1,
                    "choice": "The red object collides with the gray object",
                    "program": _pair("red", "gray"),
                    "answer": "wrong",
                },
            ],
        },
        {
            "question_id": 3,
            "question": "If the red object is removed, which event will happen?",
            "question_type": "counterfactual",
            "program": ["all_events", *unique("red"), "get_counterfact", "belong_to"],
            "choices": [
                {
                    "choice_id": 0,
                    "choice": "The blue object collides with the gray object",
                    "program": _pair("blue", "gray"),
                    "answer": "wrong",
                }
            ],
        },
    ]
    if not answered:
        for question in asked:
            for item in (question, *question.get("choices", [])):
                item.pop("answer", None)
                item.pop("program", None)
    return {"scene_index": index, "video_filename": f"video_{index:05d}.mp4", "questions": asked}


def _pair(first: str, second: str) -> list[str]:
    return ["all_events", *unique(first), "filter_collision", *unique(second), "filter_collision", "unique"]


def write_official(
    root: Path,
    *,
    indices: Sequence[int] = (0, 1),
    split: str = "train",
    video: str = "video_{split}/{thousand}/video_{index:05d}.mp4",
    annotated: str = "annotation_{split}/{thousand}/annotation_{index:05d}.json",
    length: int = 128,
) -> Path:
    """Write videos, annotations and questions of one split; the patterns say where."""
    for index in indices:
        start = index // 1000 * 1000
        for pattern, prefix in ((video, "video"), (annotated, "annotation")):
            thousand = f"{prefix}_{start:05d}-{start + 1000:05d}"
            path = root / pattern.format(split=split, index=index, thousand=thousand)
            if prefix == "video":
                write_video(path, length=length)
            else:
                write_json(path, annotation(index))
    write_json(root / "questions" / f"{split}.json", [questions(index) for index in indices])
    return root


def write_embedded(root: Path, *, indices: Sequence[int] = (10000, 10001, 10002), rendered: int = 1) -> Path:
    """Write validation data as the generator does: more videos than are rendered."""
    write_official(root, indices=indices[:rendered], split="validation")
    write_json(root / "questions" / "validation.json", [questions(index) for index in indices])
    write_json(
        root / "embedded.json",
        {"name": "clevrer-embedded", "version": 1, "config": {"videos": 3}, "seeds": {"validation": 7}, "files": []},
    )
    count, frames, most, n = len(indices), 192, 6, len(OBJECTS)
    place = np.full((count, frames, most, 2), np.nan, np.float32)
    place[:, :, :n] = np.array([positions(t) for t in range(frames)], np.float32)
    visible = np.zeros((count, frames, most), np.bool_)
    visible[:, :, :n] = True
    visible[:, :21, 0] = False
    removed = np.full((count, most, 160, most, 2), np.nan, np.float32)
    removed[:, :n, :, :n] = place[:, None, :160, :n]
    for i in range(n):
        removed[:, i, :, i] = np.nan
    table = [(row, frame, a, b) for row in range(count) for frame, a, b in ((150, 2, 1), (60, 0, 1), (170, 0, 2))]
    path = root / "states" / "validation.npz"
    path.parent.mkdir(parents=True)
    np.savez(
        path,
        scene_index=np.array(indices, np.int64),
        count=np.full(count, n, np.int8),
        color=np.tile(np.array([6, 0, 3, -1, -1, -1], np.int8), (count, 1)),
        material=np.tile(np.array([0, 1, 0, -1, -1, -1], np.int8), (count, 1)),
        shape=np.tile(np.array([0, 2, 1, -1, -1, -1], np.int8), (count, 1)),
        positions=place,
        velocities=np.zeros_like(place),
        angles=np.zeros((count, frames, most), np.float32),
        visible=visible,
        collisions=np.array(table, np.int32),
        removal_collisions=np.array([(row, 2, 60, 0, 1) for row in range(count)], np.int32),
        removal_positions=removed,
        removal_visible=np.isfinite(removed).all(axis=-1),
    )
    for index in indices[:rendered]:
        write_video(root / "future" / "validation" / f"video_{index:05d}.mp4", length=32)
        masks = root / "masks" / "validation" / f"mask_{index:05d}.npz"
        masks.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(masks, masks=np.ones((160, *SIZE), np.uint8))
    return root
