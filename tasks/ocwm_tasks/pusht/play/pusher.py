"""The policy behind play data: go around the block, push it, step back, choose the next push."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.pusht.play.config import PlayConfig
from ocwm_tasks.pusht.play.contacts import CLEAR, draw_pushes
from ocwm_tasks.pusht.state import ACTION_SCALE, ARENA, BLOCK_CENTRE, block_centre, turn_between

MIDDLE = ARENA / 2
_CANDIDATES = 24
_HOME_SPREAD = 45.0  # px, of the block's centre of gravity at the start, and of goals, around the middle
_HOME_REACH = (
    100.0  # px from the middle, along each axis: starts and goals lie within it, and no push is meant to leave it
)
_LEASH = 120.0  # px from the middle, along each axis: a push that takes the block further is broken off
_BORDER = 20.0  # px: no target of the agent is nearer to the edge
_TURN_WEIGHT = 50.0  # px: how much a radian counts in the distance between two poses
_FAR = 160.0  # px: ways to a push that are this much longer make it e times less likely
_ARRIVED = 12.0  # px
_AT_CONTACT = 25.0  # px: so near to a contact the agent pushes on without stepping back
_PATIENCE = 40  # steps for one push and the way to it

Point = tuple[float, float]


def draw_start(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the state (7,) that an episode starts from: everything at rest, the block near the middle, the agent clear of it."""
    centre, angle = _draw_pose(rng)
    block = centre - (block_centre(np.array([0, 0, 0, 0, angle, 0, 0], dtype=np.float64)))
    while True:
        agent = rng.uniform(_BORDER, ARENA - _BORDER, 2)
        if np.hypot(*(agent - centre)) > CLEAR:
            return np.array([*agent, *block, angle, 0.0, 0.0])


def _draw_pose(rng: np.random.Generator) -> tuple[NDArray[np.float64], float]:
    """A centre of gravity and an angle."""
    offset = rng.normal(0, _HOME_SPREAD, 2)
    return MIDDLE + np.clip(offset, -_HOME_REACH, _HOME_REACH), float(rng.uniform(0, 2 * np.pi))


