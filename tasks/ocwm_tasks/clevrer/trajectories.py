"""Reads estimated trajectories: a video as a published model saw it, in image-plane coordinates at every fifth frame.

The format is that of the simulations which the official NS-DR executor reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ocwm_tasks.clevrer.annotation import read_object, sort_collisions
from ocwm_tasks.clevrer.json_input import read_json, reading
from ocwm_tasks.clevrer.scene import Collision, ObjectProperty, Scene

_OBSERVED = -1  # `what_if` of the video as it is; other values are the models' guesses without that object


def read_trajectories(path: Path, *, index: int) -> Scene:
    """Return the scene of a trajectory file; an object is visible where the file has a position for it.

    Raises:
        BenchError: the file is no JSON or holds no trajectories; names the file and what is wrong.
    """
    data = read_json(path)
    with reading(path, "trajectory file"):
        objects = tuple(read_object(entry) for entry in data["objects"])
        if len(set(objects)) != len(objects):
            raise ValueError("two objects have the same attributes")
        columns = {properties: column for column, properties in enumerate(objects)}
        observed = [entry for entry in data["predictions"] if entry["what_if"] == _OBSERVED]
        if len(observed) != 1:
            raise ValueError(f"it holds {len(observed)} predictions with what_if = {_OBSERVED}, expected 1")
        rows = observed[0]["trajectory"]
        frames = np.array([row["frame_index"] for row in rows], np.int64)
        if not len(frames) or (np.diff(frames) <= 0).any():
            raise ValueError("its frames are not in order")
        positions = np.full((len(rows), len(objects), 2), np.nan, np.float32)
        visible = np.zeros(positions.shape[:2], np.bool_)
        for t, row in enumerate(rows):
            for entry in row["objects"]:
                column = _column(entry, columns)
                positions[t, column] = entry["x"], entry["y"]
                visible[t, column] = True
        if np.isnan(positions[visible]).any():
            raise ValueError("a position is not a number")
        collisions = (
            Collision(entry["frame"], *sorted(_column(thing, columns) for thing in entry["objects"]))
            for entry in observed[0]["collisions"]
        )
        return Scene(
            index=index,
            objects=objects,
            frames=frames,
            positions=positions,
            visible=visible,
            collisions=sort_collisions(collisions),
            coordinates="image",
        )


def _column(entry: Any, columns: dict[ObjectProperty, int]) -> int:
    properties = read_object(entry)
    if properties not in columns:
        raise ValueError(f"the {' '.join(entry[k] for k in ('color', 'material', 'shape'))} is not among its objects")
    return columns[properties]
