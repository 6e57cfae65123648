"""References that need no training."""

from __future__ import annotations

import torch

from ocwm.types import LatentBatch, LatentSpec
from ocwm_baselines.extrapolation import ConstantVelocity, CopyLast

SPEC = LatentSpec(num_slots=2, slot_dim=3)


def test_copy_last_repeats_the_last_frame() -> None:
    history = torch.randn(4, 3, 2, 3)
    rolled = CopyLast(SPEC).rollout(LatentBatch(history), steps=5).latents
    assert rolled.shape == (4, 5, 2, 3)
    assert (rolled == history[:, -1:]).all()


def test_constant_velocity_is_exact_on_straight_lines() -> None:
    start, velocity = torch.randn(4, 1, 2, 3), torch.randn(4, 1, 2, 3)
    line = start + velocity * torch.arange(9.0)[None, :, None, None]
    rolled = ConstantVelocity(SPEC).rollout(LatentBatch(line[:, :4]), steps=5).latents
    torch.testing.assert_close(rolled, line[:, 4:], atol=1e-5, rtol=1e-5)
