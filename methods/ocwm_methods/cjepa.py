"""C-JEPA: object-level latent masking (arXiv 2602.11389); OC-JEPA is the same model with no object masked.

Defaults are the released code; where the paper says otherwise a switch gives its wording (docs/fidelity.md).

Shape letters: B batch, T time, H history frames, K predicted frames, N slots, D slot dimension.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ocwm.errors import BenchError
from ocwm.interfaces import WorldModel
from ocwm.types import ClipSpec, LatentBatch, LatentSpec
from ocwm_methods.masking import Mask, object_mask, token_mask, tube_mask
from ocwm_methods.predictor import MaskedSlotPredictor

MaskStrategy = Literal["object", "token", "tube"]
MaskChoice = Literal["fixed", "batch", "sample"]
MaskCount = Literal["fixed", "uniform"]
HistoryLoss = Literal["with_anchor", "without_anchor"]


class CJEPA(WorldModel):
    """Predicts the future slots, and in training also hidden slots of the history, from the visible ones.

    Args:
        spec: what the encoder produces.
        history_frames: observed frames H of a training clip.
        pred_frames: frames K predicted by one call.
        frameskip: video frames between two latent frames.
        depth, heads, mlp_dim, dropout: transformer sizes.
        num_masked: hidden slots |M|; 0 is OC-JEPA. For "tube" the number of tubes.
        mask_strategy: hide whole objects, single tokens, or tubes of frames by slots.
        mask_ratio: hidden share of the history for "token" and "tube".
        mask_choice: "fixed" draws once from `mask_seed` and keeps the mask for the whole training (released code);
            "batch" and "sample" draw anew for every batch, or for every clip of it (the paper's wording).
        mask_count: "fixed" hides `num_masked` objects; "uniform" draws 0..num_masked (only with a drawn mask).
        mask_seed: seed of the fixed mask.
        history_loss: count the visible first frame in the history loss (released code) or not (paper).
        extra_mask_token: a learned vector shared by all queries (released code) or none (paper).
    """

    version: ClassVar[int] = 1
    capabilities: ClassVar[frozenset[str]] = frozenset({"variable_slots", "permutation_equivariant"})

    def __init__(
        self,
        spec: LatentSpec,
        *,
        history_frames: int = 6,
        pred_frames: int = 10,
        frameskip: int = 2,
        depth: int = 6,
        heads: int = 16,
        mlp_dim: int = 2048,
        dropout: float = 0.1,
        num_masked: int = 4,
        mask_strategy: MaskStrategy = "object",
        mask_ratio: float = 0.5,
        mask_choice: MaskChoice = "fixed",
        mask_count: MaskCount = "fixed",
        mask_seed: int = 42,
        history_loss: HistoryLoss = "with_anchor",
        extra_mask_token: bool = True,
    ) -> None:
        super().__init__(spec)
        _one_of("mask_strategy", mask_strategy, get_args(MaskStrategy))
        _one_of("mask_choice", mask_choice, get_args(MaskChoice))
        _one_of("mask_count", mask_count, get_args(MaskCount))
        _one_of("history_loss", history_loss, get_args(HistoryLoss))
        if spec.slot_dim % heads:
            raise BenchError(
                f"method.heads={heads} does not divide the slot width {spec.slot_dim}",
                "Choose heads that divide it, or another encoder.slot_dim.",
            )
        if not 0 <= num_masked <= spec.num_slots:
            raise BenchError(
                f"method.num_masked={num_masked}, but the encoder has {spec.num_slots} slots",
                f"Choose 0..{spec.num_slots}.",
            )
        if mask_count == "uniform" and (mask_choice == "fixed" or mask_strategy != "object"):
            raise BenchError(
                "method.mask_count=uniform wants object masks that are drawn anew",
                "Add method.mask_choice=batch or method.mask_choice=sample.",
            )
        self.frameskip = frameskip
        self.num_masked = num_masked
        self.mask_strategy = mask_strategy
        self.mask_ratio = mask_ratio
        self.mask_choice = mask_choice
        self.mask_count = mask_count
        self.mask_seed = mask_seed
        self.history_loss = history_loss
        self.predictor = MaskedSlotPredictor(
            spec.slot_dim,
            history_frames=history_frames,
            pred_frames=pred_frames,
            depth=depth,
            heads=heads,
            mlp_dim=mlp_dim,
            dropout=dropout,
            extra_mask_token=extra_mask_token,
        )

    @property
    def clip(self) -> ClipSpec:
        """History, future and stride of the training clips."""
        return ClipSpec(self.predictor.history_frames, self.predictor.pred_frames, self.frameskip)

    def loss(self, batch: LatentBatch) -> dict[str, Tensor]:
        """Mean square error of the hidden history plus that of the future, each a mean over its elements.

        Args:
            batch: latents (B, H + K, N, D). Padding slots are slots like any other, as published.

        Returns:
            "loss", "loss_history" (0 where nothing is hidden) and "loss_future".
        """
        history, future = torch.tensor_split(batch.latents, [self.clip.history], dim=1)
        mask = self.mask(history)
        predicted = self.predictor(history, mask)
        return self.losses(predicted, history, future, mask)

    def losses(self, predicted: Tensor, history: Tensor, future: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Loss terms of a predicted window (B, H + K, N, D) under `mask` (H, N) or (B, H, N)."""
        error = (predicted[:, : history.shape[1]] - history).square().mean(-1)
        counted = mask.expand(error.shape)
        if self.history_loss == "without_anchor":
            counted = counted & (torch.arange(history.shape[1], device=mask.device) > 0)[:, None]
        loss_history = (error * counted).sum() / counted.sum().clamp(min=1)
        loss_future = (predicted[:, history.shape[1] :] - future).square().mean()
        return {"loss": loss_history + loss_future, "loss_history": loss_history, "loss_future": loss_future}

    def rollout(self, history: LatentBatch, *, steps: int) -> LatentBatch:
        """Predict `steps` frames, `frameskip` video frames apart, K at a time from the last H frames."""
        window = history.latents[:, -self.clip.history :]
        predicted: list[Tensor] = []
        for _ in range(0, steps, self.clip.future):
            predicted.append(self.predictor.infer(window))
            window = torch.cat([window, predicted[-1]], dim=1)[:, -self.clip.history :]
        return LatentBatch(torch.cat(predicted, dim=1)[:, :steps], present=history.present)

    def mask(self, history: Tensor) -> Tensor:
        """Hidden cells for a batch of histories (B, H, N, D): (H, N), or (B, H, N) when drawn per sample."""
        frames, slots = history.shape[1:3]
        if self.mask_choice == "fixed":
            return self._fixed_mask.to(history.device)
        # Seeded from torch's generator, whose state the trainer keeps: a resumed run draws the same masks.
        rng = np.random.RandomState(int(torch.randint(2**31 - 1, ())))
        if self.mask_choice == "batch":
            return torch.from_numpy(self._draw(rng, frames, slots)).to(history.device)
        drawn = np.stack([self._draw(rng, frames, slots) for _ in range(history.shape[0])])
        return torch.from_numpy(drawn).to(history.device)

    @cached_property
    def _fixed_mask(self) -> Tensor:
        rng = np.random.RandomState(self.mask_seed)
        return torch.from_numpy(self._draw(rng, self.clip.history, self.spec.num_slots))

    def _draw(self, rng: np.random.RandomState, frames: int, slots: int) -> Mask:
        if self.mask_strategy == "token":
            return token_mask(rng, frames, slots, ratio=self.mask_ratio)
        if self.mask_strategy == "tube" and self.num_masked:
            return tube_mask(rng, frames, slots, ratio=self.mask_ratio, tubes=self.num_masked)
        count = int(rng.randint(self.num_masked + 1)) if self.mask_count == "uniform" else self.num_masked
        return object_mask(rng, frames, slots, count=count)


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise BenchError(f"method.{key}={value} is not known", f"Choose one of {', '.join(allowed)}.")
