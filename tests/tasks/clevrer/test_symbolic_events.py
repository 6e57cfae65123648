from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.tasks.clevrer.ball_worlds import random_starts, roll

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.symbolic.calibration import fit_moving, fit_rules
from ocwm_tasks.clevrer.symbolic.events import Collisions, find_collisions, match
from ocwm_tasks.clevrer.symbolic.probe import SlotStates
from ocwm_tasks.clevrer.symbolic.rules import CollisionRules, EventRules, RuleLadder
from ocwm_tasks.clevrer.symbolic.tracks import Tracks, jitter, steady, tracks_of, velocities

KINDS = 6


def rules_of(*, reach=0.7, impulse=0.004, overlap=0.5, window=2):
    one = CollisionRules((reach,) * KINDS, (impulse,) * KINDS, (overlap,) * KINDS, window, 8)
    ladder = RuleLadder((0.0,), (one,))
    return EventRules(ladder, ladder, (0.62,) * KINDS)


def tracks_from(positions, *, visible=None, observed=None):
    positions = np.asarray(positions, dtype=np.float32)
    if positions.ndim == 3:
        positions = positions[None]
    visible = np.ones(positions.shape[:3], dtype=bool) if visible is None else visible
    imagined = np.zeros(positions.shape[:3], dtype=bool)
    if observed is not None:
        imagined[:, observed:] = True
    shape = np.full((positions.shape[0], positions.shape[2]), 2)
    where = np.where(visible[..., None], positions, np.float32(0))
    return Tracks(np.arange(positions.shape[1]), where, visible, imagined, shape)


def head_on(*, offset=0.0, frames=60):
    """Ball 0 rests at the origin, ball 1 comes from the right at 0.04 units a frame, passing at `offset`."""
    positions, collisions = roll([((0.0, 0.0), (0.0, 0.0)), ((1.8, offset), (-0.04, 0.0))])
    return positions[:frames], collisions


def test_a_collision_is_found_at_its_frame():
    positions, truth = head_on()
    found = find_collisions(tracks_from(positions), rules_of())
    assert [(a, b) for _, a, b in found.of(0)] == [(0, 1)]
    assert abs(int(found.frame[0]) - truth[0].frame) <= 1


def test_passing_by_and_standing_close_are_no_collisions():
    passing, truth = head_on(offset=0.66)
    assert truth == ()
    assert len(find_collisions(tracks_from(passing), rules_of())) == 0
    neighbours = np.broadcast_to(np.array([[0.0, 0.0], [0.61, 0.0]]), (60, 2, 2))
    assert len(find_collisions(tracks_from(neighbours), rules_of())) == 0


def test_running_into_each_other_counts_without_a_push():
    through = np.stack([np.zeros((60, 2)), np.stack([1.8 - 0.04 * np.arange(60), np.zeros(60)], axis=-1)], axis=1)
    found = find_collisions(tracks_from(through), rules_of())
    assert len(found) == 1
    assert found.frame[0] == np.argmax(1.8 - 0.04 * np.arange(60) < 0.5)
    assert len(find_collisions(tracks_from(through), rules_of(overlap=0.0))) == 0


def test_a_third_ball_does_not_make_bystanders_collide():
    # Ball 0 is hit from the left while ball 2 stands right behind it, not touching.
    positions, truth = roll([((0.0, 0.0), (0.0, 0.0)), ((-1.8, 0.0), (0.04, 0.0)), ((0.0, 0.65), (0.0, 0.0))])
    found = find_collisions(tracks_from(positions[:80]), rules_of())
    assert {(c.a, c.b) for c in truth} == {(a, b) for _, a, b in found.of(0)} == {(0, 1)}


def test_hidden_objects_never_collide():
    positions, _ = head_on()
    visible = np.ones((1, 60, 2), dtype=bool)
    visible[:, 20:50, 1] = False
    assert len(find_collisions(tracks_from(positions, visible=visible), rules_of())) == 0


def test_observed_collisions_do_not_depend_on_what_is_imagined():
    positions, truth = head_on()
    contact = truth[0].frame
    tracks = tracks_from(positions, observed=contact + 3)
    alone = find_collisions(tracks, rules_of())
    rng = np.random.default_rng(0)
    wild = tracks.positions.copy()
    wild[:, contact + 3 :] = rng.normal(0, 2, wild[:, contact + 3 :].shape)
    other = find_collisions(replace(tracks, positions=wild), rules_of()).within(0, contact + 3)
    np.testing.assert_array_equal(alone.within(0, contact + 3).rows(), other.rows())
    assert len(other) == 1


def test_a_jump_where_imagination_begins_is_no_collision():
    still = np.broadcast_to(np.array([[0.0, 0.0], [0.63, 0.0]]), (60, 2, 2)).copy()
    still[30:, 1] += [0.05, 0.0]
    still[30:, 0] -= [0.05, 0.0]
    assert len(find_collisions(tracks_from(still, observed=30), rules_of())) == 0
    # The same jump in the middle of what is observed is one, as far as anybody can tell from positions.
    still[:30, 1, 0] += np.linspace(0.6, 0.0, 30)
    assert len(find_collisions(tracks_from(still), rules_of())) == 1


