"""The `patches` encoder: patch tokens of a small network, where the weights of DINOv2 can't be had.

Shape letters: B batch, T time, P patches, N tokens, D token width, H, W height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ocwm.errors import BenchError
from ocwm.types import LatentBatch, Observations
from ocwm_encoders.frames import pixels_of, prepare
from ocwm_encoders.patches_network import PatchNetwork
from ocwm_encoders.pixel_encoder import PixelEncoder, frames_per_call


class PatchesEncoder(PixelEncoder[PatchNetwork]):
    """Tokens of a frame's patches, row by row; a frame is encoded by itself.

    Args:
        resolution: [height, width] that frames are resized to; the aspect ratio is not kept.
        patch: side of a patch in pixels.
        dim: width D of a token.
        depth, heads: of the transformer.
        pool: side of the squares of patches whose tokens are averaged; 1 leaves every patch its token.
        weights: safetensors file of `bench train-encoder`, or "random".
        seed: of a random network, and of the training's start.
    """

    name: ClassVar[str] = "patches"
    version: ClassVar[int] = 1

    def __init__(
        self,
        *,
        resolution: Sequence[int] = (64, 96),
        patch: int = 8,
        dim: int = 48,
        depth: int = 2,
        heads: int = 4,
        pool: int = 1,
        weights: str | None = None,
        seed: int = 0,
    ) -> None:
        if len(resolution) != 2:
            raise BenchError(f"encoder.resolution={list(resolution)} must be [height, width]", "For example [64,96].")
        self.resolution = (int(resolution[0]), int(resolution[1]))
        if patch < 1 or any(side % patch for side in self.resolution):
            raise BenchError(
                f"encoder.patch={patch} does not divide encoder.resolution={list(self.resolution)}", "For example 8."
            )
        if dim % heads:
            raise BenchError(f"encoder.heads={heads} does not divide encoder.dim={dim}", "Choose heads that divide it.")
        rows, columns = (side // patch for side in self.resolution)
        if pool < 1 or rows % pool or columns % pool:
            raise BenchError(f"encoder.pool={pool} does not divide {rows} x {columns} patches", "For example 2.")
        super().__init__(num_slots=rows * columns // pool**2, slot_dim=dim, weights=weights, seed=seed)
        self.pool = pool
        self.sizes: dict[str, Any] = {
            "resolution": self.resolution,
            "patch": patch,
            "dim": dim,
            "depth": depth,
            "heads": heads,
        }

    def build_network(self) -> PatchNetwork:
        """Return an untrained network."""
        return PatchNetwork(**self.sizes)

    def images(self, pixels: Tensor) -> Tensor:
        """Turn frames (B, T, 3, H, W) uint8 RGB into the network's input (B, T, 3, *resolution) in [-1, 1]."""
        return prepare(pixels, size=self.resolution, normalisation="half", antialias=True)

    @torch.no_grad()
    def encode(self, observations: Observations, carry: Any = None) -> tuple[LatentBatch, Any]:
        """Encode frames (B, T, 3, H, W) into tokens (B, T, N, D); there is no carry."""
        pixels = pixels_of(observations, self.name)
        network = self.network.to(pixels.device)
        batch, frames = pixels.shape[:2]
        parts: list[Tensor] = []
        step = frames_per_call(batch)
        for low in range(0, frames, step):
            images = self.images(pixels[:, low : low + step])
            tokens = self._pooled(network, network.tokens(images.flatten(0, 1)))
            parts.append(tokens.view(batch, -1, self.num_slots, self.slot_dim))
        present = torch.ones(batch, self.num_slots, dtype=torch.bool, device=pixels.device)
        return LatentBatch(torch.cat(parts, dim=1), present=present), None

    def _pooled(self, network: PatchNetwork, tokens_MPD: Tensor) -> Tensor:
        if self.pool == 1:
            return tokens_MPD
        maps = tokens_MPD.transpose(1, 2).reshape(len(tokens_MPD), -1, *network.size)
        return functional.avg_pool2d(maps, self.pool).flatten(2).transpose(1, 2)
