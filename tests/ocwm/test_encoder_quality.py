"""Quality gates of encoders whose slots are known beforehand."""

from __future__ import annotations

import json

import pytest
import torch
from tests.ocwm.drawn_videos import Broken, DecodingEncoder, DrawnEncoder, DrawnVideos, WithoutMasks

from ocwm.encoder_quality import frames_to_encode, measure_quality
from ocwm.errors import BenchError
from ocwm.interfaces import Encoder
from ocwm.quality import EncoderQuality, quality_lines
from ocwm.videos import Videos

CPU = torch.device("cpu")


def measure(encoder: Encoder, train: Videos | None = None, dev: Videos | None = None, count: int = 4) -> EncoderQuality:
    return measure_quality(encoder, train or DrawnVideos(6), dev or DrawnVideos(5, first=40), videos=count, device=CPU)


def test_a_perfect_encoder() -> None:
    found = measure(DrawnEncoder())
    assert (found.videos, found.frames) == (4, 8)
    assert found.fg_ari_video == found.fg_ari_frame == found.miou == found.mbo == 1.0
    assert (found.missed, found.switches, found.modal_share) == (0.0, 0.0, 1.0)
    assert found.position_r2 == pytest.approx(1.0, abs=1e-3)
    assert found.position_rmse == pytest.approx(0.0, abs=0.2)
    assert found.attributes == {"color": 1.0}
    assert found.reconstruction is None
    assert found.frames_per_second > 0
    lines = quality_lines(json.loads(json.dumps(found.as_dict())))
    assert "FG-ARI of videos 1.000" in lines[0]
    assert "color 100.0 %" in lines[1]


def test_an_encoder_that_swaps_its_slots_in_the_middle() -> None:
    found = measure(DrawnEncoder(order=lambda t: {0: 0, 1: 1} if t < 6 else {0: 1, 1: 0}))
    assert found.fg_ari_frame == 1.0
    assert found.fg_ari_video is not None
    assert found.fg_ari_video < 0.6
    assert (found.switches, found.modal_share, found.missed) == (1.0, 0.75, 0.0)


def test_missed_objects_count_in_the_probe_but_are_not_fitted() -> None:
    found = measure(DrawnEncoder(order=lambda t: {0: 1}))
    assert found.missed == 0.5
    assert found.miou == 0.5
    assert found.attributes == {"color": 0.5}  # a probe that has seen one colour only
    assert found.position_r2 is not None
    assert found.position_r2 < 0.9


def test_without_masks_only_the_reconstruction_is_measured() -> None:
    for encoder, videos in ((DecodingEncoder(), WithoutMasks(5)), (DecodingEncoder(has_masks=False), DrawnVideos(5))):
        found = measure(encoder, videos, videos)
        assert found.fg_ari_video is found.miou is found.missed is found.position_r2 is None
        assert found.attributes == {}
        assert found.reconstruction == pytest.approx(0.25)
        line = quality_lines(found.as_dict())
        assert len(line) == 1
        assert "not measured: no masks; reconstruction error 0.25" in line[0]


def test_only_so_many_videos_and_their_observed_frames_are_read() -> None:
    train, dev = DrawnVideos(9), DrawnVideos(9, first=20)
    assert measure(DrawnEncoder(), train, dev, count=2).videos == 2
    assert (sorted(train.reads), sorted(dev.reads)) == ([0, 1], [0, 1])
    assert frames_to_encode(DrawnEncoder(), train, dev, videos=2) == 2 * 2 * 8
    assert measure(DrawnEncoder(), train, dev, count=50).videos == 9


def test_a_video_that_can_not_be_read_is_named() -> None:
    with pytest.raises(BenchError, match="video 1 breaks off"):
        measure(DrawnEncoder(), dev=Broken(2))
