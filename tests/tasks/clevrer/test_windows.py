"""Training clips and the rollout past the end of a video."""

from __future__ import annotations

import numpy as np
import torch

from ocwm.types import ClipSpec, LatentSpec
from ocwm_baselines.extrapolation import ConstantVelocity
from ocwm_methods.cjepa import CJEPA
from ocwm_tasks.clevrer.windows import ClipSet, extend, extend_all

CLIP = ClipSpec(history=6, future=10, stride=2)


def test_a_video_of_128_frames_has_97_clips() -> None:
    latents = np.arange(2 * 128, dtype=np.float32).reshape(2, 128, 1, 1)
    clips = ClipSet(latents, CLIP)
    assert len(clips) == 2 * 97
    batch = clips.batch(np.array([0, 96, 97]), np.random.default_rng(0)).latents
    assert batch[0, :, 0, 0].tolist() == list(range(0, 32, 2))
    assert batch[1, 0, 0, 0] == 96
    assert batch[2, 0, 0, 0] == 128


def test_the_entry_filter_keeps_clips_whose_objects_have_been_seen() -> None:
    visible = np.zeros((1, 128, 2), dtype=bool)
    visible[0, :, 0] = True
    visible[0, 55:, 1] = True
    kept = ClipSet(np.zeros((1, 128, 1, 1), np.float32), CLIP, visible=visible).starts.tolist()
    assert kept == [*range(25), *range(49, 97)]


def test_128_to_160_takes_two_calls_and_interleaves_the_residues(monkeypatch) -> None:
    torch.manual_seed(0)
    model = CJEPA(LatentSpec(3, 8), depth=1, heads=2, mlp_dim=8, num_masked=0).eval()
    calls = []
    infer = model.predictor.infer
    monkeypatch.setattr(model.predictor, "infer", lambda window: calls.append(window.shape[0]) or infer(window))
    video = torch.randn(4, 128, 3, 8)
    both = extend(model, video, steps=32)
    assert calls == [8, 8]
    odd = model.predictor.infer(video[:, 117::2])
    torch.testing.assert_close(both[:, 1::2][:, :10], odd, atol=1e-5, rtol=1e-4)


def test_constant_velocity_goes_straight_on_whatever_the_batch() -> None:
    line = np.arange(20, dtype=np.float32).reshape(1, 20, 1, 1).repeat(5, axis=0)
    model = ConstantVelocity(LatentSpec(1, 1))
    rolled = extend_all(model, line, steps=4, device=torch.device("cpu"), batch=2)
    np.testing.assert_allclose(rolled[:, :, 0, 0], [[20, 21, 22, 23]] * 5, rtol=1e-5)
