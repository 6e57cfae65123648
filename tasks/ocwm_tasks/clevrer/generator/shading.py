"""Light on the objects: where the rays of a patch of pixels meet an object, and what they bring back to the eye.

Shading is two numbers for each ray: how much of the object's own colour comes back, and how much white. Rubber is matt;
metal mirrors a lamp, two bright windows and the dark room.

Shape letters: K patches, r side of a patch in rays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.clevrer.generator.geometry import CUBE_SIDE, CYLINDER_HEIGHT, CYLINDER_RADIUS, SPHERE_RADIUS

Image = NDArray[np.float32]
Shading: TypeAlias = tuple[NDArray[np.bool_], Image, Image]  # hit, own colour, white: (K, r, r) each


def _unit(x: float, y: float, z: float) -> tuple[float, float, float]:
    length = math.sqrt(x * x + y * y + z * z)
    return x / length, y / length, z / length


LAMP = _unit(-0.55, -0.45, 0.9)  # where the light comes from
WINDOW = (-0.45, -0.893)  # horizontal direction of the bright window that metal mirrors
WINDOW_2 = (0.94, -0.34)  # and of a second, dimmer one
SHADOW = (0.30, 0.25)  # where the top of an object's shadow falls, in units per unit of height


@dataclass(frozen=True)
class Rays:
    """Directions dx (K, 1, r), dy and dz (K, r, 1), and the eye from the object's foot, x, y, z (K, 1, 1)."""

    dx: Image
    dy: Image
    dz: Image
    x: Image
    y: Image
    z: Image

    def view(self) -> tuple[Image, Image, Image]:
        """Unit vector towards the eye, taken as the same for the whole object, (K, 1, 1) each."""
        length = np.sqrt(self.x**2 + self.y**2 + self.z**2)
        return self.x / length, self.y / length, self.z / length


def _sphere(rays: Rays, angle: Image, metal: bool) -> Shading:
    z = rays.z - np.float32(SPHERE_RADIUS)
    a = rays.dx**2 + (rays.dy**2 + rays.dz**2)
    b = rays.x * rays.dx + (rays.y * rays.dy + z * rays.dz)
    c = rays.x**2 + rays.y**2 + z**2 - np.float32(SPHERE_RADIUS**2)
    under = b * b - a * c
    scale = np.float32(1 / SPHERE_RADIUS)
    t = np.asarray((-b - np.sqrt(np.maximum(under, np.float32(0)))) * (scale / a), np.float32)
    normal = rays.x * scale + t * rays.dx, rays.y * scale + t * rays.dy, z * scale + t * rays.dz
    body, white = _light(normal, rays.view(), metal)
    return under > 0, body, white


def _cylinder(rays: Rays, angle: Image, metal: bool) -> Shading:
    radius, height = np.float32(CYLINDER_RADIUS), np.float32(CYLINDER_HEIGHT)
    a = rays.dx**2 + rays.dy**2
    b = rays.x * rays.dx + rays.y * rays.dy
    under = b * b - a * (rays.x**2 + rays.y**2 - radius**2)
    t = (-b - np.sqrt(np.maximum(under, 0))) / a
    z = rays.z + t * rays.dz
    side = (under > 0) & (z >= 0) & (z <= height)
    t_top = (height - rays.z) / rays.dz
    top_x, top_y = rays.x + t_top * rays.dx, rays.y + t_top * rays.dy
    from_axis = top_x**2 + top_y**2
    top = from_axis <= radius**2
    nx, ny = (rays.x + t * rays.dx) / radius, (rays.y + t * rays.dy) / radius
    body, white = _light((nx, ny, np.zeros_like(rays.x)), rays.view(), metal)
    flat_body, flat_white = _flat_top(top_x, top_y, np.sqrt(from_axis) / radius, metal)
    # Less light near the floor.
    body *= np.float32(0.8) + np.float32(0.2 / CYLINDER_HEIGHT) * z
    return side | top, np.where(top, flat_body, body), np.where(top, flat_white, white)


