"""Poses that are read back from slots."""

from __future__ import annotations

import numpy as np
import pytest

from ocwm_tasks.pusht.encoded import encode_episodes
from ocwm_tasks.pusht.probe import PoseProbe
from ocwm_tasks.pusht.state import AGENT, ANGLE, BLOCK, turn_between


@pytest.fixture(scope="module")
def encoded(observer, played):
    return encode_episodes(observer.encoder, played)


def poses_of(probe, latents, slot_of, played):
    shape = (len(played), -1, *latents.shape[1:])
    return probe.read(latents.reshape(shape), slot_of), played.states.reshape(len(played), -1, 7)


def test_poses_come_back_whichever_slot_holds_what(encoded, played):
    latents, slot_of = encoded
    assert len(np.unique(slot_of, axis=0)) == 2, "the encoder shuffles slots"
    pose, states = poses_of(PoseProbe.fit(latents, played, slot_of), latents, slot_of, played)
    np.testing.assert_allclose(pose.agent, states[..., AGENT], atol=0.1)
    np.testing.assert_allclose(pose.block, states[..., BLOCK], atol=0.1)
    assert turn_between(pose.angle, states[..., ANGLE]).max() < 1e-3
    assert ((pose.angle >= 0) & (pose.angle < 2 * np.pi)).all()


def test_slots_that_are_mixed_up_give_other_poses(encoded, played):
    latents, slot_of = encoded
    pose, states = poses_of(PoseProbe.fit(latents, played, slot_of), latents, slot_of[:, ::-1], played)
    assert np.linalg.norm(pose.agent - states[..., AGENT], axis=-1).mean() > 20


def test_episodes_whose_slots_are_not_known_are_left_out(encoded, played):
    latents, slot_of = encoded
    spoilt, unknown = latents.copy(), slot_of.copy()
    spoilt[: played.offsets[1]], unknown[0] = 1e6, -1
    expected = PoseProbe.fit(latents[played.offsets[1] :], played.select([1, 2, 3]), slot_of[1:])
    fitted = PoseProbe.fit(spoilt, played, unknown)
    np.testing.assert_array_equal(fitted.agent, expected.agent)
    np.testing.assert_array_equal(fitted.block, expected.block)