class Pusher:
    """Acts for one episode; everything is drawn from `rng`."""

    def __init__(self, rng: np.random.Generator, config: PlayConfig) -> None:
        self._rng, self._config = rng, config
        pace = 1 + config.speed_spread * rng.uniform(-1, 1)
        self._speeds = config.speed * pace, config.push_speed * pace
        self._goal = _draw_pose(rng)
        self._way: list[Point] = []  # points to pass, the last is the end of the push
        self._back: Point = (0.0, 0.0)  # the direction that leads away from the block after the push
        self._steps = 0

    def act(self, state: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the action (2,) for a state (7,)."""
        here = float(state[0]), float(state[1])
        centre = _block_centre(state)
        self._steps += 1
        if self._way and math.dist(here, self._way[0]) < _ARRIVED:
            self._way.pop(0)
        astray = max(abs(centre[0] - MIDDLE), abs(centre[1] - MIDDLE)) > _LEASH
        if not self._way or self._steps > _PATIENCE or (astray and len(self._way) == 1):
            self._choose(here, np.array(centre), float(state[4]))
        target = self._around(here, centre)
        return self._action(here, target, centre)

    def _choose(self, here: Point, centre: NDArray[np.float64], angle: float) -> None:
        """Choose the next push and the way to it: back off, to the entry, along the push."""
        config, rng = self._config, self._rng
        pushes = draw_pushes(
            rng, count=_CANDIDATES, centre=centre, angle=angle, low=config.push_min, high=config.push_max
        )
        after = centre + pushes.shift
        gap = max(CLEAR - math.dist(here, _point(centre)), 0.0)  # more than 0 where the agent still stands at the block
        touching = np.linalg.norm(pushes.contact - np.array(here), axis=1) < _AT_CONTACT
        ways = np.where(touching, 0.0, gap + np.linalg.norm(pushes.entry - np.array(here), axis=1))
        outside = np.maximum(np.abs(after - MIDDLE) - _HOME_REACH, 0.0).sum(axis=1)
        if rng.random() < config.goal_share:
            if self._distance(centre, angle) < 30.0:
                self._goal = _draw_pose(rng)
            left = self._distance(after, angle + pushes.turn)
            best = int(np.argmin(left + 2 * outside + ways / 10))
        else:
            chance = np.exp(-ways / _FAR - outside / 5.0)
            best = int(rng.choice(_CANDIDATES, p=chance / chance.sum()))
        direction, entry = pushes.direction[best], pushes.entry[best]
        side = rng.normal(0, config.aim_spread) * np.array([-direction[1], direction[0]])
        end = pushes.contact[best] + pushes.length[best] * direction
        if touching[best]:
            self._way = [_point(end)]
        else:
            self._way = [_point(entry + side), _point(end + side)]
            if gap > 0:
                self._way.insert(0, (here[0] + self._back[0] * (gap + 5), here[1] + self._back[1] * (gap + 5)))
        self._back = _point(-direction)
        self._steps = 0

    def _distance(self, centre: NDArray[np.float64], angle: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """How far poses are from the goal, in px."""
        goal, goal_angle = self._goal
        turn = turn_between(np.asarray(angle), np.asarray(goal_angle))
        return np.asarray(np.hypot(np.linalg.norm(centre - goal, axis=-1), _TURN_WEIGHT * turn))

    def _around(self, here: Point, centre: Point) -> Point:
        """Where to head for now: the next point of the way, or along the block's circle where it is in between."""
        target = self._way[0]
        if len(self._way) != 2:  # stepping back or pushing
            return target
        way = target[0] - here[0], target[1] - here[1]
        length = math.hypot(*way)
        to_centre = centre[0] - here[0], centre[1] - here[1]
        passed = min(max((way[0] * to_centre[0] + way[1] * to_centre[1]) / length, 0.0), length)
        nearest = here[0] + way[0] / length * passed, here[1] + way[1] / length * passed
        if math.dist(nearest, centre) > CLEAR - 7:
            return target
        distance = max(math.hypot(*to_centre), 1e-6)
        outward = -to_centre[0] / distance, -to_centre[1] / distance
        left = way[0] * -outward[1] + way[1] * outward[0] > 0
        tangent = (-outward[1], outward[0]) if left else (outward[1], -outward[0])
        lift = min(max((CLEAR + 8 - distance) / 40, -0.5), 1.0)
        return here[0] + 100 * (tangent[0] + lift * outward[0]), here[1] + 100 * (tangent[1] + lift * outward[1])

    def _action(self, here: Point, target: Point, centre: Point) -> NDArray[np.float32]:
        """The action that heads for the target at this episode's speed, noisy, and never over the border."""
        pushing = len(self._way) == 1 and math.dist(here, centre) < CLEAR - 5
        wish = (target[0] - here[0]) / ACTION_SCALE, (target[1] - here[1]) / ACTION_SCALE
        scale = min(1.0, self._speeds[pushing] / max(math.hypot(*wish), 1e-9))
        noise = self._rng.normal(0, self._config.noise, 2)
        action = []
        for axis in range(2):
            value = wish[axis] * scale + float(noise[axis])
            low, high = (_BORDER - here[axis]) / ACTION_SCALE, (ARENA - _BORDER - here[axis]) / ACTION_SCALE
            action.append(min(max(value, low), high))
        return np.array(action, dtype=np.float32)


def _block_centre(state: NDArray[np.float64]) -> Point:
    """`state.block_centre` of one state, without arrays: it is asked for at every step."""
    angle, (x, y) = float(state[4]), BLOCK_CENTRE
    sin, cos = math.sin(angle), math.cos(angle)
    return float(state[2]) + cos * x - sin * y, float(state[3]) + sin * x + cos * y


def _point(values: NDArray[np.float64]) -> Point:
    return float(values[0]), float(values[1])
