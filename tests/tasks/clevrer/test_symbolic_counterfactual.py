from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.tasks.clevrer.ball_worlds import DIM, SLOTS, encode, random_starts, roll, scene_of

from ocwm.interfaces import RolloutReference, WorldModel
from ocwm.types import ClipSpec, LatentBatch, LatentSpec
from ocwm_tasks.clevrer.symbolic.counterfactual import NEVER, Removals, descend, imagine
from ocwm_tasks.clevrer.symbolic.probe import fit_probe, targets_of
from ocwm_tasks.clevrer.symbolic.sources import ObservedRemoval
from ocwm_tasks.clevrer.world import Event

TOUCH = (0.62,) * 6
SPEC = LatentSpec(SLOTS, DIM)


class Straight(WorldModel):
    """Goes on in a straight line; notes the histories that it was given."""

    capabilities = frozenset({"variable_slots"})

    def __init__(self, *, history=3, future=4, stride=2):
        super().__init__(SPEC)
        self._clip = ClipSpec(history, future, stride)
        self.seen = []

    @property
    def clip(self):
        return self._clip

    def loss(self, batch):
        return {"loss": batch.latents.sum()}

    def rollout(self, history, *, steps):
        latents = history.latents
        self.seen.append(latents.clone())
        ahead = torch.arange(1, steps + 1, dtype=latents.dtype)[None, :, None, None]
        return LatentBatch(latents[:, -1:] + ahead * (latents[:, -1:] - latents[:, -2:-1]))


class Fixed(Straight):
    """The same, but it needs all slots."""

    capabilities = frozenset()


class Oracle(RolloutReference):
    privileged = "future"

    @property
    def clip(self):
        return ClipSpec(1, 0)

    def rollout(self, history, *, steps, truth=None):
        return LatentBatch(truth)


@pytest.fixture(scope="module")
def probe():
    rng = np.random.default_rng(0)
    scenes = [scene_of(index, random_starts(rng)) for index in range(6)]
    latents, slot_of = encode(scenes)
    return fit_probe(latents, targets_of(scenes, slot_of, num_slots=SLOTS))


def removal(release, *, slot, start):
    rows = np.full((1, SLOTS), NEVER)
    for held, frame in release.items():
        rows[0, held] = frame
    return Removals(np.array([0]), np.array([slot]), np.array([start]), rows)


def chain():
    """Ball 0 hits ball 1 (at rest), which then hits ball 2 (at rest); ball 3 flies past far away."""
    return [((-1.8, 0.0), (0.03, 0.0)), ((0.0, 0.0), (0.0, 0.0)), ((1.5, 0.0), (0.0, 0.0)), ((-2.5, 2.0), (0.02, 0.0))]


def shapes(slot_of, count):
    found = np.full((1, SLOTS), -1)
    found[0, slot_of[0, :count]] = 2
    return found


def test_descendants_follow_the_chain_of_contacts():
    events = [
        Event("start", 0),
        Event("in", 10, (0,)),
        Event("collision", 20, (2, 3)),
        Event("collision", 40, (0, 1)),
        Event("collision", 60, (1, 2)),
        Event("out", 70, (3,)),
        Event("collision", 90, (0, 2)),
    ]
    start, first = descend(events, 0, count=4)
    assert start == 10
    assert first.tolist() == [NEVER, 40, 60, NEVER]
    start, first = descend(events, 3, count=4)
    # What 2 does after it met 3 descends from 3, and so does what 0 and 1 do after they met 2.
    assert start == 20
    assert first.tolist() == [90, 60, 20, NEVER]
    assert descend(events[:1], 1, count=2)[0] == NEVER


def test_a_removed_ball_no_longer_sets_the_others_in_motion(probe):
    scene = scene_of(100, chain())
    latents, slot_of = encode([scene])
    contacts = {(c.a, c.b): c.frame for c in scene.collisions}
    slots = slot_of[0]
    removals = removal({slots[1]: contacts[0, 1], slots[2]: contacts[1, 2]}, slot=slots[0], start=contacts[0, 1])
    model = Straight()
    result = imagine(model, latents, removals, probe=probe, shape=shapes(slot_of, 4), touch=TOUCH)
    truth, _ = roll(chain(), removed=0)
    for ball in (1, 2, 3):
        visible = scene_of(100, chain(), removed=0).visible[:, ball]
        read = result.state[0, :, slots[ball]]
        np.testing.assert_allclose(read[visible, :2], truth[visible, ball], atol=0.02)
    assert (result.state[0, :, slots[0]] == 0).all()
    # Only what descends from the removed ball is driven, from shortly before its contact on.
    driven = result.driven[0].sum(axis=0)
    assert driven[slots[1]] == 160 - (contacts[0, 1] - 2)
    assert driven[slots[2]] == 160 - (contacts[1, 2] - 2)
    assert driven[slots[0]] == driven[slots[3]] == 0
    assert result.object_frames == driven.sum()


def test_the_token_is_dropped_or_filled(probe):
    scene = scene_of(100, chain())
    latents, slot_of = encode([scene])
    slots = slot_of[0]
    removals = removal({slots[1]: 50}, slot=slots[0], start=50)
    arguments = {"probe": probe, "shape": shapes(slot_of, 4), "touch": TOUCH}
    drops, fills = Straight(), Fixed()
    one = imagine(drops, latents, removals, **arguments)
    other = imagine(fills, latents, removals, **arguments)
    assert all(history.shape[2] == SLOTS - 1 for history in drops.seen)
    assert all(history.shape[2] == SLOTS for history in fills.seen)
    empty = torch.from_numpy(probe.empty).expand(history_shape := fills.seen[0][:, :, slots[0]].shape)
    assert torch.equal(fills.seen[0][:, :, slots[0]], empty)
    assert history_shape[0] == 2  # both residues of the stride in one batch
    np.testing.assert_allclose(one.state, other.state, atol=1e-5)


