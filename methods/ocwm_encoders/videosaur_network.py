"""VideoSAUR (arXiv 2306.04829) as C-JEPA uses it: DINOv2 features, recurrent slots, two losses.

Parameter names are those of the published checkpoints, the backbone's in the form of transformers 4, whichever version
is installed.

Shape letters: B batch, T time, M images, P patches, N slots, D slot dimension, E width of the backbone's features,
H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ocwm.errors import BenchError
from ocwm_encoders.backbone import build_backbone, features_and_keys, patch_tokens, published, rename
from ocwm_encoders.videosaur_modules import Initialiser, Processor, SlotMixer, SlotStates

Part = TypeVar("Part", bound=nn.Module)


@dataclass(frozen=True)
class Similarity:
    """Settings of the temporal similarity loss.

    Attributes:
        weight: of the loss.
        temperature: of the target's softmax.
        threshold: cosines below it count as no similarity at all; None counts all.
        shift: frames from a patch to the frame that it is looked for in.
    """

    weight: float = 0.3
    temperature: float = 0.15
    threshold: float | None = 0.0
    shift: int = 1


class OutputTransform(nn.Module):
    """Layer norm and a feed-forward from backbone features to slot width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(inputs), nn.Linear(inputs, 2 * inputs), nn.ReLU(), nn.Linear(2 * inputs, outputs)
        )

    def forward(self, features_MPE: Tensor) -> Tensor:
        """Map (M, P, E) to (M, P, D)."""
        return self.layers(features_MPE)  # type: ignore[no-any-return]


