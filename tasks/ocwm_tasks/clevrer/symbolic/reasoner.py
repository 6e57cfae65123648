"""A reasoner without a network: latents -> object states -> events -> the question's program.

Its only fitted parts are a linear probe and the thresholds of the event rules, both from training videos.

Shape letters: V videos, T frames, N slots, n objects, D slot dimension, R removals, S answers (one for each descriptive
question and for each choice).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ocwm_tasks.clevrer.scene import OBSERVED_FRAMES, ROLLOUT_FRAMES, Collision, Scene
from ocwm_tasks.clevrer.symbolic.calibration import fit_moving, fit_rules
from ocwm_tasks.clevrer.symbolic.counterfactual import Imagined, Removals, descend
from ocwm_tasks.clevrer.symbolic.events import Collisions, find_collisions
from ocwm_tasks.clevrer.symbolic.probe import ProbeReport, RidgeProbe, SlotStates, fit_probe, targets_of
from ocwm_tasks.clevrer.symbolic.rules import EventRules
from ocwm_tasks.clevrer.symbolic.sources import RemovalSource
from ocwm_tasks.clevrer.symbolic.tracks import Float32, Ints, Tracks, tracks_of
from ocwm_tasks.clevrer.world import SAMPLE_STEP, Pair, World, sample_speeds


@dataclass(frozen=True)
class Reading:
    """What the reasoner makes of the latents of V videos.

    Attributes:
        latents: (V, T, N, D) what was read.
        states, tracks, collisions: its states, cleaned tracks and collisions.
        worlds: for each video the facts that programs can ask about.
        slots: for each video the slot of each object of its world.
    """

    latents: Float32
    states: SlotStates
    tracks: Tracks
    collisions: Collisions
    worlds: tuple[World, ...]
    slots: tuple[Ints, ...]


class SymbolicReasoner:
    """Reads latents and answers by executing programs.

    Args:
        probe: latents -> states.
        rules: states -> collisions.
        moving: speed in units per frame above which an object moves.
    """

    version = 2

    def __init__(self, probe: RidgeProbe, rules: EventRules, *, moving: float) -> None:
        self.probe = probe
        self.rules = rules
        self.moving = moving

    @classmethod
    def fit(
        cls, latents: Float32, scenes: Sequence[Scene], slot_of: Ints, *, frame_step: int = 4, seed: int = 0
    ) -> SymbolicReasoner:
        """Fit probe and thresholds on training videos.

        Args:
            latents: (V, T, N, D), one for each sample of the scenes.
            scenes: V scenes with the same frames and with their collisions.
            slot_of: (V, n or more) the slot that holds each object.
            frame_step: see `fit_probe`.
            seed: of the noise that the rules are made robust with.
        """
        targets = targets_of(scenes, slot_of, num_slots=latents.shape[2])
        probe = fit_probe(latents, targets, frame_step=frame_step)
        frames = scenes[0].frames
        states = probe.decode(latents, observed=int((frames < OBSERVED_FRAMES).sum()))
        tracks = tracks_of(states, frames, imagined=np.zeros(targets.visible.shape, dtype=np.bool_))
        rows = [
            (video, collision.frame, slot_of[video, collision.a], slot_of[video, collision.b])
            for video, scene in enumerate(scenes)
            for collision in scene.collisions
            if collision.frame <= frames[-1]
        ]
        rules = fit_rules(tracks, Collisions.of_rows(np.array(rows, dtype=np.int64)), seed=seed)
        return cls(probe, rules, moving=_fit_moving(tracks, scenes, slot_of))

    def read(self, latents: Float32, *, frames: Ints | None = None, observed: int | Ints | None = None) -> Reading:
        """Facts of videos whose first samples are observed and the others imagined.

        Args:
            latents: (V, T, N, D).
            frames: (T,) video frame of each sample; default 0, 1, 2, ...
            observed: number of observed samples, one or (V,); default: those before frame 128.
        """
        frames = np.arange(latents.shape[1]) if frames is None else frames
        seen = np.broadcast_to((frames < OBSERVED_FRAMES).sum() if observed is None else observed, len(latents))
        states = self.probe.decode(latents, observed=seen)
        imagined = np.arange(len(frames)) >= seen[:, None]
        tracks = tracks_of(states, frames, imagined=np.broadcast_to(imagined[..., None], latents.shape[:3]))
        collisions = find_collisions(tracks, self.rules)
        worlds, slots = [], []
        rows = np.flatnonzero(frames % SAMPLE_STEP == 0)
        for video in range(len(latents)):
            mine = np.flatnonzero(tracks.objects[video])
            number = {int(slot): i for i, slot in enumerate(mine)}
            visible = tracks.visible[video][rows][:, mine]
            speeds = sample_speeds(frames[rows], tracks.positions[video][rows][:, mine], visible)
            found = [Collision(frame, number[a], number[b]) for frame, a, b in collisions.of(video)]
            properties = tuple(states.properties(video, int(slot)) for slot in mine)
            worlds.append(World.from_samples(properties, frames[rows], visible, speeds > self.moving, found))
            slots.append(mine)
        return Reading(latents, states, tracks, collisions, tuple(worlds), tuple(slots))

    def removals(self, reading: Reading, asked: Sequence[tuple[int, int]]) -> Removals:
        """Removals of objects given as (video, number of the object in its world)."""
        slots = reading.tracks.shape.shape[1]
        release = np.full((len(asked), slots), np.iinfo(np.int64).max)
        start = np.zeros(len(asked), dtype=np.int64)
        for row, (video, thing) in enumerate(asked):
            held = reading.slots[video]
            start[row], release[row, held] = descend(reading.worlds[video].events, thing, count=len(held))
        videos = np.array([video for video, _ in asked], dtype=np.int64)
        removed = np.array([reading.slots[video][thing] for video, thing in asked], dtype=np.int64)
        return Removals(videos, removed, start, release)

    def without(
        self, reading: Reading, asked: Sequence[tuple[int, int]], source: RemovalSource
    ) -> tuple[dict[int, dict[int, frozenset[Pair]]], Imagined]:
        """For each video and each removed object that is asked about: the pairs that collide without it."""
        removals = self.removals(reading, asked)
        imagined = source(
            reading.latents, removals, probe=self.probe, shape=reading.tracks.shape, touch=self.rules.touch
        )
        states = reading.states
        attributes = {name: getattr(states, name)[removals.video] for name in ("color", "material", "shape")}
        shown = SlotStates(imagined.state[..., :2], imagined.state[..., 2], **attributes)
        known = reading.tracks.imagined[removals.video]
        tracks = tracks_of(shown, reading.tracks.frames, imagined=imagined.driven | known, shortest=0)
        collisions = find_collisions(tracks, self.rules).within(0, ROLLOUT_FRAMES)
        pairs: dict[int, dict[int, frozenset[Pair]]] = {}
        for row, (video, thing) in enumerate(asked):
            number = {int(slot): i for i, slot in enumerate(reading.slots[video])}
            found = collisions.of(row)
            happen = {frozenset((number[a], number[b])) for _, a, b in found if a in number and b in number}
            pairs.setdefault(video, {})[thing] = frozenset(happen)
        return pairs, imagined

    def save(self, folder: Path) -> None:
        """Write the fitted parts into a folder that exists."""
        probe = self.probe
        np.savez(folder / "probe.npz", weights=probe.weights, intercept=probe.intercept, empty=probe.empty)
        fitted = {"moving": self.moving, "rules": self.rules.as_dict(), "probe": self.probe.report.as_dict()}
        (folder / "rules.json").write_text(json.dumps(fitted, indent=1))

    @classmethod
    def load(cls, folder: Path) -> SymbolicReasoner:
        """Read what `save` wrote."""
        fitted: dict[str, Any] = json.loads((folder / "rules.json").read_text())
        with np.load(folder / "probe.npz") as arrays:
            probe = RidgeProbe(arrays["weights"], arrays["intercept"], arrays["empty"], ProbeReport(**fitted["probe"]))
        return cls(probe, EventRules.from_dict(fitted["rules"]), moving=fitted["moving"])


class Recorder(Mapping[int, frozenset[Pair]]):
    """Stands in for what is known about removals: says the same for every object, and notes which are asked about."""

    def __init__(self, pairs: frozenset[Pair] = frozenset()) -> None:
        self.pairs = pairs
        self.asked: set[int] = set()

    def __getitem__(self, thing: int) -> frozenset[Pair]:
        self.asked.add(thing)
        return self.pairs

    def __contains__(self, thing: object) -> bool:
        return True

    def __iter__(self) -> Iterator[int]:
        return iter(self.asked)

    def __len__(self) -> int:
        return len(self.asked)


def idle_future(reading: Reading) -> Reading:
    """The same reading of observed frames only, with nothing happening after them."""
    return replace(reading, worlds=tuple(replace(world, horizon=ROLLOUT_FRAMES) for world in reading.worlds))


def _fit_moving(tracks: Tracks, scenes: Sequence[Scene], slot_of: Ints) -> float:
    rows = np.flatnonzero(tracks.frames % SAMPLE_STEP == 0)
    speeds, moving = [], []
    for video, scene in enumerate(scenes):
        truth = World.from_scene(scene)
        held = slot_of[video, : len(scene.objects)]
        visible = tracks.visible[video][rows][:, held]
        read = sample_speeds(tracks.frames[rows], tracks.positions[video][rows][:, held], visible)
        both = (visible & scene.visible[rows])[: len(truth.frames)]
        speeds.append(read[: len(truth.frames)][both])
        moving.append(truth.moving[both])
    return fit_moving(np.concatenate(speeds), np.concatenate(moving))