def test_a_collision_that_only_imagination_shows_is_dated_there():
    positions, truth = head_on()
    contact = truth[0].frame
    for border in range(contact - 2, contact + 1):
        found = find_collisions(tracks_from(positions, observed=border), rules_of())
        assert len(found) == 1
        assert border <= found.frame[0] <= contact + 1


def test_noise_is_measured_and_chooses_the_rules():
    rng = np.random.default_rng(0)
    line = np.stack([0.01 * np.arange(200), np.zeros(200)], axis=-1)[None, :, None].repeat(6, axis=2)
    for level in (0.003, 0.02):
        tracks = tracks_from(line + rng.normal(0, level, line.shape))
        assert jitter(tracks, tracks.visible) == pytest.approx(level, rel=0.15)
    rules = [CollisionRules((k,), (k,), (k,), 1, 8) for k in range(3)]
    ladder = RuleLadder((0.0, 0.01, 0.1), tuple(rules))
    assert [ladder.at(noise).reach[0] for noise in (0.0, 0.001, 0.02, 0.05, 9.0)] == [0, 0, 1, 2, 2]


def test_velocities_bridge_the_border_and_skip_the_step_into_the_sample():
    positions = np.zeros((20, 1, 2))
    positions[:, 0, 0] = np.where(np.arange(20) < 10, np.arange(20), 100 + 3 * np.arange(20))
    before, after = velocities(tracks_from(positions, observed=10), 2)
    assert np.isnan(before[0, 0]).all()
    np.testing.assert_allclose(before[0, 10, 0], [1, 0])
    np.testing.assert_allclose(after[0, 9, 0], [3, 0])
    np.testing.assert_allclose(after[0, 10, 0], [3, 0])


def test_short_gaps_and_glimpses_are_mended():
    shown = np.zeros((1, 30, 1), dtype=bool)
    shown[0, 5:20] = True
    shown[0, 10:12] = False  # a gap of two
    shown[0, 24:26] = True  # a glimpse of two
    mended = steady(shown, 1)[0, :, 0]
    assert np.flatnonzero(mended).tolist() == list(range(5, 20))


def test_what_is_imagined_changes_no_observed_visibility():
    visible = np.ones((1, 40, 1), dtype=np.float32)
    visible[0, 18:20] = 0.0
    ids = np.zeros((1, 1), dtype=np.int64)
    imagined = np.arange(40)[None, :, None] >= 20
    for future in (0.0, 1.0):
        visible[0, 20:] = future
        states = SlotStates(np.zeros((1, 40, 1, 2), dtype=np.float32), visible, ids, ids, ids)
        tracks = tracks_of(states, np.arange(40), imagined=imagined)
        assert not tracks.visible[0, 18:20].any()
        assert tracks.visible[0, 20:].all() == bool(future)


def simulated(count, *, seed):
    rng = np.random.default_rng(seed)
    runs = [roll(random_starts(rng)) for _ in range(count)]
    rows = [(video, c.frame, c.a, c.b) for video, (_, collisions) in enumerate(runs) for c in collisions]
    return tracks_from(np.stack([positions for positions, _ in runs])), Collisions.of_rows(np.array(rows))


def test_fitted_rules_find_the_collisions_of_unseen_videos():
    rules = fit_rules(*simulated(24, seed=0))
    tracks, truth = simulated(16, seed=1)
    assert len(truth) > 15
    assert match(find_collisions(tracks, rules), truth).f1 > 0.97
    rng = np.random.default_rng(2)
    noisy = replace(tracks, positions=tracks.positions + rng.normal(0, 0.01, tracks.positions.shape).astype(np.float32))
    assert match(find_collisions(noisy, rules), truth).f1 > 0.85
    again = EventRules.from_dict(rules.as_dict())
    assert again == rules


def test_fitting_is_reproducible_and_wants_collisions():
    tracks, truth = simulated(4, seed=3)
    assert fit_rules(tracks, truth) == fit_rules(tracks, truth)
    with pytest.raises(BenchError, match="no collision"):
        fit_rules(tracks, Collisions.of_rows(np.zeros((0, 4), dtype=np.int64)))


def test_moving_threshold_lies_in_the_middle():
    speeds = np.array([0.0, 0.001, 0.002, 0.006, 0.01], dtype=np.float32)
    assert fit_moving(speeds, speeds > 0.004) == pytest.approx(0.004)
    assert fit_moving(speeds, speeds > 1) > 0.01 - 1e-9


def test_matching_counts_every_collision_once():
    truth = Collisions.of_rows(np.array([[0, 50, 0, 1], [0, 90, 0, 1], [1, 20, 1, 2]]))
    found = Collisions.of_rows(np.array([[0, 52, 1, 0], [0, 53, 0, 1], [0, 90, 0, 2]]))
    counts = match(found, truth)
    assert (counts.hits, counts.false_alarms, counts.misses) == (1, 2, 2)
    assert counts.f1 == pytest.approx(2 / 6)
