"""Reads annotation files: the ground truth of a video, 128 frames in world coordinates.

Shape letters: T frames, n objects.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ocwm_tasks.clevrer.json_input import read_json, reading
from ocwm_tasks.clevrer.scene import COLORS, MATERIALS, SHAPES, Collision, ObjectProperty, Scene

# Official files that the published loaders leave out.
BROKEN_ANNOTATIONS = {10800: "its official annotation is known to be broken"}


def read_annotation(path: Path, *, index: int) -> Scene:
    """Return the scene of an annotation file.

    Args:
        path: the file.
        index: number of the video, which the file must name.

    Raises:
        BenchError: the file is no JSON or no annotation; names the file and what is wrong.
    """
    data = read_json(path)
    with reading(path, "annotation"):
        if data["scene_index"] != index:
            raise ValueError(f"it names scene {data['scene_index']}, expected {index}")
        objects = tuple(read_object(entry) for entry in data["object_property"])
        columns = {entry["object_id"]: column for column, entry in enumerate(data["object_property"])}
        frames, positions, velocities, visible = _motion(data["motion_trajectory"], columns)
        collisions = (
            Collision(entry["frame_id"], *sorted(columns[i] for i in entry["object_ids"]))
            for entry in data["collision"]
        )
        return Scene(
            index=index,
            objects=objects,
            frames=frames,
            positions=positions,
            visible=visible,
            collisions=sort_collisions(collisions),
            coordinates="world",
            velocities=velocities,
        )


def read_object(entry: Any) -> ObjectProperty:
    """Return the attributes of an object; raises ValueError for an unknown word."""
    for name, known in (("color", COLORS), ("material", MATERIALS), ("shape", SHAPES)):
        if entry[name] not in known:
            raise ValueError(f"unknown {name} {entry[name]!r}, expected one of {', '.join(known)}")
    return ObjectProperty(entry["color"], entry["material"], entry["shape"])


def sort_collisions(collisions: Any) -> tuple[Collision, ...]:
    """Return collisions by frame."""
    return tuple(sorted(collisions, key=lambda c: (c.frame, c.a, c.b)))


def _motion(rows: Any, columns: dict[int, int]) -> tuple[Any, Any, Any, Any]:
    frames = np.array([row["frame_id"] for row in rows], np.int64)
    if not len(frames) or (np.diff(frames) <= 0).any():
        raise ValueError("the frames of motion_trajectory are not in order")
    positions = np.full((len(rows), len(columns), 2), np.nan, np.float32)
    velocities = np.full_like(positions, np.nan)
    visible = np.zeros(positions.shape[:2], np.bool_)
    for t, row in enumerate(rows):
        for entry in row["objects"]:
            column = columns[entry["object_id"]]
            positions[t, column] = entry["location"][:2]
            velocities[t, column] = entry["velocity"][:2]
            visible[t, column] = entry["inside_camera_view"]
    if np.isnan(positions[visible]).any():
        raise ValueError("a visible object has no position")
    return frames, positions, velocities, visible
