"""The `gated_slots` encoder: slots of moving objects in front of a background that the weights know.

Shape letters: B batch, T time, N slots, D slot dimension, P pixels of the feature map, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from ocwm.errors import BenchError
from ocwm.types import LatentBatch, Observations
from ocwm_encoders.frames import one_of, pixels_of, prepare
from ocwm_encoders.gated_slots_network import GatedSlots, Tracks
from ocwm_encoders.pixel_encoder import RANDOM, PixelEncoder, frames_per_call

Masks = Literal["attention", "decoder"]

GATE_OPEN = 0.5  # a pixel whose gate is wider than this is not background
FOREIGN_SHARE = 0.6  # a video of which more is not background comes from another camera or data set
_ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True)
class GatedSlotsCarry:
    """Where a video stands: the content (B, N, C) of its last slots."""

    content: Tensor


class GatedSlotsEncoder(PixelEncoder[GatedSlots]):
    """Slots of video frames, each frame's starting from the last one's; a slot ends with its place in the frame.

    It needs a camera that stands still and a background that is the same in all videos. It is not plain SAVi.

    Args:
        num_slots: slots N.
        slot_dim: width D: a slot is D - 2 numbers of content, then x and y.
        resolution: [height, width] that frames are resized to; frames must have this aspect ratio.
        channels, convolutions, feature_stride, shading_input, first_iterations, iterations: see `GatedSlots`.
        decoder_dim, decoder_depth, loss_stride: see `GatedSlots`; used in training and for masks "decoder".
        position_scale: factor on x and y in the slot; 1 leaves y between -1 and 1.
        masks: what `segment` gives: "attention" of the slots times the gate, at the feature map's size, or the masks of
            the "decoder", at the decoded size.
        weights: safetensors file of `bench train-encoder`, or "random".
        seed: of a random network, and of the training's start.
    """

    name: ClassVar[str] = "gated_slots"
    version: ClassVar[int] = 1

    def __init__(
        self,
        *,
        num_slots: int = 7,
        slot_dim: int = 64,
        resolution: Sequence[int] = (64, 96),
        channels: int = 32,
        convolutions: int = 4,
        feature_stride: int = 2,
        shading_input: bool = False,
        first_iterations: int = 3,
        iterations: int = 1,
        decoder_dim: int = 64,
        decoder_depth: int = 2,
        loss_stride: int = 2,
        position_scale: float = 1.0,
        masks: Masks = "attention",
        weights: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(num_slots=num_slots, slot_dim=slot_dim, weights=weights, seed=seed)
        one_of("masks", masks, get_args(Masks))
        if len(resolution) != 2:
            raise BenchError(f"encoder.resolution={list(resolution)} must be [height, width]", "For example [64,96].")
        if slot_dim < 4:
            raise BenchError(f"encoder.slot_dim is {slot_dim}", "Two of it are the place; it must be at least 4.")
        self.resolution = (int(resolution[0]), int(resolution[1]))
        self.position_scale = position_scale
        self.masks: Masks = masks
        self.sizes: dict[str, Any] = {
            "resolution": self.resolution,
            "num_slots": num_slots,
            "content": slot_dim - 2,
            "channels": channels,
            "convolutions": convolutions,
            "feature_stride": feature_stride,
            "shading_input": shading_input,
            "first_iterations": first_iterations,
            "iterations": iterations,
            "decoder_dim": decoder_dim,
            "decoder_depth": decoder_depth,
            "loss_stride": loss_stride,
        }

    def build_network(self) -> GatedSlots:
        """Return an untrained network, whose background is grey."""
        return GatedSlots(**self.sizes)

    def images(self, pixels: Tensor) -> Tensor:
        """Turn frames (B, T, 3, H, W) uint8 RGB into the network's input (B, T, 3, *resolution) in [-1, 1].

        Raises:
            BenchError: the frames have another aspect ratio.
        """
        self.check_aspect(*pixels.shape[-2:])
        return prepare(pixels, size=self.resolution, normalisation="half", antialias=True)

    def check_aspect(self, height: int, width: int) -> None:
        """Refuse frames of another aspect ratio than `resolution`.

        Raises:
            BenchError: naming both.
        """
        ours = self.resolution[1] / self.resolution[0]
        if abs(width / height / ours - 1) > _ASPECT_TOLERANCE:
            raise BenchError(
                f"frames are {height} high and {width} wide, which is not the shape of "
                f"encoder.resolution={list(self.resolution)}",
                f"Use encoder.resolution=[64,{2 * round(32 * width / height)}] in training and afterwards.",
            )

    def encode(
        self, observations: Observations, carry: GatedSlotsCarry | None = None
    ) -> tuple[LatentBatch, GatedSlotsCarry]:
        """Encode frames (B, T, 3, H, W) into slots (B, T, N, D); a video in chunks gives the slots of one pass.

        Raises:
            BenchError: the frames do not show the background that the weights know.
        """
        latents, _, after = self._follow(observations, carry, masks=False)
        return latents, after

    @property
    def segments(self) -> bool:
        """True: a slot lies where it attends to, or where it is drawn."""
        return True

    def segment(
        self, observations: Observations, carry: GatedSlotsCarry | None = None
    ) -> tuple[LatentBatch, Tensor, GatedSlotsCarry]:
        """Encode frames, and return masks (B, T, N, h, w) too; what they leave of 1 is background."""
        return self._follow(observations, carry, masks=True)

    @torch.no_grad()
    def _follow(
        self, observations: Observations, carry: GatedSlotsCarry | None, *, masks: bool
    ) -> tuple[LatentBatch, Tensor, GatedSlotsCarry]:
        pixels = pixels_of(observations, self.name)
        network = self.network.to(pixels.device)
        batch, frames = pixels.shape[:2]
        content = None if carry is None else carry.content
        parts: list[Tensor] = []
        maps: list[Tensor] = []
        step = frames_per_call(batch)
        for low in range(0, frames, step):
            images = self.images(pixels[:, low : low + step])
            if self._weights != RANDOM:  # a random network knows no background
                self._check_background(network, images, observations.ids)
            tracks = network.follow(images, content)
            content = tracks.content[:, -1]
            parts.append(torch.cat([tracks.content, tracks.positions * self.position_scale], dim=-1))
            if masks:
                maps.append(self._masks(network, tracks))
        assert content is not None
        present = torch.ones(batch, self.num_slots, dtype=torch.bool, device=pixels.device)
        latents = LatentBatch(torch.cat(parts, dim=1), present=present)
        return latents, torch.cat(maps, dim=1) if maps else torch.empty(0), GatedSlotsCarry(content)

    def _masks(self, network: GatedSlots, tracks: Tracks) -> Tensor:
        if self.masks == "attention":
            return tracks.attention.view(*tracks.attention.shape[:3], *network.feature_size)
        batch, frames = tracks.content.shape[:2]
        _, drawn = network.decode(tracks.content.flatten(0, 1), tracks.positions.flatten(0, 1))
        return drawn[:, :-1].view(batch, frames, self.num_slots, *network.loss_size)

    def _check_background(self, network: GatedSlots, images_BT3HW: Tensor, ids: Tensor) -> None:
        gate = network.gate(images_BT3HW.flatten(0, 1)).view(*images_BT3HW.shape[:2], -1)
        shares = (gate > GATE_OPEN).float().mean(dim=(1, 2))
        if bool((shares > FOREIGN_SHARE).any()):
            worst = int(shares.argmax())
            raise BenchError(
                f"{float(shares[worst]):.0%} of video {int(ids[worst])} differs from the background that the weights of "
                f"'{self.name}' know (limit {FOREIGN_SHARE:.0%}): another camera or data set",
                "Train the encoder on these videos (bench train-encoder), or choose another encoder.",
            )
