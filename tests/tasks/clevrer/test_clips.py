from __future__ import annotations

import numpy as np
import pytest
import torch

from ocwm_tasks.clevrer.clips import clip_starts, entry_frames
from ocwm_tasks.clevrer.preprocess import preprocess


def test_entries_are_frames_at_which_something_appears() -> None:
    visible = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 1, 1], [1, 1, 1]], dtype=bool)
    assert entry_frames(visible).tolist() == [1, 3]
    assert entry_frames(np.ones((5, 2), dtype=bool)).tolist() == []


@pytest.mark.parametrize("seed", range(4))
def test_filter_agrees_with_looking_at_every_clip(seed: int) -> None:
    rng = np.random.default_rng(seed)
    length, stride, history, total = 16, 2, 6, 128
    entries = sorted(rng.choice(100, size=3, replace=False).tolist())
    starts = clip_starts("train", video_length=total, length=length, stride=stride, history=history, entries=entries)
    expected = []
    for start in range(total):
        frames = [start + stride * k for k in range(length)]
        unseen = range(frames[history - 3] + 1, frames[-1] + 1)
        if frames[-1] < total and not any(entry in unseen for entry in entries):
            expected.append(start)
    assert starts.tolist() == expected
    blocks = clip_starts("val", video_length=total, length=length, stride=stride, history=history, entries=entries)
    assert blocks.tolist() == [s for s in expected if s == min(t for t in expected if t // 15 == s // 15)]


def test_validation_without_filter_takes_every_frame_once() -> None:
    starts = clip_starts("val", video_length=24, length=4, stride=3, history=2)
    frames = (starts[:, None] + 3 * np.arange(4)).reshape(-1)
    assert sorted(frames.tolist()) == list(range(24))


def test_too_short_a_video_has_no_clips() -> None:
    assert clip_starts("train", video_length=5, length=6, stride=1, history=3).tolist() == []
    assert clip_starts("val", video_length=5, length=6, stride=1, history=3, entries=[]).tolist() == []


def test_every_start_is_filtered_where_objects_keep_entering() -> None:
    starts = clip_starts("val", video_length=60, length=16, stride=2, history=6, entries=range(0, 60, 4))
    assert starts.tolist() == []


def test_other_splits_are_refused() -> None:
    with pytest.raises(ValueError, match="'dev'"):
        clip_starts("dev", video_length=10, length=2, stride=1, history=1)


@pytest.mark.parametrize("antialias", [False, True])
def test_frames_are_scaled_and_resized(antialias: bool) -> None:
    frames = torch.zeros(2, 5, 3, 20, 30, dtype=torch.uint8)
    frames[:, :, 1] = 255
    seen = preprocess(frames, size=(8, 8), antialias=antialias)
    assert seen.shape == (2, 5, 3, 8, 8)
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen[:, :, 1], torch.ones(2, 5, 8, 8))
    torch.testing.assert_close(seen[:, :, 0], -torch.ones(2, 5, 8, 8))
