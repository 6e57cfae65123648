"""OCVP-Seq and OCVP-Par as world models (arXiv 2302.11850).

Shape letters: B batch, T time, H history frames, K predicted frames, N slots, D slot dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from ocwm.attention import between_slots
from ocwm.errors import BenchError
from ocwm.interfaces import WorldModel
from ocwm.types import ClipSpec, LatentBatch, LatentSpec
from ocwm_baselines.ocvp_predictor import OCVPPredictor, ParallelLayer, SequentialLayer
from ocwm_baselines.reconstruction import build_image_loss, rollout_loss
from ocwm_baselines.transformer import check_sizes

Attention = Literal["sequential", "parallel"]


class OCVP(WorldModel):
    """Predicts slots frame by frame, with object attention and temporal attention kept apart.

    Args:
        spec: what the encoder produces.
        attention: "sequential" is OCVP-Seq (objects, then time), "parallel" is OCVP-Par (their sum).
        history_frames: observed frames H.
        pred_frames: frames K of a training rollout.
        frameskip: video frames between two latent frames.
        buffer_frames: newest frames that a prediction reads, at least H.
        width, depth, heads, mlp_dim, dropout: transformer sizes; a sequential layer has two of everything.
        residual: predict the change since the newest frame.
        teacher_forcing: feed true frames back in training, not predictions (published: false).
        skip_first_frame: leave out the first observed frame (of H, if there is more than one).
        image_loss: add the reconstruction error of the predicted slots.
        image_loss_weight: its weight; the slots have weight 1.
        decoder, decoder_weights: another frozen decoder than the encoder's, see `ocwm_baselines.reconstruction`.
    """

    version: ClassVar[int] = 1
    capabilities: ClassVar[frozenset[str]] = frozenset({"variable_slots", "permutation_equivariant"})

    def __init__(
        self,
        spec: LatentSpec,
        *,
        attention: Attention = "sequential",
        history_frames: int = 6,
        pred_frames: int = 10,
        frameskip: int = 2,
        buffer_frames: int = 6,
        width: int = 128,
        depth: int = 2,
        heads: int = 4,
        mlp_dim: int = 256,
        dropout: float = 0.1,
        residual: bool = True,
        teacher_forcing: bool = False,
        skip_first_frame: bool = False,
        image_loss: bool = False,
        image_loss_weight: float = 1.0,
        decoder: str | None = None,
        decoder_weights: str | None = None,
    ) -> None:
        super().__init__(spec)
        if attention not in get_args(Attention):
            known = " or ".join(get_args(Attention))
            raise BenchError(f"method.attention={attention} is not known", f"Choose {known}.")
        if buffer_frames < history_frames:
            raise BenchError(
                f"method.buffer_frames={buffer_frames} holds fewer than method.history_frames={history_frames} frames",
                f"Set it to {history_frames} or more.",
            )
        check_sizes(width=width, heads=heads, depth=depth)
        self.history_frames = history_frames
        self.pred_frames = pred_frames
        self.frameskip = frameskip
        self.teacher_forcing = teacher_forcing
        self.skip_first_frame = skip_first_frame
        self.image_loss_weight = image_loss_weight
        self.predictor = OCVPPredictor(
            spec.slot_dim,
            layer=SequentialLayer if attention == "sequential" else ParallelLayer,
            buffer_frames=buffer_frames,
            width=width,
            depth=depth,
            heads=heads,
            mlp_dim=mlp_dim,
            dropout=dropout,
            residual=residual,
        )
        # Built last: with and without it the same seed gives the same first weights.
        self.image_loss = build_image_loss(
            spec, image_loss=image_loss, decoder=decoder, decoder_weights=decoder_weights
        )

    @property
    def clip(self) -> ClipSpec:
        """History, future and stride of the training clips."""
        return ClipSpec(self.history_frames, self.pred_frames, self.frameskip)

    @property
    def wants_images(self) -> bool:
        """With an image loss."""
        return self.image_loss is not None

    def loss(self, batch: LatentBatch) -> dict[str, Tensor]:
        """Mean square error of a rollout from the history, a free one unless `teacher_forcing` is set.

        Args:
            batch: latents (B, H + K, N, D), with `images` where there is an image loss.

        Returns:
            "loss", "loss_slots", and "loss_images" where there is one.
        """
        history, future = torch.tensor_split(batch.latents, [self.history_frames], dim=1)
        predicted = self.predict(history, steps=self.pred_frames, truth=future if self.teacher_forcing else None)
        return rollout_loss(predicted, batch, self.image_loss, image_loss_weight=self.image_loss_weight)

    def predict(self, history: Tensor, *, steps: int, truth: Tensor | None = None) -> Tensor:
        """Predict (B, K, N, D) from the last H of the frames given; see `OCVPPredictor.unroll`."""
        context = history[:, -self.history_frames :]
        if self.skip_first_frame and context.shape[1] > 1:
            context = context[:, 1:]
        return self.predictor.unroll(context, steps=steps, truth=truth)

    def rollout(self, history: LatentBatch, *, steps: int) -> LatentBatch:
        """Predict `steps` frames, `frameskip` video frames apart."""
        return LatentBatch(self.predict(history.latents, steps=steps), present=history.present)

    def attention(self, history: LatentBatch) -> Tensor:
        """Attention between the objects of the newest frame, (B, N, N); attention over time stays within an object."""
        samples, slots = len(history.latents), history.latents.shape[2]
        first = 0 if isinstance(self.predictor.transformer_encoders[0], SequentialLayer) else 1

        def newest_objects(maps: Sequence[Tensor]) -> list[Tensor]:
            return [weights.view(samples, -1, *weights.shape[1:])[:, -1] for weights in maps[first::2]]

        return between_slots(
            lambda: self.rollout(history, steps=1), slots=slots, tokens=slots, queries=1, choose=newest_objects
        )
