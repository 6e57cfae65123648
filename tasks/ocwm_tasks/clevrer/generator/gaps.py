"""Distances between the outlines of objects on the floor: discs and squares.

Shape letters: F frames, n objects; leading dimensions of helpers are free.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.clevrer.generator.geometry import CUBE_SIDE, OUTLINE_RADIUS
from ocwm_tasks.clevrer.scene import ObjectProperty


def outline_gaps(
    objects: Sequence[ObjectProperty], positions: NDArray[np.float64], angles: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Distances between the outlines on the floor, (F, n, 2) and (F, n) -> (F, n, n) float32.

    Exact where the outlines are apart, negative by about the overlap where they are not; inf where a position is NaN
    and on the diagonal.
    """
    count = len(objects)
    gaps = np.full((len(positions), count, count), np.inf)
    boxes = [i for i in range(count) if objects[i].shape == "cube"]
    discs = [i for i in range(count) if objects[i].shape != "cube"]
    radii = np.array([OUTLINE_RADIUS[thing.shape] for thing in objects])
    if len(discs) > 1:
        a, b = (np.array(discs)[k] for k in np.triu_indices(len(discs), 1))
        gaps[:, a, b] = np.linalg.norm(positions[:, a] - positions[:, b], axis=-1) - radii[a] - radii[b]
    if boxes and discs:
        box, disc = (k.ravel() for k in np.meshgrid(boxes, discs, indexing="ij"))
        gaps[:, box, disc] = _box_distance(positions[:, box], angles[:, box], positions[:, disc]) - radii[disc]
    if len(boxes) > 1:
        a, b = (np.array(boxes)[k] for k in np.triu_indices(len(boxes), 1))
        gaps[:, a, b] = _boxes_apart(positions[:, a], angles[:, a], positions[:, b], angles[:, b])
    gaps = np.minimum(gaps, np.swapaxes(gaps, 1, 2))
    return np.where(np.isnan(gaps), np.inf, gaps).astype(np.float32)


def _box_distance(
    centre: NDArray[np.float64], angle: NDArray[np.float64], point: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Signed distance of points to the outline of cubes, negative inside, (..., 2), (...), (..., 2) -> (...)."""
    dx, dy = np.moveaxis(point - centre, -1, 0)
    cos, sin = np.cos(angle), np.sin(angle)
    over_x = np.abs(cos * dx + sin * dy) - CUBE_SIDE / 2
    over_y = np.abs(cos * dy - sin * dx) - CUBE_SIDE / 2
    outside = np.hypot(np.maximum(over_x, 0), np.maximum(over_y, 0))
    return np.asarray(outside + np.minimum(np.maximum(over_x, over_y), 0))


def _corners(centre: NDArray[np.float64], angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corners of cubes on the floor, (..., 2), (...) -> (..., 4, 2)."""
    turned = angle[..., None] + np.pi / 4 + np.arange(4) * np.pi / 2
    reach = OUTLINE_RADIUS["cube"]
    return np.asarray(centre[..., None, :] + reach * np.stack([np.cos(turned), np.sin(turned)], axis=-1))


def _boxes_apart(
    first: NDArray[np.float64], angle_1: NDArray[np.float64], second: NDArray[np.float64], angle_2: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distance between the outlines of cubes: of two convex shapes apart, a corner is one end of the shortest way."""
    corners_2 = _box_distance(first[..., None, :], angle_1[..., None], _corners(second, angle_2))
    corners_1 = _box_distance(second[..., None, :], angle_2[..., None], _corners(first, angle_1))
    return np.asarray(np.minimum(corners_1.min(axis=-1), corners_2.min(axis=-1)))
