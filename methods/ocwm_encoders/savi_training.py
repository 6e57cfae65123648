"""Training of the `savi` encoder: clips of successive frames, reconstruction and KL (arXiv 2210.05861, as released)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ocwm.encoder_training import Clips, EncoderTraining, VideoClips
from ocwm_encoders.savi import SAVi
from ocwm_encoders.savi_network import StoSAVi
from ocwm_encoders.training_frames import shrink


class SAViTraining(EncoderTraining):
    """Trains StoSAVi on every clip of every video.

    Args:
        encoder: whose network is trained.
        frames: of a clip; 6 as published.
        validation: clips of the dev videos to measure the loss on.
    """

    network: StoSAVi

    def __init__(self, encoder: SAVi, *, frames: int, validation: int) -> None:
        super().__init__(encoder.new_network())
        self.encoder = encoder
        self._clips = Clips(frames=frames, pick="every", validation=validation)

    @property
    def clips(self) -> Clips:
        """Successive frames, from every start."""
        return self._clips

    @property
    def kept(self) -> Mapping[str, Any]:
        """Size and filter."""
        return {"size": list(self.encoder.resolution), "resize": "bilinear", "antialias": self.encoder.antialias}

    def keep(self, pixels: Tensor) -> Tensor:
        """Shrink frames (T, 3, H, W) to the encoder's resolution."""
        return shrink(pixels, size=self.encoder.resolution, antialias=self.encoder.antialias)

    def loss(self, batch: VideoClips) -> dict[str, Tensor]:
        """Return "loss", "post_recon_loss" and "kld_loss"; the slots' starts are drawn from torch's generator."""
        return self.network.loss(self.encoder.images(batch.frames))
