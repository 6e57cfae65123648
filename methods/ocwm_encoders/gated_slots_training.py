"""Training of the `gated_slots` encoder: weighted reconstruction, and an area term that removes duplicate slots.

Shape letters: V videos, B clips, T frames, M images, Q decoded pixels, h, w height and width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ocwm.encoder_training import Clips, EncoderTraining, VideoClips
from ocwm.errors import BenchError
from ocwm_encoders.gated_slots import GATE_OPEN, GatedSlotsEncoder
from ocwm_encoders.gated_slots_network import GatedSlots
from ocwm_encoders.training_frames import shrink

MOVING_SHARE = 0.1  # a background of which more than this is mostly not as in the median does not stand still
BACKGROUND_FRAMES = 800  # that the median is taken of
_AREA_OFFSET = 0.25  # keeps the slope of the square root finite where a slot is empty
_RAMP = 1 / 30  # of the training, over which the area term comes in


class GatedSlotsTraining(EncoderTraining):
    """Trains `GatedSlots`.

    Args:
        encoder: whose network is trained.
        updates: that the training makes; the shares below are of it.
        frames: of a clip.
        strides: video frames from one to the next, drawn for each clip.
        short_frames: first, clips are cut into pieces of so many frames: as many frames an update, more starts.
        short_share: share of the training that this lasts.
        foreground_weight: what a pixel that is not background counts more than one that is.
        area_weight: of the area term.
        area_from: share of the training before it.
        area_late: factor on it in the second half.
        loss_pixels: decoded pixels of a frame that an update draws, 0 for all. They are drawn by their weight in the
            loss, so that its expectation is that of all pixels, with most of them where the objects are.
        validation: clips of the dev videos to measure the loss on.
    """

    network: GatedSlots
    update_number: Tensor

    def __init__(
        self,
        encoder: GatedSlotsEncoder,
        *,
        updates: int,
        frames: int,
        strides: Sequence[int],
        short_frames: int,
        short_share: float,
        foreground_weight: float,
        area_weight: float,
        area_from: float,
        area_late: float,
        loss_pixels: int,
        validation: int,
    ) -> None:
        super().__init__(encoder.new_network())
        if short_frames < 1 or frames % short_frames:
            raise BenchError(
                f"training.short_frames={short_frames} does not divide training.frames={frames}", "Use 1, 2 or 3 of 6."
            )
        self.encoder = encoder
        self.updates = updates
        self.short_frames, self.short_share = short_frames, short_share
        self.foreground_weight = foreground_weight
        self.area_weight, self.area_from, self.area_late = area_weight, area_from, area_late
        self.loss_pixels = loss_pixels
        self._clips = Clips(frames=frames, strides=tuple(strides), pick="random", validation=validation)
        self.register_buffer("update_number", torch.zeros((), dtype=torch.int64))

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
        self.encoder.check_aspect(*pixels.shape[-2:])
        return shrink(pixels, size=self.encoder.resolution, antialias=True)

    def start(self, frames_VT3hw: npt.NDArray[np.uint8]) -> None:
        """Take the median of the frames as the background.

        Raises:
            BenchError: it does not stand still.
        """
        videos, length = frames_VT3hw.shape[:2]
        by_video = min(length, max(8, BACKGROUND_FRAMES // videos))
        chosen = np.linspace(0, videos - 1, min(videos, BACKGROUND_FRAMES // by_video)).astype(int)
        times = np.linspace(0, length - 1, by_video).astype(int)
        sample = torch.from_numpy(frames_VT3hw[chosen[:, None], times].reshape(-1, *frames_VT3hw.shape[2:]))
        images = self.encoder.images(sample[:, None])[:, 0]
        self.network.set_background(images.median(dim=0).values)
        differs = (self.network.gate(images) > GATE_OPEN).float().mean(dim=0)  # how often each pixel does
        share = float((differs > 0.5).float().mean())
        if share > MOVING_SHARE:
            raise BenchError(
                f"the background does not stand still: {share:.0%} of the pixels differ from their median in most of "
                f"{len(images)} frames (limit {MOVING_SHARE:.0%})",
                f"'{self.encoder.name}' needs one fixed camera and one background in all videos; train encoder savi.",
            )

    def loss(self, batch: VideoClips) -> dict[str, Tensor]:
        """Return "loss", "reconstruction" (weighted mean square error) and "area" (the term without its weight)."""
        images = self.encoder.images(batch.frames)
        weight = self.area_weight
        if self.training:
            done = int(self.update_number) / self.updates
            weight *= self.area_schedule(done)
            if done < self.short_share:
                images = images.reshape(-1, self.short_frames, *images.shape[2:])
            self.update_number += 1
        tracks = self.network.follow(images)
        reconstruction = self._reconstruction(
            images.flatten(0, 1), tracks.content.flatten(0, 1), tracks.positions.flatten(0, 1)
        )
        # Concave: one slot on an object costs less than two that share it.
        area = (self.network.areas(tracks) + _AREA_OFFSET).sqrt().sum(dim=-1).mean()
        return {"loss": reconstruction + weight * area, "reconstruction": reconstruction, "area": area}

    def area_schedule(self, done: float) -> float:
        """Return the factor on the area term when this share of the training is done."""
        ramp = min(1.0, max(0.0, (done - self.area_from) / _RAMP))
        return ramp * (self.area_late if done >= 0.5 else 1.0)

    def _reconstruction(self, images_M3HW: Tensor, content: Tensor, positions: Tensor) -> Tensor:
        gate = self.network.gate(images_M3HW)
        if (stride := self.network.loss_stride) > 1:
            images_M3HW, gate = functional.avg_pool2d(images_M3HW, stride), functional.avg_pool2d(gate, stride)
        wanted_MQ3 = images_M3HW.flatten(2).transpose(1, 2)
        gate_MQ = gate.flatten(1)
        weights_MQ = 1 + self.foreground_weight * gate_MQ
        if not self.training or not 0 < self.loss_pixels < weights_MQ.shape[1]:
            drawn_MQ3, _ = self.network.decode(content, positions)
            return (weights_MQ * (drawn_MQ3 - wanted_MQ3).square().mean(dim=-1)).mean()
        pixels_MQ = torch.multinomial(weights_MQ, self.loss_pixels, replacement=True)
        drawn_MQ3, _ = self.network.decode(content, positions, pixels_MQ)
        wanted_MQ3 = wanted_MQ3.gather(1, pixels_MQ[..., None].expand(-1, -1, 3))
        each_M = (drawn_MQ3 - wanted_MQ3).square().mean(dim=(1, 2))
        return (weights_MQ.mean(dim=1) * each_M).mean()
