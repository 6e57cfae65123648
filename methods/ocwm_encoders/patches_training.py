"""Training of the `patches` encoder: hidden patches are reconstructed from the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ocwm.data_parallel import draw_rows
from ocwm.encoder_training import Clips, EncoderTraining, VideoClips
from ocwm.errors import BenchError
from ocwm_encoders.patches import PatchesEncoder
from ocwm_encoders.patches_network import PatchNetwork
from ocwm_encoders.training_frames import shrink


class PatchesTraining(EncoderTraining):
    """Trains `PatchNetwork` on single frames.

    Args:
        encoder: whose network is trained.
        frames: of a clip; each is a picture by itself.
        hidden_share: share of a frame's patches that are hidden.
        seen_weight: of the reconstruction of patches that are not hidden.
        place_weight: of the place that is read from each token.
        validation: clips of the dev videos to measure the loss on.
    """

    network: PatchNetwork

    def __init__(
        self,
        encoder: PatchesEncoder,
        *,
        frames: int,
        hidden_share: float,
        seen_weight: float,
        place_weight: float,
        validation: int,
    ) -> None:
        if not 0 < hidden_share < 1:
            raise BenchError(f"training.hidden_share is {hidden_share}", "It is a share between 0 and 1.")
        super().__init__(encoder.new_network())
        self.encoder = encoder
        self.hidden_share, self.seen_weight, self.place_weight = hidden_share, seen_weight, place_weight
        self._clips = Clips(frames=frames, pick="random", validation=validation)

    @property
    def clips(self) -> Clips:
        """Any clip of a video."""
        return self._clips

    @property
    def kept(self) -> Mapping[str, Any]:
        """Size and filter."""
        return {"size": list(self.encoder.resolution), "resize": "bilinear", "antialias": True}

    def keep(self, pixels: Tensor) -> Tensor:
        """Shrink frames (T, 3, H, W) to the encoder's resolution."""
        return shrink(pixels, size=self.encoder.resolution, antialias=True)

    def loss(self, batch: VideoClips) -> dict[str, Tensor]:
        """Return "loss" and its parts "hidden", "seen" and "place"; what is hidden is drawn from torch's generator."""
        images = self.encoder.images(batch.frames).flatten(0, 1)
        patches = self.network.size[0] * self.network.size[1]
        drawn = draw_rows(len(images), lambda count: torch.rand(count, patches, device=images.device))
        order = drawn.argsort(dim=1)
        hidden = order < min(max(1, round(self.hidden_share * patches)), patches - 1)
        parts = self.network.losses(images, hidden)
        total = parts["hidden"] + self.seen_weight * parts["seen"] + self.place_weight * parts["place"]
        return {"loss": total, **parts}
