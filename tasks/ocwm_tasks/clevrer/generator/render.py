"""Pictures of the world: every object is ray-cast for all frames at once, then laid into the frames from back to front.

Each object is drawn on a small patch of pixels that follows it, several rays a pixel.

Shape letters: F frames, h, w image height and width, K looks (runs of frames in which an object is drawn the same),
s side of a patch in pixels, r side of a patch in rays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.clevrer.generator.geometry import ASPECT, CAMERA, HALF_HEIGHT, OUTLINE_RADIUS
from ocwm_tasks.clevrer.generator.shading import CASTS, Image, Rays, shadow
from ocwm_tasks.clevrer.scene import ObjectProperty

RGB = {
    "blue": (42, 75, 215),
    "brown": (135, 78, 28),
    "cyan": (41, 205, 205),
    "gray": (92, 92, 92),
    "green": (32, 125, 30),
    "purple": (138, 42, 190),
    "red": (190, 38, 38),
    "yellow": (250, 226, 50),
}
PIECE = 60_000  # rays that are cast at a time: they stay in the processor's cache

STILL = 1 / 16  # pixels

Place = tuple[tuple[slice, slice], tuple[slice, slice]]  # rows and columns of the image, and those of the patch


class Moving(Protocol):
    """All that a picture depends on; a `Simulation` is one, too."""

    @property
    def objects(self) -> tuple[ObjectProperty, ...]:
        """The n objects."""

    @property
    def positions(self) -> NDArray[np.float32]:
        """(F, n, 2) world units; NaN while not present."""

    @property
    def angles(self) -> NDArray[np.float32]:
        """(F, n) radians about the vertical; NaN while not present."""


@dataclass(frozen=True)
class Motion:
    """How n objects move, see `Moving`."""

    objects: tuple[ObjectProperty, ...]
    positions: NDArray[np.float32]
    angles: NDArray[np.float32]


@dataclass(frozen=True)
class Pictures:
    """Frames and instance masks of a video.

    Attributes:
        frames: (F, h, w, 3) uint8 RGB.
        masks: (F, h, w) uint8, object index + 1, 0 for the floor.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8]


@dataclass(frozen=True)
class _Sprite:
    """An object's looks.

    Attributes:
        look: (F,) which look each frame shows, -1 where there is nothing to draw.
        places: for each look where its patch lies in the image, None where outside.
        color: (K, 3, s, s) float32, times the share of the pixel that the object covers.
        rest: (K, s, s) float32, share of the pixel that it does not cover.
        solid: (K, s, s) bool, covers half of the pixel or more.
        depth: (F,) float64 distance from the camera along its axis.
    """

    look: list[int]
    places: list[Place | None]
    color: Image
    rest: Image
    solid: NDArray[np.bool_]
    depth: NDArray[np.float64]


