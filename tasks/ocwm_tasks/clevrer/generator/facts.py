"""What may be asked about a simulated video, and what is too close to call.

A question is only asked where somebody who sees the states of the objects can be expected to tell: contacts outside the view,
contacts so soft that nothing changes, near misses and speeds near the threshold are left out.

Shape letters: F simulated frames, T observed samples, n objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from ocwm_tasks.clevrer.generator.phrases import Names
from ocwm_tasks.clevrer.generator.simulation import Simulation
from ocwm_tasks.clevrer.scene import OBSERVED_FRAMES, ROLLOUT_FRAMES, Scene
from ocwm_tasks.clevrer.world import MOVING_SPEED, SAMPLE_STEP, Event, World, pairs_of, sample_speeds

ORDER_FRAMES = 3  # events this near to each other have no order that could be asked about
REPEAT_FRAMES = 15  # two contacts of a pair this near to each other could be counted as one


@dataclass(frozen=True)
class Margins:
    """How clear a fact must be to be asked about.

    Attributes:
        gap: pairs whose outlines come this near (world units) without touching are not asked about, where they are imagined.
        observed_gap: the same for the observed frames: a video with such a pair gets no questions about observed collisions.
        kick: a contact must change the velocity of one of the two by this much (units/s).
        last_contact: a first contact after this frame is not asked about: its effect can't be seen by frame 159.
        speed: speeds within this factor of the threshold count neither as moving nor as stationary.
    """

    gap: float = 0.1
    observed_gap: float = 0.03
    kick: float = 0.15
    last_contact: int = 156
    speed: float = 2.0


@dataclass(frozen=True)
class QuestionSource:
    """The simulations behind one video's questions.

    Attributes:
        index: number of the video.
        simulation: what happens; 192 frames.
        removals: what happens without each of the objects; at least 160 frames.
    """

    index: int
    simulation: Simulation
    removals: Mapping[int, Simulation]


class Facts:
    """Truth about one video, with what is clear enough to be asked."""

    def __init__(self, source: QuestionSource, margins: Margins) -> None:
        self.source = source
        self.margins = margins
        simulation = source.simulation
        frames = np.arange(ROLLOUT_FRAMES)
        scene = Scene(
            source.index,
            simulation.objects,
            frames,
            simulation.positions[frames],
            simulation.visible[frames],
            tuple(c for c in simulation.collisions if c.frame < ROLLOUT_FRAMES),
            "world",
        )
        removed = {
            i: frozenset(frozenset((c.a, c.b)) for c in run.collisions if c.frame < ROLLOUT_FRAMES)
            for i, run in source.removals.items()
        }
        self.world = World.from_scene(scene, counterfactual=removed)
        self.seen = self.world.seen
        self.names = Names(simulation.objects, self.seen)

    @cached_property
    def crossings(self) -> Mapping[str, Mapping[int, Event]]:
        """The single entrance (`in`) and the single exit (`out`) of the objects that have exactly one."""
        return {
            kind: {found[0].objects[0]: found[0] for i in self.seen if len(found := self._events(kind, i)) == 1}
            for kind in ("in", "out")
        }

    @cached_property
    def clear_motion(self) -> tuple[list[list[bool]], list[bool]]:
        """Whether it is beyond doubt that an object moves, or rests: at each sample (T, n), and at any sample at all (n)."""
        simulation, rows = self.source.simulation, self.world.frames
        visible = simulation.visible[rows]
        speeds = sample_speeds(rows, simulation.positions[rows], visible)
        low, high = MOVING_SPEED["world"] / self.margins.speed, MOVING_SPEED["world"] * self.margins.speed
        top = speeds.max(axis=0)
        return ((speeds < low) | (speeds > high) | ~visible).tolist(), ((top < low) | (top > high)).tolist()

    @cached_property
    def clear_contacts(self) -> bool:
        """Whether the observed collisions, their number and the order of each object's events are beyond doubt."""
        run = self.source.simulation
        observed = [e for e in self.world.observed if e.kind == "collision"]
        for event in observed:
            a, b = event.objects
            if not (run.visible[event.frame, [a, b]].all() and a in self.seen and b in self.seen):
                return False
        latest: dict[frozenset[int], int] = {}
        for event in observed:
            assert event.frame is not None
            pair = frozenset(event.objects)
            if event.frame - latest.get(pair, -REPEAT_FRAMES) < REPEAT_FRAMES:
                return False
            latest[pair] = event.frame
        for i in self.seen:
            own = [e for e in self.world.observed if i in e.objects]
            for early, late in pairwise(own):
                assert early.frame is not None
                assert late.frame is not None
                if "collision" in (early.kind, late.kind) and late.frame - early.frame <= ORDER_FRAMES:
                    return False
        return not any(
            frozenset(pair) not in latest and self._nearest(run, pair, 0, OBSERVED_FRAMES) <= self.margins.observed_gap
            for pair in pairs_of(self.seen)
        )

    @cached_property
    def future(self) -> Mapping[tuple[int, int], bool]:
        """Pairs to ask about what comes next, and whether they collide: seen at the end, never in touch before."""
        run, last = self.source.simulation, OBSERVED_FRAMES - 1
        there = [i for i in self.seen if run.visible[last, i]]
        found = {}
        for pair in pairs_of(there):
            frames = _contacts(run, pair)
            if frames and frames[0] < OBSERVED_FRAMES:
                continue
            verdict = self._verdict(run, pair, frames, OBSERVED_FRAMES)
            if verdict is not None:
                found[pair] = verdict
        return found

    @cached_property
    def without(self) -> Mapping[int, Mapping[tuple[int, int], bool]]:
        """For each seen object that is removed: the pairs to ask about, and whether they collide."""
        found: dict[int, dict[tuple[int, int], bool]] = {}
        for removed, run in self.source.removals.items():
            if removed in self.seen:
                pairs = pairs_of([i for i in self.seen if i != removed])
                verdicts = {pair: self._verdict(run, pair, _contacts(run, pair), 0) for pair in pairs}
                found[removed] = {pair: verdict for pair, verdict in verdicts.items() if verdict is not None}
        return found

    @cached_property
    def collided(self) -> Mapping[tuple[int, int], int]:
        """Frame of the first contact of the pairs that collide by frame 159 with nothing removed."""
        first: dict[tuple[int, int], int] = {}
        for event in self.world.events:
            if event.kind == "collision" and event.frame is not None:
                first.setdefault((event.objects[0], event.objects[1]), event.frame)
        return first

    def approach(self, pair: tuple[int, int]) -> tuple[int, bool]:
        """How things stand at the last observed frame: the gap in steps of 0.5 units (at most 5), and whether it closes."""
        run, last = self.source.simulation, OBSERVED_FRAMES - 1
        way = run.positions[last, pair[1]] - run.positions[last, pair[0]]
        speed = run.velocities[last, pair[1]] - run.velocities[last, pair[0]]
        return min(int(run.gaps[last, pair[0], pair[1]] / 0.5), 5), bool(way @ speed < 0)

    def _events(self, kind: str, i: int) -> list[Event]:
        return [e for e in self.world.observed if e.kind == kind and e.objects == (i,)]

    def _nearest(self, run: Simulation, pair: tuple[int, int], first: int, end: int) -> float:
        return float(run.gaps[first:end, pair[0], pair[1]].min())

    def _verdict(self, run: Simulation, pair: tuple[int, int], contacts: list[int], first: int) -> bool | None:
        """Whether the pair collides in the frames `first` .. 159; None when too close to call."""
        if not contacts:
            end = min(len(run.gaps), ROLLOUT_FRAMES + SAMPLE_STEP)
            return None if self._nearest(run, pair, first, end) <= self.margins.gap else False
        frame = contacts[0]
        if frame > self.margins.last_contact or not run.visible[frame, list(pair)].all():
            return None
        before, after = max(frame - 1, 0), frame + 1
        change = run.velocities[after, list(pair)] - run.velocities[before, list(pair)]
        return True if np.nanmax(np.linalg.norm(change, axis=-1)) >= self.margins.kick else None


def _contacts(run: Simulation, pair: tuple[int, int]) -> list[int]:
    return [c.frame for c in run.collisions if (c.a, c.b) == pair]