def test_history_is_padded_by_the_first_frame_and_calls_are_few(probe):
    scene = scene_of(100, chain())
    latents, slot_of = encode([scene])
    slots = slot_of[0]
    removals = removal({slots[1]: 3}, slot=slots[0], start=3)
    arguments = {"probe": probe, "shape": shapes(slot_of, 4), "touch": (0.0,) * 6}
    model = Fixed()
    result = imagine(model, latents, removals, **arguments)
    # The model drives from frame 1 on: history frames are 1 - 6 + 0, 2, 4 and 1 - 6 + 1, 3, 5, clipped at 0.
    first = torch.from_numpy(latents[0, 0])
    kept = [slot for slot in range(SLOTS) if slot != slots[0]]
    assert torch.equal(model.seen[0][:, :, kept], first[kept].expand(2, 3, -1, -1))
    span = model.clip.future * model.clip.stride
    assert result.calls == -(-159 // span)
    short = imagine(Fixed(), latents, removals, **arguments, frames_per_call=4)
    assert short.calls == -(-159 // 4)


def test_an_imagined_contact_releases_the_ball_that_is_met(probe):
    # Ball 1 would be stopped by ball 0; without it, it runs on and meets ball 2, which nothing observed touches.
    starts = [((0.0, 0.0), (0.0, 0.0)), ((-1.8, 0.0), (0.03, 0.0)), ((1.5, 0.1), (0.0, 0.0))]
    starts[0] = ((0.0, 0.25), (0.0, 0.0))
    scene = scene_of(101, starts)
    latents, slot_of = encode([scene])
    slots = slot_of[0]
    contact = scene.collisions[0]
    assert (contact.a, contact.b) == (0, 1)
    others = [c for c in scene.collisions if 2 in (c.a, c.b)]
    assert not others
    removals = removal({slots[1]: contact.frame}, slot=slots[0], start=contact.frame)
    result = imagine(Straight(), latents, removals, probe=probe, shape=shapes(slot_of, 3), touch=TOUCH)
    released = np.flatnonzero(result.driven[0, :, slots[2]])
    meeting = next(c.frame for c in roll(starts, removed=0)[1] if (c.a, c.b) == (1, 2))
    assert meeting - 4 <= released[0] <= meeting
    assert released[-1] == 159


def test_free_running_drives_everything_from_the_first_event(probe):
    scene = scene_of(100, chain())
    latents, slot_of = encode([scene])
    slots = slot_of[0]
    removals = removal({slots[1]: 90}, slot=slots[0], start=50)
    result = imagine(
        Straight(), latents, removals, probe=probe, shape=shapes(slot_of, 4), touch=TOUCH, free_running=True
    )
    driven = result.driven[0]
    for ball in (1, 2, 3):
        assert np.flatnonzero(driven[:, slots[ball]])[0] == 48
    assert not driven[:, slots[0]].any()


def test_without_events_nothing_is_imagined(probe):
    scene = scene_of(100, chain())
    latents, slot_of = encode([scene])
    removals = removal({}, slot=slot_of[0, 3], start=NEVER)
    model = Straight()
    for free in (False, True):
        result = imagine(
            model, latents, removals, probe=probe, shape=shapes(slot_of, 4), touch=TOUCH, free_running=free
        )
        assert result.object_frames == result.calls == 0
    assert model.seen == []


def test_portions_don_t_change_the_result(probe):
    scenes = [scene_of(200 + k, chain()) for k in range(3)]
    latents, slot_of = encode(scenes)
    release = np.full((3, SLOTS), NEVER)
    release[np.arange(3), slot_of[:, 1]] = [40, 70, 55]
    removals = Removals(np.arange(3), slot_of[:, 0], np.array([40, 70, 55]), release)
    shape = np.full((3, SLOTS), 2)
    done = []
    whole = imagine(Straight(), latents, removals, probe=probe, shape=shape, touch=TOUCH, advance=done.append)
    parts = imagine(Straight(), latents, removals, probe=probe, shape=shape, touch=TOUCH, batch=1)
    np.testing.assert_allclose(whole.state, parts.state, atol=1e-6)
    np.testing.assert_array_equal(whole.driven, parts.driven)
    assert sum(done) == 3


def test_the_real_future_cannot_imagine(probe):
    scene = scene_of(100, chain())
    latents, slot_of = encode([scene])
    with pytest.raises(ValueError, match="real future"):
        imagine(
            Oracle(SPEC),
            latents,
            removal({}, slot=0, start=5),
            probe=probe,
            shape=shapes(slot_of, 4),
            touch=TOUCH,
        )


def test_without_a_model_touched_balls_are_lost(probe):
    scene = scene_of(100, chain())
    latents, slot_of = encode([scene])
    slots = slot_of[0]
    removals = removal({slots[1]: 50}, slot=slots[0], start=50)
    result = ObservedRemoval()(latents, removals, probe=probe, shape=shapes(slot_of, 4), touch=TOUCH)
    assert (result.state[0, 50:, slots[1]] == 0).all()
    assert (result.state[0, :50, slots[1], 2] > 0.5).all()
    assert (result.state[0, :, slots[0]] == 0).all()
    assert result.object_frames == 0
