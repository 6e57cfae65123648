"""Draws of the first conditions: which objects, where they rest or come from, how fast.

Contacts are too rare by chance. So most moving objects are sent to meet another one at a drawn time, as if nothing
happened on the way; what does happen is for the simulation to say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ocwm_tasks.clevrer.generator.config import GeneratorConfig
from ocwm_tasks.clevrer.generator.geometry import HALF_HEIGHT, OUTLINE_RADIUS, view_edges
from ocwm_tasks.clevrer.generator.simulation import DECELERATION, FRAME_RATE, Setup, Start
from ocwm_tasks.clevrer.scene import COLORS, MATERIALS, OBSERVED_FRAMES, ROLLOUT_FRAMES, SHAPES, ObjectProperty

REST_SHARE = 0.3  # of the objects lie still in the view at the start
START_GAP = 0.25  # least distance between two objects that start in the view
MEET_FRAMES = (20, 120)  # when two objects are sent to meet
FUTURE_FRAMES = (OBSERVED_FRAMES + 1, ROLLOUT_FRAMES - 2)  # the same for one object of each video
AIM_ERROR = 0.2  # units: full hits, glancing ones and near misses
ARRIVAL_SPEED = (0.35, 2.4)  # units/s at the meeting, if there are no contacts before
FASTEST = 3.2  # units/s of an object that comes in
LAST_ENTRY = 75  # frame at which the last objects come into the view
OUTSIDE = 0.6  # units from the view at which an object comes into the world
TRIES = 60  # draws of a way in before the object is laid to rest instead


@dataclass(frozen=True)
class _Path:
    """The way of an object without contacts: straight, slowing down to a stop."""

    thing: ObjectProperty
    start: Start

    def at(self, frame: float) -> tuple[float, float] | None:
        """Where the object is at a frame, None before its start."""
        seconds = (frame - self.start.frame) / FRAME_RATE
        if seconds < 0:
            return None
        (x, y), (vx, vy) = self.start.position, self.start.velocity
        speed = math.hypot(vx, vy)
        if speed == 0:
            return x, y
        slowing = DECELERATION[self.thing.shape, self.thing.material]
        seconds = min(seconds, speed / slowing)
        way = seconds - slowing * seconds**2 / (2 * speed)
        return x + vx * way, y + vy * way


def sample_setup(rng: np.random.Generator, config: GeneratorConfig) -> Setup:
    """Draw objects (unique in colour, material and shape) and their starts."""
    count = int(rng.integers(config.min_objects, config.max_objects + 1))
    kinds = rng.choice(len(COLORS) * len(MATERIALS) * len(SHAPES), size=count, replace=False).tolist()
    paths: list[_Path] = []
    late = rng.choice(np.arange(1, count), size=1 if count < 5 else 2, replace=False).tolist()
    for i, kind in enumerate(kinds):
        thing = ObjectProperty(COLORS[kind % 8], MATERIALS[kind // 8 % 2], SHAPES[kind // 16])
        moves = i in late or (i > 0 and rng.random() >= REST_SHARE)
        start = _way_in(rng, thing, paths, FUTURE_FRAMES if i in late else MEET_FRAMES) if moves else None
        paths.append(_Path(thing, start or _resting(rng, thing, paths)))
    order = rng.permutation(count)
    return Setup(tuple(paths[i].thing for i in order), tuple(paths[i].start for i in order))


def _resting(rng: np.random.Generator, thing: ObjectProperty, paths: list[_Path]) -> Start:
    """A place in the view that is free at the start."""
    while True:
        x, y = float(rng.uniform(-2.4, 2.4)), float(rng.uniform(-2.0, 2.5))
        if _depth(x, y, thing) > OUTLINE_RADIUS[thing.shape] + 0.1 and _free(x, y, thing, paths):
            return Start(0, (x, y), angle=float(rng.uniform(0, 2 * math.pi)))


def _way_in(
    rng: np.random.Generator, thing: ObjectProperty, paths: list[_Path], frames: tuple[int, int]
) -> Start | None:
    """A start from outside the view (or, at frame 0, on the way) that leads to a meeting with an earlier object."""
    slowing = DECELERATION[thing.shape, thing.material]
    for _ in range(TRIES):
        frame = float(rng.uniform(*frames))
        goal = paths[int(rng.integers(len(paths)))].at(frame)
        if goal is None or _depth(*goal, thing) < OUTLINE_RADIUS[thing.shape]:
            continue
        x, y = goal[0] + float(rng.normal(0, AIM_ERROR)), goal[1] + float(rng.normal(0, AIM_ERROR))
        angle = float(rng.uniform(0, 2 * math.pi))
        dx, dy = math.cos(angle), math.sin(angle)
        arrival = float(rng.uniform(*ARRIVAL_SPEED))
        back = _way_out(x, y, dx, dy, thing)
        seconds = (math.sqrt(arrival**2 + 2 * slowing * back) - arrival) / slowing
        first = frame - FRAME_RATE * seconds
        if first < 0:
            # Already on its way at frame 0.
            seconds, first = frame / FRAME_RATE, 0.0
            back = arrival * seconds + slowing * seconds**2 / 2
        speed = arrival + slowing * seconds
        at = x - back * dx, y - back * dy
        entry = first + OUTSIDE / speed * FRAME_RATE
        if speed <= FASTEST and entry <= LAST_ENTRY and (first > 0 or _free(*at, thing, paths)):
            return Start(round(first), at, (speed * dx, speed * dy), angle=float(rng.uniform(0, 2 * math.pi)))
    return None


def _way_out(x: float, y: float, dx: float, dy: float, thing: ObjectProperty) -> float:
    """Distance from a point in the view, against the direction of travel, to where the object is well outside."""
    return min(
        (a * x + b * y + c + OUTSIDE) / (a * dx + b * dy)
        for a, b, c in view_edges(HALF_HEIGHT[thing.shape])
        if a * dx + b * dy > 1e-6
    )


def _free(x: float, y: float, thing: ObjectProperty, paths: list[_Path]) -> bool:
    """Whether the place is clear of all objects that are in the world at frame 0."""
    reach = OUTLINE_RADIUS[thing.shape] + START_GAP
    return all(
        math.dist((x, y), path.start.position) > reach + OUTLINE_RADIUS[path.thing.shape]
        for path in paths
        if path.start.frame == 0
    )


def _depth(x: float, y: float, thing: ObjectProperty) -> float:
    return min(a * x + b * y + c for a, b, c in view_edges(HALF_HEIGHT[thing.shape]))
