from __future__ import annotations

import numpy as np
import pytest
from tests.tasks.clevrer.ball_worlds import encode, random_starts, scene_of

from ocwm_tasks.clevrer.symbolic.probe import fit_probe, score, targets_of


@pytest.fixture(scope="module")
def videos():
    rng = np.random.default_rng(0)
    scenes = [scene_of(index, random_starts(rng), frames=128) for index in range(10)]
    latents, slot_of = encode(scenes)
    return scenes, latents, slot_of


def test_exact_states_are_read_exactly(videos):
    scenes, latents, slot_of = videos
    targets = targets_of(scenes, slot_of, num_slots=latents.shape[2])
    probe = fit_probe(latents[:7], targets[slice(7)])
    report = score(probe, latents[7:], targets[slice(7, None)])
    assert report.position_r2 > 0.999999
    assert report.position_error < 1e-4
    assert report.visible == report.color == report.material == report.shape == 1.0


def test_decode_follows_the_slots_and_votes_on_observed_frames_only(videos):
    scenes, latents, slot_of = videos
    probe = fit_probe(latents, targets_of(scenes, slot_of, num_slots=latents.shape[2]))
    states = probe.decode(latents)
    for row, scene in enumerate(scenes):
        for ball, thing in enumerate(scene.objects):
            slot = slot_of[row, ball]
            seen = scene.visible[:, ball]
            np.testing.assert_allclose(states.positions[row, seen, slot], scene.positions[seen, ball], atol=1e-4)
            if seen.any():
                assert states.properties(row, slot) == thing
            else:
                assert states.color[row, slot] == -1
    # Nothing is observed of the first video, half a video of the others.
    observed = np.full(len(scenes), 64)
    observed[0] = 0
    short = probe.decode(latents, observed=observed)
    assert (short.shape[0] == -1).all()
    shown = (states.visible[1:, :64] > 0.5).any(axis=1)
    assert ((short.shape[1:] >= 0) == shown).all()


def test_held_out_videos_choose_a_stronger_ridge_under_noise(videos):
    scenes, latents, slot_of = videos
    rng = np.random.default_rng(1)
    wide = np.concatenate([latents, np.zeros((*latents.shape[:3], 60), dtype=np.float32)], axis=-1)
    noisy = wide + rng.normal(0, 0.5, wide.shape).astype(np.float32)
    targets = targets_of(scenes, slot_of, num_slots=latents.shape[2])
    few = fit_probe(noisy[:3], targets[slice(3)], frame_step=8)
    assert few.report.strength["position"] >= 1e-2
    assert fit_probe(latents, targets).report.strength["position"] <= 1e-6
    assert few.report.position_r2 < 0.99


def test_the_empty_latent_is_the_mean_of_hidden_slots(videos):
    scenes, latents, slot_of = videos
    targets = targets_of(scenes, slot_of, num_slots=latents.shape[2])
    probe = fit_probe(latents + np.float32(0.25), targets)
    np.testing.assert_allclose(probe.empty, 0.25, atol=1e-5)


def test_mismatched_shapes_are_refused(videos):
    scenes, latents, slot_of = videos
    targets = targets_of(scenes, slot_of, num_slots=latents.shape[2])
    with pytest.raises(ValueError, match="don't match"):
        fit_probe(latents[:, :100], targets)
