"""SlotFormer: an autoregressive transformer over slots (arXiv 2210.05861).

Every step encodes the window of the last frames from scratch and predicts the next one; in training, gradients flow
through the whole rollout. Parameter names below `rollouter` are those of the published checkpoints.

Shape letters: B batch, T time, L frames of a window, H history frames, K predicted frames, N slots, D slot dimension,
C transformer width.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ocwm.attention import between_slots
from ocwm.interfaces import WorldModel
from ocwm.types import ClipSpec, LatentBatch, LatentSpec
from ocwm_baselines.reconstruction import build_image_loss, rollout_loss
from ocwm_baselines.transformer import Stack, check_sizes, phases


def backward_time_table(frames: int, width: int) -> Tensor:
    """Sine table (1, L, C) that counts back from the newest frame, which is 0: first all sines, then all cosines."""
    angles = phases(torch.arange(frames - 1, -1, -1), width)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[None]


class Rollouter(nn.Module):
    """Predicts the next frame from the window of the last ones, again and again.

    Args:
        slot_dim: width D of a slot.
        history_frames: frames H of a full window.
        width, depth, heads, mlp_dim, dropout: transformer sizes.
    """

    def __init__(
        self,
        slot_dim: int,
        *,
        history_frames: int,
        width: int,
        depth: int,
        heads: int,
        mlp_dim: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.history_frames = history_frames
        self.enc_t_pe = nn.Parameter(backward_time_table(history_frames, width), requires_grad=False)
        self.in_proj = nn.Linear(slot_dim, width)
        self.transformer_encoder = Stack(width, depth, heads, mlp_dim, dropout)
        self.out_proj = nn.Linear(width, slot_dim)

    def forward(self, history_BHND: Tensor, *, steps: int) -> Tensor:
        """Predict `steps` frames (B, K, N, D) from the last H of the given ones.

        A shorter history takes the rows of the newest frames and grows to H.
        """
        # Nothing but this projection can be kept from step to step: every frame's time changes as the window moves on.
        window_BLNC = self.in_proj(history_BHND[:, -self.history_frames :])
        predicted = []
        for _ in range(steps):
            predicted.append(self.next(window_BLNC))
            window_BLNC = torch.cat([window_BLNC, self.in_proj(predicted[-1])], dim=1)[:, -self.history_frames :]
        return torch.cat(predicted, dim=1)

    def next(self, window_BLNC: Tensor) -> Tensor:
        """Predict the next frame (B, 1, N, D) from projected frames."""
        length, slots = window_BLNC.shape[1:3]
        tokens = window_BLNC + self.enc_t_pe[:, -length:, None]
        newest_BNC = self.transformer_encoder(tokens.flatten(1, 2), last=slots)
        return self.out_proj(newest_BNC)[:, None]  # type: ignore[no-any-return]


class SlotFormer(WorldModel):
    """Predicts slots frame by frame from the last H frames of slots; there is no residual on the previous slots.

    Args:
        spec: what the encoder produces.
        history_frames: observed frames H, and the window of the transformer.
        pred_frames: frames K of a training rollout.
        frameskip: video frames between two latent frames.
        width, depth, heads, mlp_dim, dropout: transformer sizes.
        image_loss: add the reconstruction error of the predicted slots (published); without it this is the variant
            "without reconstruction".
        image_loss_weight: its weight; the slots have weight 1.
        decoder, decoder_weights: another frozen decoder than the encoder's, see `ocwm_baselines.reconstruction`.
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
        width: int = 256,
        depth: int = 4,
        heads: int = 8,
        mlp_dim: int = 1024,
        dropout: float = 0.1,
        image_loss: bool = False,
        image_loss_weight: float = 1.0,
        decoder: str | None = None,
        decoder_weights: str | None = None,
    ) -> None:
        super().__init__(spec)
        check_sizes(width=width, heads=heads, depth=depth)
        self.pred_frames = pred_frames
        self.frameskip = frameskip
        self.image_loss_weight = image_loss_weight
        self.rollouter = Rollouter(
            spec.slot_dim,
            history_frames=history_frames,
            width=width,
            depth=depth,
            heads=heads,
            mlp_dim=mlp_dim,
            dropout=dropout,
        )
        # Built last: with and without it the same seed gives the same first weights.
        self.image_loss = build_image_loss(
            spec, image_loss=image_loss, decoder=decoder, decoder_weights=decoder_weights
        )

    @property
    def clip(self) -> ClipSpec:
        """History, future and stride of the training clips."""
        return ClipSpec(self.rollouter.history_frames, self.pred_frames, self.frameskip)

    @property
    def wants_images(self) -> bool:
        """With an image loss."""
        return self.image_loss is not None

    def loss(self, batch: LatentBatch) -> dict[str, Tensor]:
        """Mean square error of a free rollout from the history.

        Args:
            batch: latents (B, H + K, N, D), with `images` where there is an image loss.

        Returns:
            "loss", "loss_slots", and "loss_images" where there is one.
        """
        history = batch.latents[:, : self.clip.history]
        predicted = self.rollouter(history, steps=self.pred_frames)
        return rollout_loss(predicted, batch, self.image_loss, image_loss_weight=self.image_loss_weight)

    def rollout(self, history: LatentBatch, *, steps: int) -> LatentBatch:
        """Predict `steps` frames, `frameskip` video frames apart, each from the last H frames."""
        return LatentBatch(self.rollouter(history.latents, steps=steps), present=history.present)

    def attention(self, history: LatentBatch) -> Tensor:
        """Attention of the newest frame's tokens, which the prediction is made from, (B, N, N)."""
        slots = history.latents.shape[2]
        return between_slots(lambda: self.rollout(history, steps=1), slots=slots, tokens=slots, queries=1)
