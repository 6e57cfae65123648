"""How far imagined futures are off, on models whose errors are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.tasks.pusht.conftest import BLOCK, HISTORY

from ocwm.errors import BenchError
from ocwm.types import ClipSpec, LatentBatch
from ocwm_tasks.pusht.encoded import encode_episodes
from ocwm_tasks.pusht.normalisation import column_statistics
from ocwm_tasks.pusht.probe import PoseProbe
from ocwm_tasks.pusht.rollouts import check_stride, rollout_errors
from ocwm_tasks.pusht.stages import Latents
from ocwm_tasks.pusht.state import AGENT


class Frozen:
    """Repeats the last frame."""

    clip = ClipSpec(HISTORY, 1, BLOCK)

    def rollout(self, history, *, steps):
        assert history.actions.shape[1] == history.latents.shape[1] + steps
        assert history.proprio.shape[1] == history.latents.shape[1]
        return LatentBatch(history.latents[:, -1:].expand(-1, steps, -1, -1))


@pytest.fixture(scope="module")
def stages(observer, played):
    latents, slot_of = encode_episodes(observer.encoder, played)
    return SimpleNamespace(
        splits={"test": played},
        latents=lambda name: Latents(latents, slot_of),
        action_statistics=column_statistics(played.actions),
        proprio_statistics=column_statistics(played.proprio),
        probe=PoseProbe.fit(latents, played, slot_of),
        context=SimpleNamespace(device=torch.device("cpu")),
    )


def errors(stages, horizons=(1, 3), count=10_000):
    return rollout_errors(stages, "test", Frozen(), history=HISTORY, horizons=horizons, count=count)


def test_standing_still_is_as_far_off_as_things_move(stages, played):
    found = errors(stages)
    expected = []
    for number in range(len(played)):
        states = played.episode(number).states
        for start in range(len(states) - BLOCK * (HISTORY + 3) + 1):
            last = start + (HISTORY - 1) * BLOCK
            later = states[[last + BLOCK, last + 3 * BLOCK]]
            expected.append(np.linalg.norm(later[:, AGENT] - states[last, AGENT], axis=1))
    np.testing.assert_allclose(found.agent, expected, atol=0.2)
    assert found.slots[:, 1].mean() > found.slots[:, 0].mean() > 0
    assert found.episodes.tolist() == np.repeat(played.ids, len(expected) // len(played)).tolist()


def test_clips_are_spread_over_the_split(stages, played):
    few = errors(stages, count=4)
    assert few.episodes.tolist() == played.ids.tolist()
    np.testing.assert_array_equal(few.slots[[0, -1]], errors(stages).slots[[0, -1]])


def test_without_known_slots_there_are_latent_errors_only(stages):
    found = errors(SimpleNamespace(**{**vars(stages), "probe": None}), horizons=(2,), count=5)
    assert found.agent is None
    assert found.block is None
    assert found.slots.shape == (5, 1)


def test_horizons_beyond_the_episodes_are_refused(stages):
    with pytest.raises(BenchError, match=r"no episode holds a clip of 65 rows \(the longest has 41\)"):
        errors(stages, horizons=(10,))


def test_a_model_of_another_stride_is_refused():
    check_stride(Frozen(), block=BLOCK)
    with pytest.raises(BenchError, match=r"method\.frameskip=5, but task\.action_block=4"):
        check_stride(Frozen(), block=4)
