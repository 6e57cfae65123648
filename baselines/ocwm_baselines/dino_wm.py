"""DINO-WM (arXiv 2411.04983) on patches, and OC-DINO-WM on slots (a baseline of arXiv 2602.11389).

One step ahead, teacher-forced: every frame of a window predicts the next one, in visual tokens and proprioception.

Shape letters: B batch, T time, H history frames, K predicted frames, N slots or patches, D slot dimension, A action
dimension, P proprioception dimension, F fused tokens of a frame, C width of a fused token.
"""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from ocwm.attention import between_slots
from ocwm.errors import BenchError
from ocwm.interfaces import WorldModel
from ocwm.types import ClipSpec, LatentBatch, LatentSpec
from ocwm_baselines.frame_causal_vit import FrameCausalViT

Fusion = Literal["channels", "tokens"]


class FrameEmbedding(nn.Module):
    """A linear embedding of what belongs to a frame (B, T, in) -> (B, T, out), stored as a convolution of width 1."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.patch_embed = nn.Conv1d(in_dim, out_dim, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Embed every frame by itself."""
        return functional.linear(x, self.patch_embed.weight[..., 0], self.patch_embed.bias)


class DinoWorldModel(WorldModel):
    """Predicts the next frame's tokens from at most H frames with a frame-causal transformer.

    Where a task has no actions or no proprioception, that part is left out of the tokens.

    Args:
        spec: what the encoder produces; `action_dim` is the width of all actions between two latent frames together.
        history_frames: frames H of a window.
        frameskip: video frames between two latent frames.
        fusion: "channels" appends the embeddings to every token of the frame; "tokens" makes a token of each, of the
            slots' width.
        action_embed_dim, proprio_embed_dim: widths of the embeddings under "channels".
        action_repeat, proprio_repeat: copies of each embedding under "channels".
        depth, heads, head_dim, mlp_dim, dropout: transformer sizes; heads * head_dim is free of the token width.
    """

    version: ClassVar[int] = 1
    # The position table knows each token by its place, so neither their number nor their order is free.
    capabilities: ClassVar[frozenset[str]] = frozenset({"actions", "proprio"})

    def __init__(
        self,
        spec: LatentSpec,
        *,
        history_frames: int = 3,
        frameskip: int = 5,
        fusion: Fusion = "channels",
        action_embed_dim: int = 10,
        proprio_embed_dim: int = 10,
        action_repeat: int = 1,
        proprio_repeat: int = 1,
        depth: int = 6,
        heads: int = 16,
        head_dim: int = 64,
        mlp_dim: int = 2048,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(spec)
        if fusion not in get_args(Fusion):
            raise BenchError(f"method.fusion={fusion} is not known", f"Choose {' or '.join(get_args(Fusion))}.")
        for key, value in (
            ("action_embed_dim", action_embed_dim),
            ("proprio_embed_dim", proprio_embed_dim),
            ("action_repeat", action_repeat),
            ("proprio_repeat", proprio_repeat),
            ("history_frames", history_frames),
        ):
            if value < 1:
                raise BenchError(f"method.{key}={value} is too small", "Choose 1 or more.")
        self.history_frames = history_frames
        self.frameskip = frameskip
        self.fusion = fusion
        as_tokens = fusion == "tokens"
        self.action_repeat = 1 if as_tokens else action_repeat
        self.proprio_repeat = 1 if as_tokens else proprio_repeat
        action_width = spec.slot_dim if as_tokens else action_embed_dim
        proprio_width = spec.slot_dim if as_tokens else proprio_embed_dim
        self.action_encoder = FrameEmbedding(spec.action_dim, action_width) if spec.action_dim else None
        self.proprio_encoder = FrameEmbedding(spec.proprio_dim, proprio_width) if spec.proprio_dim else None
        # What each part adds to a frame: channels of every token, or tokens.
        self._action_part = bool(spec.action_dim) * (1 if as_tokens else action_width * self.action_repeat)
        self._proprio_part = bool(spec.proprio_dim) * (1 if as_tokens else proprio_width * self.proprio_repeat)
        extra = self._action_part + self._proprio_part
        self.predictor = FrameCausalViT(
            tokens=spec.num_slots + (extra if as_tokens else 0),
            frames=history_frames,
            dim=spec.slot_dim + (0 if as_tokens else extra),
            depth=depth,
            heads=heads,
            head_dim=head_dim,
            mlp_dim=mlp_dim,
            dropout=dropout,
        )

    @property
    def clip(self) -> ClipSpec:
        """H frames and the one after them."""
        return ClipSpec(self.history_frames, 1, self.frameskip)

    def loss(self, batch: LatentBatch) -> dict[str, Tensor]:
        """Mean square error of the next frame of every frame, over all that is predicted; the action part is not.

        Args:
            batch: latents (B, H + 1, N, D), with actions (B, H + 1, A) and proprio (B, H + 1, P) where the task has them.
                The last frame's action has no influence.

        Returns:
            "loss", "loss_visual", and "loss_proprio" where there is proprioception.
        """
        fused = self.fuse(batch.latents, actions=batch.actions, proprio=batch.proprio)
        predicted, target = self.predictor.predict(fused[:, :-1]), fused[:, 1:].detach()
        axis = self._axis
        size = target.shape[axis] - self._action_part
        errors = (predicted - target).narrow(axis, 0, size).square()
        parts = {"loss_visual": errors.narrow(axis, 0, size - self._proprio_part).mean()}
        if self._proprio_part:
            parts["loss_proprio"] = errors.narrow(axis, size - self._proprio_part, self._proprio_part).mean()
        return {"loss": errors.mean(), **parts}

    def rollout(self, history: LatentBatch, *, steps: int) -> LatentBatch:
        """Predict `steps` frames, `frameskip` video frames apart.

        Args:
            history: latents and proprioception of H frames or fewer, and actions (B, H + K - 1 or more, A): action t leads
                from frame t to frame t + 1. Proprioception past the history is never read.
            steps: number K of frames.

        Returns:
            Latents (B, K, N, D); `proprio` holds predicted embeddings, comparable with `embed_proprio`.

        Raises:
            BenchError: actions or proprioception are missing.
        """
        observed = history.latents.shape[1]
        fused = self.unroll(history, steps=steps)
        visual, proprio, _ = self.split(fused[:, observed:])
        return LatentBatch(visual, present=history.present, proprio=proprio)

    def attention(self, history: LatentBatch) -> Tensor:
        """Attention of the newest frame's tokens, which the prediction is made from, (B, N, N)."""
        fused = self.fuse(history.latents, actions=history.actions, proprio=history.proprio)
        return between_slots(
            lambda: self.rollout(history, steps=1), slots=history.latents.shape[2], tokens=fused.shape[2], queries=1
        )

    def unroll(self, history: LatentBatch, *, steps: int) -> Tensor:
        """Fused tokens (B, H + K, F, C) of the history and the rollout; the last frame keeps its predicted action part."""
        observed = history.latents.shape[1]
        actions, proprio = history.actions, history.proprio
        if self.action_encoder is not None:
            needed = observed + steps - 1
            if actions is None or actions.shape[1] < needed:
                have = 0 if actions is None else actions.shape[1]
                raise BenchError(
                    f"a rollout of {steps} steps after {observed} frames reads {needed} actions, and there are {have}",
                    "Give the action of every frame but the last predicted one.",
                )
            actions = actions[:, :needed]
        fused = self.fuse(
            history.latents,
            actions=None if actions is None else actions[:, :observed],
            proprio=None if proprio is None else proprio[:, :observed],
        )
        frames = list(torch.split(fused, 1, dim=1))
        embedded = None if actions is None or self.action_encoder is None else self.action_encoder(actions)
        for step in range(steps):
            window = torch.cat(frames[-self.history_frames :], dim=1)
            newest = self.predictor.predict(window)[:, -1:]
            if embedded is not None and step < steps - 1:
                newest = self._with_action(newest, embedded[:, observed + step, None])
            frames.append(newest)
        return torch.cat(frames, dim=1)

    def fuse(self, latents: Tensor, *, actions: Tensor | None = None, proprio: Tensor | None = None) -> Tensor:
        """Fused tokens (B, T, F, C), in the order visual, proprioception, action.

        Raises:
            BenchError: another number of slots than the model was built for, or a part of it is not given.
        """
        if latents.shape[2] != self.spec.num_slots:
            raise BenchError(
                f"the latents have {latents.shape[2]} slots, and the model was built for {self.spec.num_slots}",
                "It has a position for each of them: fill absent slots up.",
            )
        parts = [latents]
        if self.proprio_encoder is not None:
            parts.append(self._spread(self.embed_proprio(proprio), latents, self.proprio_repeat))
        if self.action_encoder is not None:
            if actions is None:
                raise BenchError("this world model was built for actions, and the batch has none")
            parts.append(self._spread(self.action_encoder(actions), latents, self.action_repeat))
        return torch.cat(parts, dim=self._axis)

    def embed_proprio(self, proprio: Tensor | None) -> Tensor:
        """Embeddings (B, T, E) of proprioception (B, T, P): what a goal's proprioception is compared in.

        Raises:
            BenchError: there is none, or the model was built without.
        """
        if proprio is None or self.proprio_encoder is None:
            lacking = "the batch" if proprio is None else "the model"
            raise BenchError(f"proprioception is to be embedded, and {lacking} has none")
        return self.proprio_encoder(proprio)  # type: ignore[no-any-return]

    def split(self, fused: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Visual tokens (B, T, N, D), proprioception and action embeddings (B, T, E) of fused tokens.

        Under "channels" the embeddings are read from the first token and the first copy.
        """
        visual = fused.shape[self._axis] - self._proprio_part - self._action_part
        parts = torch.split(fused, [visual, self._proprio_part, self._action_part], dim=self._axis)
        proprio = parts[1][:, :, 0] if self.proprio_encoder is not None else None
        action = parts[2][:, :, 0] if self.action_encoder is not None else None
        if proprio is not None:
            proprio = proprio[..., : proprio.shape[-1] // self.proprio_repeat]
        if action is not None:
            action = action[..., : action.shape[-1] // self.action_repeat]
        return parts[0], proprio, action

    @property
    def _axis(self) -> int:
        """The axis of (B, T, F, C) that the parts stand side by side on."""
        return 2 if self.fusion == "tokens" else 3

    def _spread(self, embedded: Tensor, latents: Tensor, repeat: int) -> Tensor:
        """Embeddings (B, T, E) as one token a frame, or as the same channels of every token."""
        token = embedded[:, :, None]
        return token if self.fusion == "tokens" else token.repeat(1, 1, latents.shape[2], repeat)

    def _with_action(self, fused: Tensor, embedded: Tensor) -> Tensor:
        """Replace the action part of fused tokens (B, T, F, C) by embeddings (B, T, E)."""
        kept = fused.narrow(self._axis, 0, fused.shape[self._axis] - self._action_part)
        return torch.cat([kept, self._spread(embedded, fused, self.action_repeat)], dim=self._axis)
