"""The `videosaur` encoder: VideoSAUR (arXiv 2306.04829) on DINOv2, the slots that C-JEPA's main results use.

Shape letters: B batch, T time, N slots, D slot dimension, P patches, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from ocwm.checkpoint import load_weights
from ocwm.errors import BenchError
from ocwm.types import LatentBatch, Observations
from ocwm_encoders.backbone import load_backbone
from ocwm_encoders.backbone_files import find_folder
from ocwm_encoders.frames import Resize, one_of, pixels_of, prepare
from ocwm_encoders.pixel_encoder import RANDOM, PixelEncoder, frames_per_call
from ocwm_encoders.videosaur_network import Similarity, VideoSAUR

Start = Literal["seeded", "unseeded"]


@dataclass(frozen=True)
class VideoSAURCarry:
    """The start (B, N, D) of a video's next frame."""

    predicted: Tensor


class VideoSAUREncoder(PixelEncoder[VideoSAUR]):
    """Slots of video frames after slot attention, each frame's started from a prediction out of the last one's.

    Args:
        num_slots: slots N; no weight depends on it.
        slot_dim: width D.
        image_size: side that frames are resized to in pixels; the aspect ratio is not kept.
        resize: "bilinear" (with antialias; slot extraction and planning) or "bicubic" (without; training).
        initial_slots: "seeded" draws a video's initial slots from the seed and the video's id; "unseeded" draws
            them anew at every call, as published: such slots can't be made again.
        backbone: settings of `Dinov2Config`, those of the backbone in the weights file.
        pretrained: DINOv2 that a training starts from: hub model, folder, or "random"; not read where there are weights.
        first_iterations, iterations: rounds of slot attention in a video's first frame and in all others.
        predictor_heads: heads of the predictor.
        with_decoder: whether there is a decoder, which only the training needs; weights that were published as a part of a
            world model have none.
        decoder_heads, decoder_blocks, renderer_dim: sizes of the decoder.
        temperature, similarity_weight: of the similarity loss; 0.15 and 0.3 for CLEVRER, 0.25 and 0.25 for Push-T.
        weights: safetensors file with the published names (backbone included), or "random".
        seed: of the draws, and of a random network.
    """

    name: ClassVar[str] = "videosaur"
    version: ClassVar[int] = 1

    def __init__(
        self,
        *,
        backbone: Mapping[str, Any],
        num_slots: int = 7,
        slot_dim: int = 128,
        image_size: int = 196,
        resize: Resize = "bilinear",
        initial_slots: Start = "seeded",
        pretrained: str = "facebook/dinov2-small",
        first_iterations: int = 3,
        iterations: int = 2,
        predictor_heads: int = 4,
        with_decoder: bool = True,
        decoder_heads: int = 4,
        decoder_blocks: int = 3,
        renderer_dim: int = 1024,
        temperature: float = 0.15,
        similarity_weight: float = 0.3,
        weights: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(num_slots=num_slots, slot_dim=slot_dim, weights=weights, seed=seed)
        one_of("initial_slots", initial_slots, get_args(Start))
        one_of("resize", resize, get_args(Resize))
        patch = int(backbone.get("patch_size", 14))
        if image_size % patch or image_size < patch:
            raise BenchError(
                f"encoder.image_size={image_size} is no multiple of the patch size {patch}",
                f"Choose for example {max(1, round(image_size / patch)) * patch}.",
            )
        self.image_size = image_size
        self.resize: Resize = resize
        self.initial_slots: Start = initial_slots
        self.backbone = dict(backbone)
        self.pretrained = pretrained
        self.sizes: dict[str, Any] = {
            "slot_dim": slot_dim,
            "patches": (image_size // patch) ** 2 if with_decoder else None,
            "first_iterations": first_iterations,
            "iterations": iterations,
            "predictor_heads": predictor_heads,
            "decoder_heads": decoder_heads,
            "decoder_blocks": decoder_blocks,
            "renderer_dim": renderer_dim,
            "similarity": Similarity(weight=similarity_weight, temperature=temperature),
        }

    def build_network(self) -> VideoSAUR:
        """Return an untrained network around an untrained backbone."""
        return VideoSAUR(self.backbone, **self.sizes)

    def training_network(self) -> VideoSAUR:
        """Return a network to be trained: initialised from `seed`, around the pretrained backbone.

        Raises:
            BenchError: the backbone is not to be had.
        """
        network = self.new_network()
        if self.pretrained != RANDOM:
            pretrained = load_backbone(find_folder(self.pretrained, encoder=self.name))
            load_weights(network.encoder.module.backbone, pretrained.state_dict(), source=self.pretrained)
        return network.train()

    def images(self, pixels: Tensor) -> Tensor:
        """Turn frames (B, T, 3, H, W) uint8 RGB into the network's input (B, T, 3, image_size, image_size)."""
        return prepare(
            pixels,
            size=(self.image_size, self.image_size),
            normalisation="imagenet",
            resize=self.resize,
            antialias=self.resize == "bilinear",
        )

    @torch.no_grad()
    def encode(
        self, observations: Observations, carry: VideoSAURCarry | None = None
    ) -> tuple[LatentBatch, VideoSAURCarry]:
        """Encode frames (B, T, 3, H, W) into slots (B, T, N, D); a video in chunks gives the slots of one pass."""
        pixels = pixels_of(observations, self.name)
        network = self.network.to(pixels.device)
        batch, frames = pixels.shape[:2]
        start = self._start(network, observations.ids, pixels.device) if carry is None else carry.predicted
        parts: list[Tensor] = []
        step = frames_per_call(batch)
        for low in range(0, frames, step):
            states = network.encode(self.images(pixels[:, low : low + step]), start, first=carry is None and low == 0)
            parts.append(states.state)
            start = states.predicted[:, -1]
        present = torch.ones(batch, self.num_slots, dtype=torch.bool, device=pixels.device)
        return LatentBatch(torch.cat(parts, dim=1), present=present), VideoSAURCarry(start)

    @property
    def segments(self) -> bool:
        """The decoder, where there is one, says which patches a slot explains."""
        return self.sizes["patches"] is not None

    @torch.no_grad()
    def segment(
        self, observations: Observations, carry: VideoSAURCarry | None = None
    ) -> tuple[LatentBatch, Tensor, VideoSAURCarry]:
        """Encode frames; masks (B, T, N, side, side) over the patches are the decoder's and sum to 1 over the slots."""
        decoder = self.network.decoder
        if decoder is None:
            return super().segment(observations, carry)
        latents, after = self.encode(observations, carry)
        slots_BTND = latents.latents
        parts = torch.split(slots_BTND.flatten(0, 1), frames_per_call(1))
        masks = torch.cat([decoder.module(part)[1] for part in parts])
        side = round(masks.shape[-1] ** 0.5)
        return latents, masks.view(*slots_BTND.shape[:3], side, side), after

    def _start(self, network: VideoSAUR, ids: Tensor, device: torch.device) -> Tensor:
        if self.initial_slots == "seeded":
            noise = self.draws(ids, frame=0)
        else:
            generator = torch.Generator()
            generator.seed()
            noise = torch.randn(len(ids), self.num_slots, self.slot_dim, generator=generator)
        return network.initializer(noise.to(device))  # type: ignore[no-any-return]
