from __future__ import annotations

import numpy as np
import pytest
from tests.tasks.clevrer.ball_worlds import SLOTS, encode, random_starts, scene_of

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.rollout_metrics import PerVideo, collision_f1, position_errors, slot_errors
from ocwm_tasks.clevrer.symbolic.events import Collisions
from ocwm_tasks.clevrer.symbolic.probe import fit_probe, targets_of


@pytest.fixture(scope="module")
def videos():
    rng = np.random.default_rng(0)
    scenes = [scene_of(index, random_starts(rng)) for index in range(6)]
    latents, slot_of = encode(scenes)
    return scenes, latents, slot_of, fit_probe(latents, targets_of(scenes, slot_of, num_slots=SLOTS))


def test_the_truth_has_no_error(videos):
    scenes, latents, slot_of, probe = videos
    future = latents[:, 128:]
    assert (slot_errors(future, future, horizons=(1, 31)).value == 0).all()
    errors = position_errors(probe, future, scenes, slot_of, horizons=(1, 8, 31))
    assert errors.value.shape == (6, 3)
    assert (errors.mean() < 1e-4).all()


def test_slot_errors_are_read_at_their_horizon():
    truth = np.zeros((2, 5, 3, 4), dtype=np.float32)
    predicted = truth.copy()
    predicted[0, 2] = 2.0
    errors = slot_errors(predicted, truth, horizons=(1, 3, 5))
    np.testing.assert_allclose(errors.value, [[0, 4, 0], [0, 0, 0]])
    np.testing.assert_allclose(errors.mean(), [0, 2, 0])


def test_position_errors_are_means_over_visible_objects(videos):
    scenes, latents, slot_of, probe = videos
    # Everything is predicted 0.5 further to the right: along the first row of the encoder's basis.
    shift = np.linalg.lstsq(probe.weights.T, np.eye(16)[0] * 0.5, rcond=None)[0].astype(np.float32)
    errors = position_errors(probe, latents[:, 128:] + shift, scenes, slot_of, horizons=(4,))
    np.testing.assert_allclose(errors.mean(), 0.5, atol=1e-3)
    visible = [scene.visible[128 + 3].sum() for scene in scenes]
    np.testing.assert_array_equal(errors.weight[:, 0], visible)


@pytest.mark.parametrize("horizon", [0, 33])
def test_a_horizon_out_of_reach_is_refused(videos, horizon):
    scenes, latents, slot_of, probe = videos
    with pytest.raises(BenchError, match=rf"task\.horizons has {horizon}"):
        position_errors(probe, latents[:, 128:], scenes, slot_of, horizons=(horizon,))
    with pytest.raises(BenchError, match=rf"task\.horizons has {horizon}"):
        slot_errors(latents[:, 128:], latents[:, 128:], horizons=(horizon,))


def rows_of(scenes, slot_of, low, high):
    rows = [
        (video, c.frame, slot_of[video, c.a], slot_of[video, c.b])
        for video, scene in enumerate(scenes)
        for c in scene.collisions
        if low <= c.frame < high
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def test_true_collisions_score_one(videos):
    scenes, _, slot_of, _ = videos
    f1, eventful = collision_f1(Collisions.of_rows(rows_of(scenes, slot_of, 0, 160)), scenes, slot_of)
    assert eventful.any()
    assert f1.mean() == 1.0
    assert f1[eventful].mean() == 1.0
    none, _ = collision_f1(Collisions.of_rows(rows_of(scenes, slot_of, 0, 128)), scenes, slot_of)
    assert none.mean() == 0.0


def test_f1_is_micro_and_leaves_earlier_contacts_out(videos):
    scenes, _, slot_of, _ = videos
    true = rows_of(scenes, slot_of, 128, 160)
    early = rows_of(scenes, slot_of, 0, 128)
    first = {(int(v), int(a), int(b)) for v, _, a, b in early}
    fresh = np.array([row for row in true if (int(row[0]), int(row[2]), int(row[3])) not in first])
    again = early[:1].copy()
    again[0, 1] = 140  # a pair that has met before: counts neither way
    taken = {frozenset((int(a), int(b))) for v, _, a, b in np.concatenate([true, early]) if v == 0}
    wrong = next((a, b) for a in range(SLOTS) for b in range(a) if frozenset((a, b)) not in taken)
    found = np.concatenate([fresh[1:], again, [[0, 150, *wrong]]])
    f1, _ = collision_f1(Collisions.of_rows(found), scenes, slot_of)
    hits = len(fresh) - 1
    assert f1.mean() == pytest.approx(2 * hits / (2 * hits + 1 + 1))


def test_means_weigh_and_know_nothing_of_nothing():
    figure = PerVideo(np.array([1.0, 3.0]), np.array([1.0, 3.0]))
    assert figure.mean() == pytest.approx(2.5)
    assert np.isnan(PerVideo(np.zeros(2), np.zeros(2)).mean())
    assert figure[np.array([True, False])].mean() == 1.0