class Renderer:
    """Draws simulations at one image size (3:2, as `width` x `height` pixels)."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.rays = max(2, round(192 / width))  # a side of a pixel
        u, v = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
        self._floor = _floor_light(CAMERA.ground(np.stack(np.meshgrid(u, v), axis=-1)))

    def render(self, simulation: Moving, *, frames: int) -> Pictures:
        """Draw the first `frames` frames of a simulation."""
        cv2.setNumThreads(1)
        light = np.ones((frames, self.height, self.width), np.float32)
        sprites = [self._sprite(simulation, i, light) for i in range(len(simulation.objects))]
        pictures = Pictures(np.empty((*light.shape, 3), np.uint8), np.zeros(light.shape, np.uint8))
        order = np.argsort([-sprite.depth for sprite in sprites], axis=0, kind="stable").T.tolist()
        for frame, back_to_front in enumerate(order):
            canvas = light[frame] * self._floor
            for i in back_to_front:
                sprite = sprites[i]
                look = sprite.look[frame]
                if look < 0 or (place := sprite.places[look]) is None:
                    continue
                area, part = place
                pixels = canvas[:, area[0], area[1]]
                pixels *= sprite.rest[look][part]
                pixels += sprite.color[look][:, part[0], part[1]]
                np.copyto(pictures.masks[frame][area], i + 1, where=sprite.solid[look][part])
            canvas += 0.5
            pictures.frames[frame] = cv2.merge(list(canvas))
        return pictures

    def _sprite(self, simulation: Moving, i: int, light: Image) -> _Sprite:
        """Draw an object's looks, and take its shadow from the floor's light (F, h, w)."""
        thing, frames = simulation.objects[i], len(light)
        middle = HALF_HEIGHT[thing.shape]
        state = np.concatenate([simulation.positions[:frames, i], simulation.angles[:frames, i, None]], axis=1)
        # What moves less than can be seen need not be drawn again.
        grid = STILL * CAMERA.width / self.width
        state = np.round(state / grid) * grid
        u, v, depth = np.moveaxis(CAMERA.project(np.pad(state[:, :2], ((0, 0), (0, 1)), constant_values=middle)), -1, 0)
        near = (np.abs(u - 0.5) < 0.6) & (np.abs(v - 0.5) < 0.6)
        changed = np.any(state[1:] != state[:-1], axis=1) | ~near[:-1]
        first = np.flatnonzero(near & np.append(True, changed))
        look = np.where(near, np.cumsum(np.isin(np.arange(frames), first)) - 1, -1)
        if not len(first):
            empty = np.empty((0, 1, 1), np.float32)
            return _Sprite(look.tolist(), [], empty[:, None], empty, empty > 0, depth)
        looks = state[first].astype(np.float32)
        pixels_a_unit = CAMERA.distance * self.width / (CAMERA.width * depth[first].min())
        at = np.stack([u[first] * self.width, v[first] * self.height], axis=1)

        # Half of the picture's height: the outline and the object's height as they look from the camera's slant.
        upward, forward = -CAMERA.axes[2, 2], CAMERA.axes[2, 1]
        radius = OUTLINE_RADIUS[thing.shape]
        reach = radius if thing.shape == "sphere" else radius * upward + middle * forward
        corner, side = _patches(at, 1.06 * max(reach, radius) * pixels_a_unit)
        body, white, cover = self._cast(thing.shape, thing.material == "metal", looks, corner, side)
        own = np.array(RGB[thing.color], np.float32)[:, None, None]
        color = np.minimum(body[:, None] * own + 255 * white[:, None], 255 * cover[:, None])
        places = [self._place(x, y, side) for x, y in corner.tolist()]

        corner, side = _patches(at, 2 * (radius + 0.1) * pixels_a_unit)
        shade = self._shade(thing.shape, looks, corner, side)
        shown = np.bincount(look[near], minlength=len(first)).tolist()  # frames of each look
        for k, (x, y) in enumerate(corner.tolist()):
            place = self._place(x, y, side)
            if place:
                light[first[k] : first[k] + shown[k], place[0][0], place[0][1]] *= shade[k][place[1]]
        return _Sprite(look.tolist(), places, color, 1 - cover, cover >= 0.5, depth)

    def _place(self, x: int, y: int, side: int) -> Place | None:
        """The part of a patch with its corner at x, y that lies in the image."""
        left, right, top, bottom = max(0, -x), min(side, self.width - x), max(0, -y), min(side, self.height - y)
        if left >= right or top >= bottom:
            return None
        return np.s_[y + top : y + bottom, x + left : x + right], np.s_[top:bottom, left:right]

    def _rays(self, corner: NDArray[np.int64], steps: NDArray[np.floating[Any]]) -> tuple[Image, Image, Image]:
        """Directions dx (K, 1, r), dy and dz (K, r, 1) of the rays at `steps` (r,) pixels from the patches' corners.

        The camera looks along y: x of a ray depends on the column only, y and z on the row only.
        """
        along = ((corner[:, :1] + steps) / self.width - 0.5) * CAMERA.width
        down = (0.5 - (corner[:, 1:] + steps) / self.height) * CAMERA.width / ASPECT
        _, upward, forward = CAMERA.axes
        dy, dz = (down * upward[k] + CAMERA.distance * forward[k] for k in (1, 2))
        return (
            along[:, None, :].astype(np.float32),
            dy[:, :, None].astype(np.float32),
            dz[:, :, None].astype(np.float32),
        )

    def _cast(
        self, shape: str, metal: bool, looks: Image, corner: NDArray[np.int64], side: int
    ) -> tuple[Image, Image, Image]:
        """Own colour, white and coverage of the patches' pixels, (K, s, s) each, from looks (K, 3) x, y, angle."""
        dx, dy, dz = self._rays(corner, (np.arange(side * self.rays) + 0.5) / self.rays)
        results = np.empty((3, len(looks), side, side), np.float32)
        piece = max(1, PIECE // (side * self.rays) ** 2)
        for first in range(0, len(looks), piece):
            part = slice(first, first + piece)
            eye = np.array(CAMERA.eye, np.float32) - np.pad(looks[part, :2], ((0, 0), (0, 1)))
            rays = Rays(dx[part], dy[part], dz[part], *(eye[:, k, None, None] for k in range(3)))
            hit, body, white = CASTS[shape](rays, looks[part, 2, None, None], metal)
            cover = hit.astype(np.float32)
            for k, value in enumerate((body * cover, white * cover, cover)):
                # The patches one below the other are one tall image: each pixel is the mean of its rays.
                tall = value.reshape(-1, side * self.rays)
                small = cv2.resize(tall, (side, len(tall) // self.rays), interpolation=cv2.INTER_AREA)
                results[k, part] = small.reshape(-1, side, side)
        return results[0], results[1], results[2]

    def _shade(self, shape: str, looks: Image, corner: NDArray[np.int64], side: int) -> Image:
        """What the shadow leaves of the floor's light on patches, (K, s, s)."""
        dx, dy, dz = self._rays(corner, np.arange(side) + 0.5)
        eye = np.array(CAMERA.eye, np.float32)
        far = -eye[2] / dz  # where the ray meets the floor
        x, y = (eye[k] - looks[:, k, None, None] for k in range(2))
        radius = OUTLINE_RADIUS[shape] * (0.9 if shape == "cube" else 1.0)
        return shadow(x + far * dx, y + far * dy, radius, 2 * HALF_HEIGHT[shape])


def _patches(at: NDArray[np.float64], reach: float) -> tuple[NDArray[np.int64], int]:
    """First pixels (K, 2) and side of square patches about points (K, 2) in pixels."""
    side = 2 * math.ceil(reach) + 1
    return np.floor(at).astype(np.int64) - side // 2, side


def _floor_light(ground: NDArray[np.float64]) -> Image:
    """The empty floor: brighter towards the lamp, falling off to the back, (h, w, 2) -> (3, h, w)."""
    x, y = ground[..., 0], ground[..., 1]
    pool = np.exp(-((x + 1.2) ** 2 + (y + 0.6) ** 2) / 28)
    back = np.exp(-((x + 2.2) ** 2 + 1.6 * (y - 4.6) ** 2) / 6)
    light = 92 + 62 * pool + 30 * back
    return np.asarray(light * np.array([1.0, 0.995, 0.985])[:, None, None], np.float32)
