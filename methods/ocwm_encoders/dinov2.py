"""The encoders `dinov2` and `dinov2_registers`: patch tokens of a frozen DINOv2, what DINO-WM's models read.

Sources: DINO-WM (arXiv 2411.04983); its variant with registers in C-JEPA's comparison (arXiv 2602.11389, section 5.2).

Shape letters: B batch, T time, P patches (the tokens N), D token width, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from ocwm.errors import BenchError
from ocwm.interfaces import Encoder
from ocwm.types import LatentBatch, Observations
from ocwm_encoders.backbone import build_backbone, load_backbone, patch_tokens, resize_positions_as_hub
from ocwm_encoders.backbone_files import CONFIG, WEIGHTS, find_folder, read_config
from ocwm_encoders.frames import Normalisation, one_of, pixels_of, prepare
from ocwm_encoders.pixel_encoder import RANDOM, frames_per_call, sha256

PositionResize = Literal["hub", "transformers"]


class PatchEncoder(Encoder):
    """Patch tokens after the final layer norm; class token and registers are left out. A frame is encoded by itself.

    Args:
        weights: folder with config.json and model.safetensors, or a model of the Hugging Face hub; "random" leaves a
            network of `random_sizes` as `seed` initialises it.
        image_size: side that frames are resized to in pixels (bilinear, antialias; the aspect ratio is not kept).
        pixel_normalisation: "half" (-1..1) or "imagenet".
        random_sizes: settings of the random network.
        pool: average the patches to pool x pool tokens; None leaves every patch a token.
        seed: of the random network.
    """

    name: ClassVar[str]
    registers: ClassVar[bool]
    reads: ClassVar[Literal["state", "pixels"]] = "pixels"

    def __init__(
        self,
        *,
        weights: str | None,
        image_size: int,
        pixel_normalisation: Normalisation,
        random_sizes: Mapping[str, Any] | None,
        pool: int | None,
        seed: int,
    ) -> None:
        one_of("pixel_normalisation", pixel_normalisation, get_args(Normalisation))
        self._weights = weights
        self.image_size = image_size
        self.pixel_normalisation: Normalisation = pixel_normalisation
        self.random_sizes = dict(random_sizes or {})
        self.pool = pool
        self.seed = seed

    @property
    def num_slots(self) -> int:
        """Number of tokens N: of patches P, or of the cells that they are pooled to."""
        side = round(self.patches**0.5)
        if self.pool is None:
            return self.patches
        if not 1 <= self.pool <= side:
            raise BenchError(
                f"encoder.pool={self.pool}, and there are {side} x {side} patches", f"Choose 1 to {side}, or null."
            )
        return self.pool**2

    @property
    def patches(self) -> int:
        """Number of patches P."""
        patch = int(self._sizes["patch_size"])
        if self.image_size % patch or self.image_size < patch:
            raise BenchError(
                f"encoder.image_size={self.image_size} is no multiple of the patch size {patch}",
                f"Choose for example {max(1, round(self.image_size / patch)) * patch}.",
            )
        return (self.image_size // patch) ** 2

    @property
    def slot_dim(self) -> int:
        """Width D of a token."""
        return int(self._sizes["hidden_size"])

    @cached_property
    def weights(self) -> str:
        """The sha256 of the weights; "" for a random network.

        Raises:
            BenchError: they are neither in a folder nor in the hub's cache, and can't be downloaded.
        """
        return "" if self._weights == RANDOM else sha256(self._folder / WEIGHTS)

    @cached_property
    def network(self) -> nn.Module:
        """The backbone, frozen."""
        return self._build().requires_grad_(False)

    @torch.no_grad()
    def encode(self, observations: Observations, carry: Any = None) -> tuple[LatentBatch, Any]:
        """Encode frames (B, T, 3, H, W) into patch tokens (B, T, N, D), row by row; there is no carry."""
        pixels = pixels_of(observations, self.name)
        batch, frames = pixels.shape[:2]
        network = self.network.to(pixels.device)
        step = frames_per_call(batch)
        parts: list[Tensor] = []
        for low in range(0, frames, step):
            images = prepare(
                pixels[:, low : low + step],
                size=(self.image_size, self.image_size),
                normalisation=self.pixel_normalisation,
                antialias=True,
            )
            tokens = patch_tokens(network(images.flatten(0, 1)).last_hidden_state, network)
            parts.append(self._pooled(tokens).reshape(batch, -1, self.num_slots, self.slot_dim))
        present = torch.ones(batch, self.num_slots, dtype=torch.bool, device=pixels.device)
        return LatentBatch(torch.cat(parts, dim=1), present=present), None

    def _pooled(self, tokens_MPD: Tensor) -> Tensor:
        """Patch tokens (M, P, D) of images to (M, N, D)."""
        if self.pool is None:
            return tokens_MPD
        side = round(self.patches**0.5)
        grid = tokens_MPD.transpose(1, 2).reshape(-1, self.slot_dim, side, side)
        return functional.adaptive_avg_pool2d(grid, self.pool).flatten(2).transpose(1, 2)

    def _build(self) -> nn.Module:
        if self._weights != RANDOM:
            return load_backbone(self._folder, registers=self.registers)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return build_backbone(self._sizes, registers=self.registers)

    @cached_property
    def _folder(self) -> Path:
        if self._weights is None:
            raise BenchError(
                f"the encoder '{self.name}' has no weights", "Name a hub model or a folder: encoder.weights=FOLDER."
            )
        return find_folder(self._weights, encoder=self.name)

    @cached_property
    def _sizes(self) -> dict[str, Any]:
        random = self._weights == RANDOM
        sizes = self.random_sizes if random else read_config(self._folder)
        if lacking := [key for key in ("hidden_size", "patch_size") if key not in sizes]:
            where = "encoder.random_sizes" if random else str(self._folder / CONFIG)
            raise BenchError(
                f"{where} lacks {' and '.join(lacking)}",
                "A random network needs encoder.random_sizes={hidden_size: 16, num_hidden_layers: 2, "
                "num_attention_heads: 2, patch_size: 14}.",
            )
        return sizes


class DINOv2(PatchEncoder):
    """DINOv2 without registers: 196 tokens of width 384 by default.

    Args:
        weights, image_size, pixel_normalisation, random_sizes, pool, seed: see `PatchEncoder`.
        position_resize: how the position table is fitted to the patches. "hub" is torch.hub's rule (DINO-WM's
            released checkpoints), "transformers" that of the library (C-JEPA's DINO-WM baseline).
    """

    name: ClassVar[str] = "dinov2"
    version: ClassVar[int] = 1
    registers: ClassVar[bool] = False

    def __init__(
        self,
        *,
        weights: str | None = "facebook/dinov2-small",
        image_size: int = 196,
        pixel_normalisation: Normalisation = "half",
        position_resize: PositionResize = "hub",
        random_sizes: Mapping[str, Any] | None = None,
        pool: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            weights=weights,
            image_size=image_size,
            pixel_normalisation=pixel_normalisation,
            random_sizes=random_sizes,
            pool=pool,
            seed=seed,
        )
        one_of("position_resize", position_resize, get_args(PositionResize))
        self.position_resize: PositionResize = position_resize

    def _build(self) -> nn.Module:
        backbone = super()._build()
        if self.position_resize == "hub":
            resize_positions_as_hub(backbone, round(self.patches**0.5))
        return backbone


class DINOv2Registers(PatchEncoder):
    """DINOv2 with four register tokens, which are left out: 196 tokens of width 384 by default.

    Here torch.hub and the library resize the position table alike (bicubic, antialias, no offset): there is no switch.
    """

    name: ClassVar[str] = "dinov2_registers"
    version: ClassVar[int] = 1
    registers: ClassVar[bool] = True

    def __init__(
        self,
        *,
        weights: str | None = "facebook/dinov2-with-registers-small",
        image_size: int = 196,
        pixel_normalisation: Normalisation = "imagenet",
        random_sizes: Mapping[str, Any] | None = None,
        pool: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            weights=weights,
            image_size=image_size,
            pixel_normalisation=pixel_normalisation,
            random_sizes=random_sizes,
            pool=pool,
            seed=seed,
        )
