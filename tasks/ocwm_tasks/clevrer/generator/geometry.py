"""Sizes of the objects and the camera: the one place where world units meet image coordinates.

World: x to the right, y away from the camera, z up, floor at z = 0. Image: (u, v) in [0, 1], u to the right, v down.
The picture is 3:2 as CLEVRER's 480x320, whatever its size in pixels.

Shape letters: the leading dimensions of points are free.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SPHERE_RADIUS = 0.30
CYLINDER_RADIUS = 0.28
CYLINDER_HEIGHT = 0.50
CUBE_SIDE = 0.48

# Radius of the circle around an object's outline on the floor, and half of its height.
OUTLINE_RADIUS = {"sphere": SPHERE_RADIUS, "cylinder": CYLINDER_RADIUS, "cube": CUBE_SIDE / 2**0.5}
HALF_HEIGHT = {"sphere": SPHERE_RADIUS, "cylinder": CYLINDER_HEIGHT / 2, "cube": CUBE_SIDE / 2}

ASPECT = 1.5  # width / height of the image


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks down on the floor.

    Attributes:
        eye: position.
        target: the point in the middle of the image.
        width: world width of the image at the target's depth.
    """

    eye: tuple[float, float, float] = (0.0, -7.4, 6.6)
    target: tuple[float, float, float] = (0.0, 0.0, 0.0)
    width: float = 6.2

    @cached_property
    def axes(self) -> Floats:
        """Rows: unit vectors to the right, upwards in the image, and into the picture, (3, 3)."""
        forward = np.subtract(self.target, self.eye)
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right = right / np.linalg.norm(right)
        return np.stack([right, np.cross(right, forward), forward])

    @cached_property
    def distance(self) -> float:
        """Distance from the eye to the target."""
        return float(np.linalg.norm(np.subtract(self.target, self.eye)))

    def project(self, points: Floats) -> Floats:
        """Image coordinates and depth (u, v, depth) of world points, (..., 3) -> (..., 3)."""
        x, y, depth = np.moveaxis((np.asarray(points, np.float64) - np.array(self.eye)) @ self.axes.T, -1, 0)
        scale = self.distance / (self.width * depth)
        return np.stack([0.5 + x * scale, 0.5 - y * scale * ASPECT, depth], axis=-1)

    def ground(self, image: Floats, height: float = 0.0) -> Floats:
        """World (x, y) where the rays through image points (u, v) meet the plane z = height, (..., 2) -> (..., 2)."""
        image = np.asarray(image, np.float64)
        local = np.stack(
            [
                (image[..., 0] - 0.5) * self.width,
                (0.5 - image[..., 1]) * self.width / ASPECT,
                np.full(image.shape[:-1], self.distance),
            ],
            axis=-1,
        )
        rays = local @ self.axes
        return np.asarray(self.eye[:2] + rays[..., :2] * ((height - self.eye[2]) / rays[..., 2:]))


CAMERA = Camera()


@cache
def view_edges(height: float) -> tuple[tuple[float, float, float], ...]:
    """The visible part of the plane z = height as four inward half planes (a, b, c): a x + b y + c = distance inside.

    A point of that plane projects into the image exactly when all four distances are positive.
    """
    corners = CAMERA.ground(np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]), height)
    edges = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        along = (end - start) / np.linalg.norm(end - start)
        a, b = -along[1], along[0]
        edges.append((float(a), float(b), float(-(a * start[0] + b * start[1]))))
    return tuple(edges)


def inside(positions: Floats, height: float) -> Floats:
    """Distance by which points of the plane z = height lie inside the view (negative: outside), (..., 2) -> (...)."""
    edges = np.array(view_edges(height))
    return np.asarray((positions @ edges[:, :2].T + edges[:, 2]).min(axis=-1))
