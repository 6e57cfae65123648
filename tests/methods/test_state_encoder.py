"""The state encoder: what a slot tells, and what it must not tell."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ocwm.errors import BenchError
from ocwm.types import Observations
from ocwm_encoders.state import StateEncoder

GROUPS = (("position", 2), ("visible", 1), ("color", 3))


def observe(videos: int = 4, frames: int = 5, objects: int = 3) -> Observations:
    rng = np.random.default_rng(0)
    state = torch.from_numpy(rng.standard_normal((videos, frames, objects, 6)).astype(np.float32))
    visible = torch.from_numpy(rng.random((videos, frames, objects)) < 0.7)
    return Observations(ids=torch.arange(videos), state=state, visible=visible, groups=GROUPS)


def test_a_slot_holds_its_object_and_nothing_where_it_is_out_of_view() -> None:
    encoder, seen = StateEncoder(num_slots=6, slot_dim=16), observe()
    assert seen.state is not None
    assert seen.visible is not None
    batch, carry = encoder.encode(seen)
    assert carry is None
    assert batch.latents.shape == (4, 5, 6, 16)
    back = batch.latents @ torch.linalg.pinv(encoder.projection(GROUPS))
    slot_of = encoder.slot_of(seen.ids)
    for video in range(4):
        for i in range(3):
            wanted = torch.where(seen.visible[video, :, i, None], seen.state[video, :, i], 0.0)
            torch.testing.assert_close(back[video, :, slot_of[video, i]], wanted, atol=1e-4, rtol=1e-4)
        assert (batch.latents[video][:, slot_of[video, 3:]] == 0).all()


def test_slots_are_shuffled_per_video_and_the_same_every_time() -> None:
    encoder = StateEncoder(num_slots=6, slot_dim=16, seed=3)
    orders = encoder.slot_of(torch.arange(20))
    assert len({tuple(order.tolist()) for order in orders}) > 10
    assert torch.equal(orders[7:8], encoder.slot_of(torch.tensor([7])))
    first, _ = encoder.encode(observe())
    again, _ = StateEncoder(num_slots=6, slot_dim=16, seed=3).encode(observe())
    assert torch.equal(first.latents, again.latents)


def test_scales_weigh_the_groups() -> None:
    plain = StateEncoder(slot_dim=16).projection(GROUPS)
    scaled = StateEncoder(slot_dim=16, scale={"position": 4.0, "color": 0.0}).projection(GROUPS)
    torch.testing.assert_close(plain.norm(dim=1), torch.ones(6))
    torch.testing.assert_close(scaled.norm(dim=1), torch.tensor([4.0, 4, 1, 0, 0, 0]))


def test_waves_tell_near_from_far() -> None:
    encoder = StateEncoder(slot_dim=16, wavelengths=(8.0, 4.0))
    state = torch.zeros(1, 1, 3, 6)
    state[0, 0, :, 0] = torch.tensor([0.0, 0.3, 2.0])
    features, groups = encoder.features(state, GROUPS)
    assert groups[-1] == ("waves", 8)
    waves = features[0, 0, :, 6:]
    near, far = (waves[0] * waves[1]).sum(), (waves[0] * waves[2]).sum()
    assert near > far + 1


def test_noise_is_on_visible_objects_only() -> None:
    quiet, _ = StateEncoder(slot_dim=16).encode(observe())
    noisy, _ = StateEncoder(slot_dim=16, noise=0.5).encode(observe())
    empty = (quiet.latents == 0).all(dim=-1)
    assert (noisy.latents[empty] == 0).all()
    difference = (noisy.latents - quiet.latents)[~empty]
    assert 0.4 < difference.std() < 0.6


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"num_slots": 2, "slot_dim": 16}, "num_slots=2"),
        ({"slot_dim": 4}, "slot_dim=4"),
        ({"slot_dim": 16, "scale": {"colour": 1.0}}, "color"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_named(settings: dict, named: str) -> None:
    with pytest.raises(BenchError, match=named):
        StateEncoder(**settings).encode(observe())
