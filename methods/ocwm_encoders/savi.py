"""The `savi` encoder: StoSAVi of SlotFormer (arXiv 2210.05861), as it was trained for SlotFormer and for C-JEPA.

Shape letters: B batch, T time, N slots, D slot dimension, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ocwm.errors import BenchError
from ocwm.types import LatentBatch, Observations
from ocwm_encoders.frames import ChannelOrder, pixels_of, prepare
from ocwm_encoders.pixel_encoder import PixelEncoder, frames_per_call
from ocwm_encoders.savi_network import StoSAVi

_FRAMES_PER_DECODE = 16  # a slot's picture passes many channels: this bounds the memory


@dataclass(frozen=True)
class SAViCarry:
    """Where a video stands: its last slots (B, N, D) and the number of the next frame."""

    slots: Tensor
    frame: int


class SAVi(PixelEncoder[StoSAVi]):
    """Slots of video frames, each frame's starting from the last one's.

    Args:
        num_slots, slot_dim, slot_mlp_dim, iterations: sizes of the slots and of slot attention.
        resolution: [height, width] that frames are resized to; the aspect ratio is not kept.
        encoder_channels, encoder_kernel, encoder_resolution, feature_dim: see `StoSAVi`.
        decoder_channels, decoder_kernel, decoder_resolution: see `StoSAVi`.
        stochastic: draw the start of every frame's slots, as published; here the draws depend on the seed, the video
            and the frame only. False takes the mean.
        channel_order: "rgb" (weights trained on RGB frames, C-JEPA's) or "bgr" (SlotFormer's, whose frames came from
            OpenCV unconverted).
        antialias: low-pass filter in the resize; true for C-JEPA's environment, false for SlotFormer's.
        weights: safetensors file with the published names, or "random".
        seed: of the draws, and of a random network.
    """

    name: ClassVar[str] = "savi"
    version: ClassVar[int] = 1

    def __init__(
        self,
        *,
        num_slots: int = 7,
        slot_dim: int = 128,
        slot_mlp_dim: int = 256,
        iterations: int = 2,
        resolution: Sequence[int] = (64, 64),
        encoder_channels: Sequence[int] = (3, 64, 64, 64, 64),
        encoder_kernel: int = 5,
        encoder_resolution: Sequence[int] = (64, 64),
        feature_dim: int = 128,
        decoder_channels: Sequence[int] = (128, 64, 64, 64, 64),
        decoder_kernel: int = 5,
        decoder_resolution: Sequence[int] = (8, 8),
        stochastic: bool = True,
        channel_order: ChannelOrder = "rgb",
        antialias: bool = True,
        weights: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(num_slots=num_slots, slot_dim=slot_dim, weights=weights, seed=seed)
        self.resolution = _pair("resolution", resolution)
        self.channel_order = channel_order
        self.antialias = antialias
        self.sizes: dict[str, Any] = {
            "resolution": self.resolution,
            "num_slots": num_slots,
            "slot_dim": slot_dim,
            "slot_mlp_dim": slot_mlp_dim,
            "iterations": iterations,
            "encoder_channels": tuple(encoder_channels),
            "encoder_kernel": encoder_kernel,
            "encoder_resolution": _pair("encoder_resolution", encoder_resolution),
            "feature_dim": feature_dim,
            "decoder_channels": tuple(decoder_channels),
            "decoder_kernel": decoder_kernel,
            "decoder_resolution": _pair("decoder_resolution", decoder_resolution),
            "stochastic": stochastic,
        }

    def build_network(self) -> StoSAVi:
        """Return an untrained network."""
        return StoSAVi(**self.sizes)

    def images(self, pixels: Tensor) -> Tensor:
        """Turn frames (B, T, 3, H, W) uint8 RGB into the network's input (B, T, 3, *resolution) in [-1, 1]."""
        return prepare(
            pixels,
            size=self.resolution,
            normalisation="half",
            antialias=self.antialias,
            channel_order=self.channel_order,
        )

    @torch.no_grad()
    def encode(self, observations: Observations, carry: SAViCarry | None = None) -> tuple[LatentBatch, SAViCarry]:
        """Encode frames (B, T, 3, H, W) into slots (B, T, N, D); a video in chunks gives the slots of one pass."""
        pixels = pixels_of(observations, self.name)
        network = self.network.to(pixels.device)
        batch, frames = pixels.shape[:2]
        slots, first = (None, 0) if carry is None else (carry.slots, carry.frame)
        parts: list[Tensor] = []
        step = frames_per_call(batch)
        for low in range(0, frames, step):
            images = self.images(pixels[:, low : low + step])
            noise = None
            if network.stochastic:
                numbers = range(first + low, first + low + images.shape[1])
                noise = torch.stack([self.draws(observations.ids, frame=t) for t in numbers], dim=1).to(pixels.device)
            part, _ = network.encode(images, previous=slots, noise=noise)
            slots = part[:, -1]
            parts.append(part)
        assert slots is not None
        present = torch.ones(batch, self.num_slots, dtype=torch.bool, device=pixels.device)
        return LatentBatch(torch.cat(parts, dim=1), present=present), SAViCarry(slots, first + frames)

    @property
    def segments(self) -> bool:
        """The decoder says where a slot lies."""
        return True

    @torch.no_grad()
    def segment(
        self, observations: Observations, carry: SAViCarry | None = None
    ) -> tuple[LatentBatch, Tensor, SAViCarry]:
        """Encode frames; masks (B, T, N, *resolution) are the decoder's, which sum to 1 over the slots."""
        latents, after = self.encode(observations, carry)
        slots_BTND = latents.latents
        parts = torch.split(slots_BTND.flatten(0, 1), _FRAMES_PER_DECODE)
        masks = torch.cat([self.network.decode(part).masks for part in parts])
        return latents, masks.view(*slots_BTND.shape[:3], *self.resolution), after

    @property
    def decodes(self) -> bool:
        """Slots can be turned into pictures."""
        return True

    def target_images(self, pixels: Tensor) -> Tensor:
        """What the decoder should give for frames: the network's own input, see `images`."""
        return self.images(pixels)

    def decoder(self) -> nn.Module:
        """The frozen decoder of slots into images (B, T, 3, *resolution) in [-1, 1]."""
        return PictureDecoder(self.network)


class PictureDecoder(nn.Module):
    """The decoder of a StoSAVi, without its masks."""

    def __init__(self, network: StoSAVi) -> None:
        super().__init__()
        self.network = network

    def decode(self, slots_BTND: Tensor) -> Tensor:
        """Map slots (B, T, N, D) to images (B, T, 3, H, W)."""
        images = self.network.decode(slots_BTND.flatten(0, 1)).image
        return images.view(*slots_BTND.shape[:2], *images.shape[1:])


def _pair(key: str, values: Sequence[int]) -> tuple[int, int]:
    if len(values) != 2:
        raise BenchError(f"encoder.{key}={list(values)} must be [height, width]", f"For example encoder.{key}=[64,64].")
    return int(values[0]), int(values[1])
