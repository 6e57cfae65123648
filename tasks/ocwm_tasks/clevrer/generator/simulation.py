"""The world in motion: rigid bodies on a floor, seen from above.

Discs (spheres, cylinders) and boxes (cubes) with mass, contact friction and restitution by shape and material. The
floor slows every object by a constant deceleration until it stops: little for rolling spheres, much for sliding cubes
and cylinders.

Shape letters: F frames (25 per second), n objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pymunk
from numpy.typing import NDArray
from pymunk.batch import BodyFields, Buffer, get_space_bodies

from ocwm_tasks.clevrer.generator.gaps import outline_gaps
from ocwm_tasks.clevrer.generator.geometry import (
    CUBE_SIDE,
    CYLINDER_RADIUS,
    HALF_HEIGHT,
    OUTLINE_RADIUS,
    SPHERE_RADIUS,
    inside,
    view_edges,
)
from ocwm_tasks.clevrer.scene import Collision, ObjectProperty

FRAMES = 192
FRAME_RATE = 25
SUBSTEPS = 2  # solver steps per frame: at 3 units/s an object moves 0.06 units, a fifth of its radius, in one
STEP = 1 / (FRAME_RATE * SUBSTEPS)
REST_FRAMES = 8  # a contact is a new collision when the pair has been apart for this many frames
LEAVE_MARGIN = 0.35  # an object whose centre is this far outside the view has left the world for good
LEAVE_EVERY = 6  # frames between looks for objects that have left

MASS = {"sphere": 0.8, "cylinder": 1.0, "cube": 1.2}
DENSITY = {"metal": 1.8, "rubber": 1.0}
RESTITUTION = {"metal": 0.92, "rubber": 0.78}  # of a contact: the product of the two
CONTACT_FRICTION = {"metal": 0.45, "rubber": 0.65}  # of a contact: the product of the two
# Deceleration by the floor in units/s^2: rolling for spheres, sliding for the others.
DECELERATION = {
    ("sphere", "metal"): 0.08,
    ("sphere", "rubber"): 0.16,
    ("cylinder", "metal"): 0.25,
    ("cylinder", "rubber"): 0.40,
    ("cube", "metal"): 0.30,
    ("cube", "rubber"): 0.45,
}

_STATE = BodyFields.BODY_ID | BodyFields.POSITION | BodyFields.ANGLE | BodyFields.VELOCITY | BodyFields.ANGULAR_VELOCITY


@dataclass(frozen=True)
class Start:
    """How an object comes into the world: frame, position (units), velocity (units/s), angle and spin (rad, rad/s)."""

    frame: int
    position: tuple[float, float]
    velocity: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0
    spin: float = 0.0


@dataclass(frozen=True)
class Setup:
    """All that a simulation depends on: n objects and their starts."""

    objects: tuple[ObjectProperty, ...]
    starts: tuple[Start, ...]


@dataclass(frozen=True)
class Simulation:
    """What happened to n objects in F frames.

    Attributes:
        objects: n objects.
        positions: (F, n, 2) float32 world units; NaN while not present.
        angles: (F, n) float32 radians about the vertical; NaN while not present.
        velocities: (F, n, 2) float32 units/s; NaN while not present.
        angular_velocities: (F, n) float32 rad/s; NaN while not present.
        visible: (F, n) bool, the object's centre is inside the camera view.
        present: (F, n) bool, has come into the world and not yet left it.
        collisions: first contacts of contact episodes, sorted by frame: the first frame at or after the contact.
        gaps: (F, n, n) float32 distance between the outlines on the floor; about 0 in contact, inf where one is absent.
        removed: index of the object that was left out, if any; its columns are NaN and False.
    """

    objects: tuple[ObjectProperty, ...]
    positions: NDArray[np.float32]
    angles: NDArray[np.float32]
    velocities: NDArray[np.float32]
    angular_velocities: NDArray[np.float32]
    visible: NDArray[np.bool_]
    present: NDArray[np.bool_]
    collisions: tuple[Collision, ...]
    gaps: NDArray[np.float32]
    removed: int | None = None


@dataclass(frozen=True)
class Trace:
    """The bare result of a run: enough to judge it, a third of the cost of a `Simulation`.

    Attributes:
        setup: what was simulated.
        states: (F, n, 6) float64: x, y, angle, velocity x, y, spin; NaN while not present.
        collisions: as in `Simulation`.
        removed: index of the object that was left out, if any.
    """

    setup: Setup
    states: NDArray[np.float64]
    collisions: tuple[Collision, ...]
    removed: int | None

    def depth(self) -> NDArray[np.float64]:
        """Distance of the centres from the border of the view, negative outside, NaN while not present, (F, n)."""
        heights = [HALF_HEIGHT[thing.shape] for thing in self.setup.objects]
        return np.stack([inside(self.states[:, i, :2], height) for i, height in enumerate(heights)], axis=1)

    def simulation(self) -> Simulation:
        """The same run with all that follows from the states."""
        present = np.isfinite(self.states[..., 0])
        states = self.states.astype(np.float32)
        return Simulation(
            objects=self.setup.objects,
            positions=states[..., :2],
            angles=states[..., 2],
            velocities=states[..., 3:5],
            angular_velocities=states[..., 5],
            visible=np.nan_to_num(self.depth(), nan=-1.0) >= 0,
            present=present,
            collisions=self.collisions,
            gaps=outline_gaps(self.setup.objects, self.states[..., :2], self.states[..., 2]),
            removed=self.removed,
        )


def simulate(setup: Setup, *, removed: int | None = None, frames: int = FRAMES) -> Simulation:
    """Run the world for `frames` frames, if asked without one object.

    The same setup gives the same numbers bit for bit on one type of machine.
    """
    return trace(setup, removed=removed, frames=frames).simulation()


def trace(setup: Setup, *, removed: int | None = None, since: int = 0, frames: int = FRAMES) -> Trace:
    """Run the world as `simulate` does and return the bare result; the removed object is there before frame `since`."""
    space = pymunk.Space()
    space.iterations = 8
    # The defaults suit pixels; here an object is 0.5 units wide.
    space.collision_slop = 0.002
    space.collision_bias = (1 - 0.3) ** 60
    # Objects at rest are put to sleep: nothing to compute until something touches them.
    space.idle_speed_threshold, space.sleep_time_threshold = 1e-3, 0.2
    floor = space.static_body
    watch = _Contacts()
    handler = space.add_default_collision_handler()
    handler.begin = watch.begin
    handler.separate = watch.separate

    bodies: dict[int, pymunk.Body] = {}
    made: dict[int, pymunk.Body] = {}  # keeps those that have left, too: their ids must not be given again
    seen: set[int] = set()
    edges = [view_edges(HALF_HEIGHT[thing.shape]) for thing in setup.objects]
    entering: dict[int, list[int]] = {}
    for i, start in enumerate(setup.starts):
        if i != removed or start.frame < since:
            entering.setdefault(start.frame, []).append(i)
    there: list[int] = []  # bodies in the buffer for each frame
    buffer = Buffer()
    for frame in range(frames):
        watch.frame = frame
        if since and frame == since and removed in bodies:
            body = bodies.pop(removed)
            space.remove(body, *body.shapes, *body.constraints)
            # What lay still against it may move now.
            for other in bodies.values():
                other.activate()
        if frame:
            for _ in range(SUBSTEPS):
                space.step(STEP)
        for i in entering.get(frame, ()):
            bodies[i] = made[i] = _body(space, floor, setup.objects[i], setup.starts[i], i)
        if frame % LEAVE_EVERY == 0:
            for i in _left(bodies, edges, seen):
                body = bodies.pop(i)
                space.remove(body, *body.shapes, *body.constraints)
        get_space_bodies(space, _STATE, buffer)
        there.append(len(bodies) + 1)  # the floor is a body, too
    id_of = np.frombuffer(buffer.int_buf(), np.uintp)
    frame_of = np.repeat(np.arange(frames), there)
    table = np.frombuffer(buffer.float_buf(), np.float64).reshape(-1, 6)
    states = np.full((frames, len(setup.objects), 6), np.nan)
    for i, body in made.items():
        mine = np.flatnonzero(id_of == body.id)
        states[frame_of[mine], i] = table[mine]
    return Trace(setup, states, tuple(watch.collisions), removed)


class _Contacts:
    """Listens to the solver and notes the first contact of every episode."""

    def __init__(self) -> None:
        self.frame = 0
        self.collisions: list[Collision] = []
        self._parted: dict[tuple[int, int], int] = {}

    def begin(self, arbiter: pymunk.Arbiter, space: pymunk.Space, data: object) -> bool:
        pair = _pair(arbiter)
        if self.frame - self._parted.get(pair, -REST_FRAMES) >= REST_FRAMES:
            self.collisions.append(Collision(self.frame, *pair))
        return True

    def separate(self, arbiter: pymunk.Arbiter, space: pymunk.Space, data: object) -> None:
        self._parted[_pair(arbiter)] = self.frame


def _pair(arbiter: pymunk.Arbiter) -> tuple[int, int]:
    first, second = sorted(shape.number for shape in arbiter.shapes)
    return first, second


def _body(space: pymunk.Space, floor: pymunk.Body, thing: ObjectProperty, start: Start, number: int) -> pymunk.Body:
    """Put an object into the space, tied to the floor by friction."""
    mass = MASS[thing.shape] * DENSITY[thing.material]
    if thing.shape == "cube":
        moment = pymunk.moment_for_box(mass, (CUBE_SIDE, CUBE_SIDE))
    elif thing.shape == "cylinder":
        moment = pymunk.moment_for_circle(mass, 0, CYLINDER_RADIUS)
    else:
        moment = 0.4 * mass * SPHERE_RADIUS**2
    body = pymunk.Body(mass, moment)
    body.position, body.velocity = start.position, start.velocity
    body.angle, body.angular_velocity = start.angle, start.spin
    shape: pymunk.Shape
    if thing.shape == "cube":
        shape = pymunk.Poly.create_box(body, (CUBE_SIDE, CUBE_SIDE))
    else:
        shape = pymunk.Circle(body, OUTLINE_RADIUS[thing.shape])
    shape.elasticity = RESTITUTION[thing.material]
    shape.friction = CONTACT_FRICTION[thing.material]
    shape.number = number
    # A joint to the floor that may only brake (no bias), with bounded force, is Coulomb friction without a callback.
    force = mass * DECELERATION[thing.shape, thing.material]
    slide = pymunk.PivotJoint(floor, body, start.position)
    slide.max_bias, slide.max_force = 0.0, force
    spin = pymunk.GearJoint(floor, body, 0.0, 1.0)
    # Sliding friction over a round footprint brakes the spin with 2/3 of the radius as its arm.
    spin.max_bias, spin.max_force = 0.0, force * 2 / 3 * OUTLINE_RADIUS[thing.shape]
    space.add(body, shape, slide, spin)
    return body


def _left(
    bodies: dict[int, pymunk.Body], edges: Sequence[tuple[tuple[float, float, float], ...]], seen: set[int]
) -> list[int]:
    """Objects that were in the view once and are well out of it now; adds to `seen` those in the view."""
    gone = []
    for i, body in bodies.items():
        x, y = body.position
        depth = min([a * x + b * y + c for a, b, c in edges[i]])  # a list: this is an inner loop
        if depth >= 0:
            seen.add(i)
        elif depth < -LEAVE_MARGIN and i in seen:
            gone.append(i)
    return gone