def _cube(rays: Rays, angle: Image, metal: bool) -> Shading:
    half, height = np.float32(CUBE_SIDE / 2), np.float32(CUBE_SIDE)
    cos, sin = np.asarray(np.cos(angle), np.float32), np.asarray(np.sin(angle), np.float32)
    # In the cube's own directions.
    dx, dy = cos * rays.dx + sin * rays.dy, cos * rays.dy - sin * rays.dx
    x, y = cos * rays.x + sin * rays.y, cos * rays.y - sin * rays.x
    right, front = np.sign(x), np.sign(y)  # the two sides that face the eye
    t_x, leave_x = _between(half, x, dx)
    t_y, leave_y = _between(half, y, dy)
    t_z = (height - rays.z) / rays.dz
    enter_side = np.maximum(t_x, t_y)
    t = np.maximum(enter_side, t_z)
    hit = (t <= np.minimum(leave_x, leave_y)) & (t <= -rays.z / rays.dz)
    on_top = t_z >= enter_side
    on_x = enter_side == t_x
    view = rays.view()
    zero = np.zeros_like(cos)
    x_body, x_white = _light((right * cos, right * sin, zero), view, metal)
    y_body, y_white = _light((-front * sin, front * cos, zero), view, metal)
    at_x, at_y, at_z = x + t * dx, y + t * dy, rays.z + t * rays.dz
    edge = np.maximum(np.abs(at_x), np.abs(at_y)) / half
    top_body, top_white = _flat_top(cos * at_x - sin * at_y, sin * at_x + cos * at_y, edge, metal)
    rise = at_z / height
    side_body = np.where(on_x, x_body, y_body) * (np.float32(0.75) + np.float32(0.25) * rise)
    side_white = np.where(on_x, x_white, y_white)
    if metal:
        # The floor in the mirror brightens towards the foot, and a lit rim runs along the edges.
        side_body = side_body * (np.float32(1.35) - np.float32(0.6) * rise)
        across = np.abs(np.where(on_x, at_y, at_x)) / half
        side_white = side_white * rise + np.where((rise > 0.93) | (across > 0.93), np.float32(0.28), np.float32(0.0))
    return hit, np.where(on_top, top_body, side_body), np.where(on_top, top_white, side_white)


def _between(half: np.float32, start: Image, way: Image) -> tuple[Image, Image]:
    """Where rays are between -half and half along one axis: from t to t."""
    inverse = 1 / np.where(way == 0, np.float32(1e-9), way)
    first, second = (half - start) * inverse, (-half - start) * inverse
    return np.minimum(first, second), np.maximum(first, second)


def _light(normal: tuple[Image, Image, Image], view: tuple[Image, Image, Image], metal: bool) -> tuple[Image, Image]:
    """How much of its own colour, and how much white, a surface sends to the eye."""
    nx, ny, nz = normal
    to_lamp = nx * np.float32(LAMP[0]) + ny * np.float32(LAMP[1]) + nz * np.float32(LAMP[2])
    lit = np.maximum(to_lamp, 0)
    if not metal:
        body = np.float32(0.50) + np.float32(0.10) * nz + np.float32(0.42) * lit
        return body, np.float32(0.05) * lit * lit
    to_eye = nx * view[0] + ny * view[1] + nz * view[2]
    # The direction that the eye sees in the mirror.
    mx, my, mz = (2 * to_eye * n - v for n, v in zip(normal, view, strict=True))
    sky = np.clip(mz, 0, 1)
    body = np.float32(0.52) + np.float32(0.35) * lit + np.float32(0.55) * (sky - np.float32(0.55)) * sky
    lamp = 2 * to_eye * to_lamp - sum(v * np.float32(k) for v, k in zip(view, LAMP, strict=True))
    flat = np.sqrt(mx * mx + my * my) + np.float32(1e-3)
    window = (mx * np.float32(WINDOW[0]) + my * np.float32(WINDOW[1])) / flat
    other = (mx * np.float32(WINDOW_2[0]) + my * np.float32(WINDOW_2[1])) / flat
    low = np.clip(np.float32(1.0) - np.abs(mz + np.float32(0.3)) * np.float32(1.3), 0, 1)
    white = (
        _step(lamp, 0.86, 0.95)
        + np.float32(0.55) * low * _step(window, 0.88, 0.98)
        + np.float32(0.3) * low * _step(other, 0.92, 0.99)
    )
    return body, white


def _flat_top(x: Image, y: Image, edge: Image, metal: bool) -> tuple[Image, Image]:
    """The upper side at x, y from its middle; `edge` grows to 1 at its rim."""
    if not metal:
        return np.full_like(edge, 0.94), np.full_like(edge, 0.04)
    slope = x * np.float32(-0.6) + y * np.float32(0.9)
    rim = np.where(edge > 0.9, np.float32(0.35), np.float32(0.0))
    return np.float32(0.72) + np.float32(0.5) * slope, np.clip(np.float32(0.10) + slope, 0, 0.4) + rim


def _step(value: Image, low: float, high: float) -> Image:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((value - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


CASTS = {"sphere": _sphere, "cylinder": _cylinder, "cube": _cube}


def shadow(x: Image, y: Image, radius: float, height: float) -> Image:
    """What is left of the floor's light at x, y from an object's foot."""
    fall_x, fall_y = SHADOW[0] * height, SHADOW[1] * height
    # The nearest point of the line from the foot to where the top's shadow falls.
    share = np.clip((x * fall_x + y * fall_y) / (fall_x**2 + fall_y**2), 0, 1)
    cast = np.sqrt((x - share * fall_x) ** 2 + (y - share * fall_y) ** 2)
    near = np.sqrt(x * x + y * y)
    soft = 1 - _step(cast, 0.55 * radius, 1.35 * radius + 0.05)
    return np.asarray(
        (1 - np.float32(0.34) * soft) * (1 - np.float32(0.42) * (1 - _step(near, 0.6 * radius, 1.3 * radius)))
    )
