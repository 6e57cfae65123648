"""C-JEPA: object-level latent masking (arXiv 2602.11389); OC-JEPA is the same model with no object masked.

Defaults are the released code; where the paper says otherwise a switch gives its wording (docs/fidelity.md).

Shape letters: B batch, T time, H history frames, K predicted frames, N slots, D slot dimension, A action dimension,
P proprioception dimension, E width of an embedding, M nodes of a frame, C width of a node.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ocwm.attention import between_slots
from ocwm.data_parallel import common_draw, draw_rows, weighted
from ocwm.errors import BenchError
from ocwm.interfaces import WorldModel
from ocwm.matching import distances, match, reorder
from ocwm.types import ClipSpec, LatentBatch, LatentSpec
from ocwm_methods.conditioning import Conditioning, FrameEmbedding, Layout, embed
from ocwm_methods.masking import Mask, object_mask, token_mask, tube_mask
from ocwm_methods.predictor import MaskedSlotPredictor

MaskStrategy = Literal["object", "token", "tube"]
MaskChoice = Literal["fixed", "batch", "sample"]
MaskCount = Literal["fixed", "uniform"]
HistoryLoss = Literal["with_anchor", "without_anchor"]
FutureMatching = Literal["none", "mse", "cosine"]


class CJEPA(WorldModel):
    """Predicts the future slots, and in training also hidden slots of the history, from the visible ones.

    Where a task has actions or proprioception, they stand beside the slots of every frame; where it has not, that part is
    left out.

    Args:
        spec: what the encoder produces; `action_dim` is the width of all actions between two latent frames together.
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
        conditioning: proprioception and action are two more "nodes" of a frame, never hidden, or are appended to every
            slot's channels ("concat").
        action_embed_dim, proprio_embed_dim: widths of the embeddings under "concat"; a node has the slots' width.
        future_matching: compare future slots in their order ("none"), or matched to the true ones by squared distance or
            by "cosine", which is then the loss as well.
    """

    version: ClassVar[int] = 1
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"actions", "proprio", "variable_slots", "permutation_equivariant"}
    )

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
        conditioning: Conditioning = "nodes",
        action_embed_dim: int = 16,
        proprio_embed_dim: int = 16,
        future_matching: FutureMatching = "none",
    ) -> None:
        super().__init__(spec)
        _one_of("mask_strategy", mask_strategy, get_args(MaskStrategy))
        _one_of("mask_choice", mask_choice, get_args(MaskChoice))
        _one_of("mask_count", mask_count, get_args(MaskCount))
        _one_of("history_loss", history_loss, get_args(HistoryLoss))
        _one_of("conditioning", conditioning, get_args(Conditioning))
        _one_of("future_matching", future_matching, get_args(FutureMatching))
        as_nodes = conditioning == "nodes"
        action_width = spec.slot_dim if as_nodes else action_embed_dim
        proprio_width = spec.slot_dim if as_nodes else proprio_embed_dim
        for key, value in (("action_embed_dim", action_embed_dim), ("proprio_embed_dim", proprio_embed_dim)):
            if value < 1:
                raise BenchError(f"method.{key}={value} is too small", "Choose 1 or more.")
        layout = Layout(
            conditioning,
            proprio=proprio_width if spec.proprio_dim else 0,
            action=action_width if spec.action_dim else 0,
        )
        width = spec.slot_dim + layout.channels
        if width % heads:
            what = "slot width" if not layout.channels else "width of slots and embeddings"
            raise BenchError(
                f"method.heads={heads} does not divide the {what} {width}",
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
        self.future_matching = future_matching
        self.layout = layout
        self.predictor = MaskedSlotPredictor(
            width,
            history_frames=history_frames,
            pred_frames=pred_frames,
            depth=depth,
            heads=heads,
            mlp_dim=mlp_dim,
            dropout=dropout,
            extra_mask_token=extra_mask_token,
        )
        self.action_encoder = FrameEmbedding(spec.action_dim, action_width) if spec.action_dim else None
        self.proprio_encoder = FrameEmbedding(spec.proprio_dim, proprio_width) if spec.proprio_dim else None

    @property
    def clip(self) -> ClipSpec:
        """History, future and stride of the training clips."""
        return ClipSpec(self.predictor.history_frames, self.predictor.pred_frames, self.frameskip)

    def loss(self, batch: LatentBatch) -> dict[str, Tensor]:
        """Mean square error of the hidden history plus that of the future, each a mean over its elements.

        Proprioception of the future is predicted too, in its embedding, which gives no gradient as a target. Actions are
        not; those of the future have no influence.

        Args:
            batch: latents (B, H + K, N, D), with actions (B, H + K, A) and proprio (B, H + K, P) where the task has them.
                Padding slots are slots like any other, as published.

        Returns:
            "loss", "loss_history" (0 where nothing is hidden), "loss_future", and "loss_proprio" where there is
            proprioception.

        Raises:
            BenchError: actions or proprioception are missing.
        """
        nodes = self.nodes(batch.latents, actions=batch.actions, proprio=batch.proprio)
        history, future = torch.tensor_split(nodes, [self.clip.history], dim=1)
        mask = self.mask(batch.latents[:, : self.clip.history])
        predicted = self.predictor(history, functional.pad(mask, (0, self.layout.extra_nodes)))
        return self.losses(predicted, history, future, mask)

    def losses(self, predicted: Tensor, history: Tensor, future: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Loss terms of a predicted window of nodes (B, H + K, M, C) under `mask` (H, N) or (B, H, N)."""
        frames = history.shape[1]
        slots, proprio, _ = self.layout.split(predicted)
        true_slots, true_proprio, _ = self.layout.split(future.detach())
        error = (slots[:, :frames] - self.layout.split(history)[0]).square().mean(-1)
        counted = mask.expand(error.shape)
        if self.history_loss == "without_anchor":
            counted = counted & (torch.arange(frames, device=mask.device) > 0)[:, None]
        hidden = counted.sum()
        loss_history = (error * counted).sum() / hidden.clamp(min=1)
        if mask.ndim == 3:  # samples may hide different numbers of cells
            loss_history = weighted(loss_history, hidden)
        loss_future = self._future_loss(slots[:, frames:], true_slots)
        parts = {"loss": loss_history + loss_future, "loss_history": loss_history, "loss_future": loss_future}
        if self.proprio_encoder is None:
            return parts
        loss_proprio = (proprio[:, frames:] - true_proprio).square().mean()
        return {**parts, "loss": parts["loss"] + loss_proprio, "loss_proprio": loss_proprio}

    def _future_loss(self, slots: Tensor, truth: Tensor) -> Tensor:
        if self.future_matching == "none":
            return (slots - truth).square().mean()
        order = match(slots, truth, distance=self.future_matching)
        matched = distances(reorder(slots, order), truth, distance=self.future_matching).mean()
        # Published: a sum over the channels of a slot where embeddings are nodes, a mean where they are channels.
        per_channel = self.layout.conditioning == "concat" and self.future_matching == "mse"
        return matched / slots.shape[-1] if per_channel else matched

    def rollout(self, history: LatentBatch, *, steps: int) -> LatentBatch:
        """Predict `steps` frames, `frameskip` video frames apart, K at a time from the last H frames.

        Args:
            history: latents and proprioception of any number of frames, of which the last H are read, and actions
                (B, frames + steps - 1 or more, A): action t leads from frame t to frame t + 1. Proprioception past the
                history is never read.
            steps: number of frames.

        Returns:
            Latents (B, steps, N, D); `proprio` holds predicted embeddings, comparable with `embed_proprio`.

        Raises:
            BenchError: actions or proprioception are missing.
        """
        if self.action_encoder is not None or self.proprio_encoder is not None:
            predicted = self.unroll(history, steps=steps)[:, history.latents.shape[1] :]
            slots, proprio, _ = self.layout.split(predicted)
            return LatentBatch(
                slots, present=history.present, proprio=proprio[:, :, 0] if self.proprio_encoder is not None else None
            )
        window = history.latents[:, -self.clip.history :]
        predictions: list[Tensor] = []
        for _ in range(0, steps, self.clip.future):
            predictions.append(self.predictor.infer(window))
            window = torch.cat([window, predictions[-1]], dim=1)[:, -self.clip.history :]
        return LatentBatch(torch.cat(predictions, dim=1)[:, :steps], present=history.present)

    def attention(self, history: LatentBatch) -> Tensor:
        """Attention of the predicted slots (B, N, N) in one call, to the visible tokens and queries of each slot."""
        slots, extra = history.latents.shape[2], self.layout.extra_nodes
        queries = self.clip.future if extra == 0 else 1
        return between_slots(lambda: self.rollout(history, steps=1), slots=slots, tokens=slots + extra, queries=queries)

    def unroll(self, history: LatentBatch, *, steps: int) -> Tensor:
        """Nodes (B, frames + steps, M, C) of a history and its rollout under actions, as published for planning.

        Every call's slots are matched to those of the frame before it. The last frame has a call of its own, and keeps its
        predicted action node.
        """
        observed, last = history.latents.shape[1], steps - 1
        actions, proprio = history.actions, history.proprio
        if self.action_encoder is not None and (actions is None or actions.shape[1] < observed + last):
            have = 0 if actions is None else actions.shape[1]
            raise BenchError(
                f"a rollout of {steps} steps after {observed} frames reads {observed + last} actions, and there are {have}",
                "Give the action of every frame but the last predicted one.",
            )
        nodes = self.nodes(
            history.latents,
            actions=None if actions is None else actions[:, :observed],
            proprio=None if proprio is None else proprio[:, :observed],
        )
        embedded = embed(self.action_encoder, actions, "actions")
        done = 0
        while done < steps:
            count = min(self.clip.future, last - done) if done < last else 1
            newest = self._next(nodes)[:, :count]
            if embedded is not None and done < last:
                newest = self.layout.replace_action(newest, embedded[:, observed + done : observed + done + count])
            nodes = torch.cat([nodes, newest], dim=1)
            done += count
        return nodes

    def _next(self, nodes: Tensor) -> Tensor:
        """The K frames after nodes (B, T, M, C), their slots in the order of the last frame's."""
        predicted = self.predictor.infer(nodes[:, -self.clip.history :])
        before, after = (self.layout.split(frame)[0][:, 0] for frame in (nodes[:, -1:], predicted[:, :1]))
        return self.layout.reorder(predicted, match(after, before))

    def nodes(self, latents: Tensor, *, actions: Tensor | None = None, proprio: Tensor | None = None) -> Tensor:
        """Nodes (B, T, M, C) of slots (B, T, N, D), proprioception (B, T, P) and actions (B, T, A).

        Raises:
            BenchError: a part that the model was built for is not given.
        """
        return self.layout.join(
            latents,
            proprio=embed(self.proprio_encoder, proprio, "proprioception"),
            action=embed(self.action_encoder, actions, "actions"),
        )

    def embed_proprio(self, proprio: Tensor) -> Tensor:
        """Embeddings (B, T, E) of proprioception (B, T, P): what a goal's proprioception is compared in.

        Raises:
            BenchError: the model was built without.
        """
        if self.proprio_encoder is None:
            raise BenchError("proprioception is to be embedded, and the model has none")
        return self.proprio_encoder(proprio)  # type: ignore[no-any-return]

    def mask(self, history: Tensor) -> Tensor:
        """Hidden cells for a batch of histories (B, H, N, D): (H, N), or (B, H, N) when drawn per sample."""
        frames, slots = history.shape[1:3]
        if self.mask_choice == "fixed":
            return self._fixed_mask.to(history.device)

        def draw(count: int) -> Tensor:
            # Seeded from torch's generator, whose state the trainer keeps: a resumed run draws the same masks.
            rng = np.random.RandomState(int(torch.randint(2**31 - 1, ())))
            return torch.from_numpy(np.stack([self._draw(rng, frames, slots) for _ in range(count)]))

        if self.mask_choice == "batch":
            return common_draw(lambda: draw(1)[0]).to(history.device)
        return draw_rows(history.shape[0], draw).to(history.device)

    @cached_property
    def _fixed_mask(self) -> Tensor:
        rng = np.random.RandomState(self.mask_seed)
        return torch.from_numpy(self._draw(rng, self.clip.history, self.spec.num_slots))

    def _draw(self, rng: np.random.RandomState, frames: int, slots: int) -> Mask:
        if self.mask_strategy == "token":
            return token_mask(rng, frames, slots, ratio=self.mask_ratio)
        if self.mask_strategy == "tube" and self.num_masked:
            beside = bool(self.layout.extra_nodes)
            return tube_mask(rng, frames, slots, ratio=self.mask_ratio, tubes=self.num_masked, narrower=beside)
        count = int(rng.randint(self.num_masked + 1)) if self.mask_count == "uniform" else self.num_masked
        return object_mask(rng, frames, slots, count=count)


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise BenchError(f"method.{key}={value} is not known", f"Choose one of {', '.join(allowed)}.")
