"""Training of the `videosaur` encoder: features and their movement on a frozen DINOv2 (arXiv 2306.04829, as C-JEPA's)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import torch
from torch import Tensor

from ocwm.data_parallel import draw_rows
from ocwm.encoder_training import Clips, EncoderTraining, VideoClips
from ocwm_encoders.frames import Resize, one_of, prepare
from ocwm_encoders.training_frames import shrink
from ocwm_encoders.videosaur import VideoSAUREncoder
from ocwm_encoders.videosaur_network import VideoSAUR


class VideoSAURTraining(EncoderTraining):
    """Trains VideoSAUR on one clip of each video an epoch.

    Args:
        encoder: whose network is trained, around its pretrained backbone.
        frames: of a clip; 6 as published.
        stride: video frames from one to the next; 2 as published.
        flip: share of clips that are mirrored; 0.5 as published.
        resize: of frames; published is "bicubic" (without antialias) in training and "bilinear" (with it) afterwards.
        validation: clips of the dev videos to measure the loss on.
    """

    network: VideoSAUR

    def __init__(
        self, encoder: VideoSAUREncoder, *, frames: int, stride: int, flip: float, resize: Resize, validation: int
    ) -> None:
        one_of("resize", resize, get_args(Resize))
        super().__init__(encoder.training_network())
        self.encoder = encoder
        self.resize: Resize = resize
        self._clips = Clips(frames=frames, strides=(stride,), pick="chunk", flip=flip, validation=validation)

    @property
    def clips(self) -> Clips:
        """One of the disjoint clips of each video."""
        return self._clips

    @property
    def kept(self) -> Mapping[str, Any]:
        """Size and filter."""
        return {"size": [self.encoder.image_size] * 2, "resize": self.resize, "antialias": self._antialias}

    def keep(self, pixels: Tensor) -> Tensor:
        """Shrink frames (T, 3, H, W) to the encoder's size; smaller ones are enlarged when they are read."""
        size = (self.encoder.image_size, self.encoder.image_size)
        return shrink(pixels, size=size, resize=self.resize, antialias=self._antialias)

    def loss(self, batch: VideoClips) -> dict[str, Tensor]:
        """Return "loss", "loss_featrec" and "loss_timesim"; the initial slots are drawn from torch's generator."""
        images = prepare(
            batch.frames,
            size=(self.encoder.image_size, self.encoder.image_size),
            normalisation="imagenet",
            resize=self.resize,
            antialias=self._antialias,
        )
        shape = self.encoder.num_slots, self.encoder.slot_dim
        noise = draw_rows(len(images), lambda count: torch.randn(count, *shape, device=images.device))
        return self.network.loss(images, noise=noise)

    @property
    def _antialias(self) -> bool:
        return self.resize == "bilinear"
