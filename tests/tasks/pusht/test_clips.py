"""Training clips and their normalisation (that they are the published ones is a parity test)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from ocwm.errors import BenchError
from ocwm.types import ClipSpec
from ocwm_tasks.pusht.clips import ClipSet, Normalisation, action_blocks, clip_statistics, column_statistics

CLIP = ClipSpec(history=2, future=1, stride=3)  # 9 rows
OFFSETS = np.array([0, 11, 16, 25])
ROWS = 25


@pytest.fixture
def columns():
    rng = np.random.default_rng(1)
    return rng.normal(2, 3, (ROWS, 2)).astype(np.float32), rng.normal(0, 50, (ROWS, 4)).astype(np.float32)


def clips_of(columns, **other):
    actions, proprio = columns
    latents = np.arange(ROWS * 2, dtype=np.float32).reshape(ROWS, 2, 1)
    return ClipSet(
        latents,
        actions,
        proprio,
        OFFSETS,
        CLIP,
        action_normalisation=clip_statistics(actions, OFFSETS, CLIP, blocks=True),
        proprio_normalisation=clip_statistics(proprio, OFFSETS, CLIP, blocks=False),
        **other,
    )


def test_clips_stay_within_episodes_and_short_ones_give_none(columns):
    clips = clips_of(columns)
    assert list(zip(clips.episodes, clips.starts, strict=True)) == [(0, 0), (0, 1), (0, 2), (2, 0)]


def test_a_batch_holds_frames_with_the_actions_that_lead_on(columns):
    clips = clips_of(columns)
    batch = clips.batch(np.array([3, 1]), np.random.default_rng(0))
    assert batch.latents[0, :, 0, 0].tolist() == [32.0, 38.0, 44.0]  # rows 16, 19, 22
    blocks = clips._of_actions.invert(batch.actions)
    np.testing.assert_allclose(blocks[1, 2], columns[0][7:10].reshape(-1), rtol=1e-4)
    np.testing.assert_allclose(clips._of_proprio.invert(batch.proprio)[1, 0], columns[1][1], rtol=1e-4)


def test_normalised_clips_have_mean_zero_and_unbiased_deviation_one(columns):
    clips = clips_of(columns)
    batch = clips.batch(np.arange(len(clips)), np.random.default_rng(0))
    for values in (batch.actions, batch.proprio):
        flat = values.flatten(0, 1).double()
        np.testing.assert_allclose(flat.mean(dim=0), 0, atol=1e-5)
        np.testing.assert_allclose(flat.std(dim=0), 1, rtol=1e-5)


def test_raw_columns_are_scaled_as_scikit_learn_does(columns):
    actions, _ = columns
    ours, theirs = column_statistics(actions), StandardScaler().fit(actions)
    np.testing.assert_allclose(ours.apply(actions), theirs.transform(actions), rtol=1e-4, atol=1e-5)
    clips = ClipSet(
        np.zeros((ROWS, 1, 1), np.float32),
        *columns,
        OFFSETS,
        CLIP,
        action_normalisation=ours,
        proprio_normalisation=column_statistics(columns[1]),
    )
    batch = clips.batch(np.array([0]), np.random.default_rng(0))
    np.testing.assert_allclose(batch.actions[0, 1], ours.apply(actions[3:6]).reshape(-1), rtol=1e-5)


def test_what_is_not_known_becomes_zero_after_normalisation_and_leaves_statistics_alone(columns):
    actions, proprio = columns
    holes = actions.copy()
    holes[0] = np.nan  # used by the first clip only, at the first place of its block
    clips = clips_of((holes, proprio))
    batch = clips.batch(np.array([0]), np.random.default_rng(0))
    assert batch.actions[0, 0, :2].tolist() == [0.0, 0.0]
    assert torch.isfinite(batch.actions).all()
    assert clips_of((holes, proprio), nan_to_zero=False).batch(np.array([0]), None).actions[0, 0, 0].isnan()
    used = np.concatenate([actions[start + offset][None] for start in (0, 1, 2, 16) for offset in (0, 3, 6)])[1:]
    np.testing.assert_allclose(clips._of_actions.mean[:2], used.mean(axis=0), rtol=1e-5)


def test_statistics_need_a_clip(columns):
    with pytest.raises(BenchError, match="the longest has 11"):
        clip_statistics(columns[0], OFFSETS, ClipSpec(3, 1, 3), blocks=True)


def test_normalisation_is_inverted_on_arrays_and_tensors():
    scale = Normalisation(np.array([1.0, -2.0], np.float32), np.array([0.5, 4.0], np.float32))
    tensor = torch.tensor([[3.0, 6.0]])
    assert scale.apply(tensor).tolist() == [[4.0, 2.0]]
    assert scale.invert(scale.apply(tensor)).tolist() == tensor.tolist()
    assert scale.repeated(2).mean.tolist() == [1.0, -2.0, 1.0, -2.0]
    blocks = action_blocks(torch.arange(12.0).reshape(6, 2), stride=3)
    assert blocks.tolist() == [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]]