class FrameEncoder(nn.Module):
    """The frozen backbone and the trained transform of its features."""

    def __init__(self, backbone: nn.Module, feature_dim: int, slot_dim: int) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.output_transform = OutputTransform(feature_dim, slot_dim)
        self.register_load_state_dict_pre_hook(_rename_on_load)  # type: ignore[no-untyped-call]
        self.register_state_dict_post_hook(_rename_on_save)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> FrameEncoder:
        """Switch to training; the backbone stays as it is used."""
        super().train(mode)
        self.backbone.eval()
        return self

    def features(self, images_MCHW: Tensor) -> Tensor:
        """Return backbone features (M, P, E) of images (M, 3, H, W), without gradient."""
        with torch.no_grad():
            return patch_tokens(self.backbone(images_MCHW).last_hidden_state, self.backbone)

    def features_and_keys(self, images_MCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return backbone features and last-block keys, (M, P, E) each, without gradient."""
        with torch.no_grad():
            return features_and_keys(self.backbone, images_MCHW)


class Wrapped(nn.Module, Generic[Part]):
    """Holds a part under the name that published checkpoints have for it: `encoder.module` and so on."""

    module: Part

    def __init__(self, module: Part) -> None:
        super().__init__()
        self.module = module


class VideoSAUR(nn.Module):
    """Slots of videos, trained to decode the features of their frames and where each patch goes next.

    Args:
        backbone: a DINOv2, or the sizes of one to be built untrained.
        slot_dim: width D.
        patches: patches P of a frame, which the decoder's positions are for; None leaves the decoder out.
        predictor_heads, first_iterations, iterations: see `Processor`.
        decoder_heads, decoder_blocks, renderer_dim: see `SlotMixer`.
        similarity: settings of the similarity loss.

    Raises:
        BenchError: heads that do not divide the slot width.
    """

    def __init__(
        self,
        backbone: nn.Module | Mapping[str, Any],
        *,
        slot_dim: int = 128,
        patches: int | None = 196,
        predictor_heads: int = 4,
        first_iterations: int = 3,
        iterations: int = 2,
        decoder_heads: int = 4,
        decoder_blocks: int = 3,
        renderer_dim: int = 1024,
        similarity: Similarity = Similarity(),
    ) -> None:
        super().__init__()
        for key, heads in (("predictor_heads", predictor_heads), ("decoder_heads", decoder_heads)):
            if slot_dim % heads:
                raise BenchError(
                    f"encoder.{key}={heads} does not divide encoder.slot_dim={slot_dim}", "Choose heads that divide it."
                )
        self.slot_dim = slot_dim
        self.similarity = similarity
        network = backbone if isinstance(backbone, nn.Module) else build_backbone(backbone)
        self.feature_dim = int(network.config.hidden_size)  # type: ignore[union-attr,arg-type]
        self.initializer = Initialiser(slot_dim)
        self.encoder = Wrapped(FrameEncoder(network, self.feature_dim, slot_dim))
        self.processor = Wrapped(
            Processor(slot_dim, heads=predictor_heads, first_iterations=first_iterations, iterations=iterations)
        )
        self.decoder: Wrapped[SlotMixer] | None = None
        if patches is not None:
            mixer = SlotMixer(
                slot_dim,
                patches=patches,
                outputs=self.feature_dim + patches,
                heads=decoder_heads,
                blocks=decoder_blocks,
                renderer_dim=renderer_dim,
            )
            self.decoder = Wrapped(mixer)

    def encode(self, images_BTCHW: Tensor, slots_BND: Tensor, *, first: bool = True) -> SlotStates:
        """Encode frames in order.

        Args:
            images_BTCHW: (B, T, 3, H, W), normalised.
            slots_BND: (B, N, D) start of the first of these frames, any N: `initializer` of noise, or the last
                `predicted` of an earlier call.
            first: whether that frame is a video's first one.
        """
        features = self.encoder.module.features(images_BTCHW.flatten(0, 1))
        return self.follow(_in_time(features, images_BTCHW), slots_BND, first=first)

    def follow(self, features_BTPE: Tensor, slots_BND: Tensor, *, first: bool = True) -> SlotStates:
        """Like `encode`, from backbone features (B, T, P, E)."""
        return self.processor.module(self.encoder.module.output_transform(features_BTPE), slots_BND, first=first)  # type: ignore[no-any-return]

    def decode(self, slots_BTND: Tensor) -> tuple[Tensor, Tensor]:
        """Decode slots (B, T, N, D): features then similarity logits (B, T, P, E + P), and masks (B, T, N, P).

        Raises:
            BenchError: there is no decoder.
        """
        if self.decoder is None:
            raise BenchError("this VideoSAUR has no decoder", "Set encoder.with_decoder=true.")
        decoded, masks = self.decoder.module(slots_BTND.flatten(0, 1))
        return _in_time(decoded, slots_BTND), _in_time(masks, slots_BTND)

    def loss(self, images_BTCHW: Tensor, *, noise: Tensor) -> dict[str, Tensor]:
        """Training loss of clips.

        Args:
            images_BTCHW: (B, T, 3, H, W), normalised, T at least 2.
            noise: (B, N, D) standard normal numbers for the initial slots.

        Returns:
            "loss", "loss_featrec" and "loss_timesim".
        """
        features, keys = self.encoder.module.features_and_keys(images_BTCHW.flatten(0, 1))
        features_BTPE, keys_BTPE = _in_time(features, images_BTCHW), _in_time(keys, images_BTCHW)
        states = self.follow(features_BTPE, self.initializer(noise))
        return losses(self.decode(states.state)[0], features_BTPE, keys_BTPE, self.similarity)


def similarity_target(keys_BTPE: Tensor, settings: Similarity) -> Tensor:
    """Where each patch goes: a distribution over the patches of a later frame.

    Args:
        keys_BTPE: (B, T, P, E) attention keys.
        settings: temperature, threshold and shift.

    Returns:
        (B, T - shift, P, P); a patch that is like none of them gets a uniform row.
    """
    unit = functional.normalize(keys_BTPE, dim=-1)
    cosine = unit[:, : -settings.shift] @ unit[:, settings.shift :].transpose(-1, -2)
    if settings.threshold is not None:
        unlike = cosine < settings.threshold
        cosine = cosine.masked_fill(unlike, -torch.inf).masked_fill(unlike.all(dim=-1, keepdim=True), 0.0)
    return (cosine / settings.temperature).softmax(dim=-1)


def losses(decoded_BTPX: Tensor, features_BTPE: Tensor, keys_BTPE: Tensor, settings: Similarity) -> dict[str, Tensor]:
    """Feature reconstruction and temporal similarity.

    Args:
        decoded_BTPX: (B, T, P, E + P), features then similarity logits; the logits of the last frames are not used.
        features_BTPE: (B, T, P, E) of the backbone.
        keys_BTPE: (B, T, P, any width) of the backbone's last block.
        settings: of the similarity loss.

    Returns:
        "loss" = "loss_featrec" (mean square error) + weight * "loss_timesim" (cross-entropy, mean over patches).
    """
    width = features_BTPE.shape[-1]
    reconstruction = functional.mse_loss(decoded_BTPX[..., :width], features_BTPE)
    logits = decoded_BTPX[:, : -settings.shift, :, width:]
    similarity = -(similarity_target(keys_BTPE, settings) * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
    total = reconstruction + settings.weight * similarity
    return {"loss": total, "loss_featrec": reconstruction, "loss_timesim": similarity}


def _in_time(flat: Tensor, like: Tensor) -> Tensor:
    """Undo the flattening of batch and time."""
    return flat.reshape(*like.shape[:2], *flat.shape[1:])


def _rename_on_load(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Give the backbone's published names the form that the installed transformers has."""
    assert isinstance(module, FrameEncoder)
    place = f"{prefix}backbone."
    names = [name.removeprefix(place) for name in state if name.startswith(place)]
    known = [name for name, _ in module.backbone.named_parameters()]
    for old, new in rename(names, known=known).items():
        state[place + new] = state.pop(place + old)


def _rename_on_save(_module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    place = f"{prefix}backbone."
    for name in [name for name in state if name.startswith(place)]:
        state[place + published(name.removeprefix(place))] = state.pop(name)
