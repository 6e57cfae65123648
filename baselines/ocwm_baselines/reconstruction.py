"""The image term of a slot loss: predicted slots, seen through the frozen decoder of the encoder that made the slots.

Baselines know no encoder. The decoder comes with the spec of the latents, where the encoder has one. Another one can be
named in the configuration: `method.decoder` is the dotted path of a callable that takes the file `method.decoder_weights`
and returns a module with `decode`.

Shape letters: B batch, K predicted frames, N slots, D slot dimension, h height, w width.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor, nn
from torch.nn import functional

from ocwm.errors import BenchError
from ocwm.types import LatentBatch, LatentSpec

_WITHOUT = "Or set method.image_loss=false, the variant without reconstruction."


@runtime_checkable
class SlotDecoder(Protocol):
    """What turns slots into images; an `nn.Module` besides."""

    def decode(self, slots: Tensor, /) -> Tensor:
        """Map slots (B, K, N, D) to images (B, K, 3, h, w) in the decoder's own range."""


class ImageLoss:
    """Mean square error of decoded slots against images. The decoder never trains and is no part of a checkpoint.

    Args:
        decoder: put in evaluation mode; its weights get no gradients, the slots do.

    Raises:
        BenchError: it is no module with `decode`.
    """

    def __init__(self, decoder: nn.Module) -> None:
        if not isinstance(decoder, nn.Module) or not isinstance(decoder, SlotDecoder):
            raise BenchError(
                f"{type(decoder).__name__} is no slot decoder", "method.decoder must give a module with decode(slots)."
            )
        self.decoder = decoder.eval().requires_grad_(requires_grad=False)

    def __call__(self, predicted_BKND: Tensor, images: Tensor | None) -> Tensor:
        """Compare the decoded slots with the images (B, K, 3, h, w) of the same frames, in the decoder's range.

        Raises:
            BenchError: there are no images, or they are of another size than the decoder's.
        """
        if images is None:
            raise BenchError("method.image_loss=true, but the training clips have no images", _WITHOUT)
        self.decoder.to(predicted_BKND.device)
        assert isinstance(self.decoder, SlotDecoder)
        decoded = self.decoder.decode(predicted_BKND)
        if decoded.shape != images.shape:
            raise BenchError(
                f"the decoder gives images {tuple(decoded.shape)}, the clips have {tuple(images.shape)}",
                "Use the decoder of the encoder that the clips were made with.",
            )
        return functional.mse_loss(decoded, images)


def rollout_loss(
    predicted: Tensor, batch: LatentBatch, image_loss: ImageLoss | None, *, image_loss_weight: float
) -> dict[str, Tensor]:
    """Mean square error of the predicted slots (B, K, N, D) against the last K frames of a clip, and its image term.

    Returns:
        "loss", "loss_slots", and "loss_images" where there is an image loss.
    """
    steps = predicted.shape[1]
    loss = loss_slots = functional.mse_loss(predicted, batch.latents[:, -steps:])
    parts = {"loss_slots": loss_slots}
    if image_loss is not None:
        parts["loss_images"] = image_loss(predicted, None if batch.images is None else batch.images[:, -steps:])
        loss = loss_slots + image_loss_weight * parts["loss_images"]
    return {"loss": loss, **parts}


def build_image_loss(
    spec: LatentSpec, *, image_loss: bool, decoder: str | None, decoder_weights: str | None
) -> ImageLoss | None:
    """Build the image term from a method's keys; None where it is off.

    Args:
        spec: of the latents, with the encoder's decoder.
        image_loss: whether there is one.
        decoder: dotted path of a callable `(path of the weights) -> decoder`; None takes the encoder's.
        decoder_weights: file of trained decoder weights.

    Raises:
        BenchError: a key or the file is missing, or the decoder can't be built.
    """
    if not image_loss:
        return None
    if not decoder and not decoder_weights:
        if spec.decoder is None:
            raise BenchError(
                "method.image_loss=true needs a frozen decoder of slots to images: the encoder has none, and "
                "method.decoder is not set",
                f"Choose an encoder that has one. {_WITHOUT}",
            )
        return ImageLoss(spec.decoder())
    for key, value in (("decoder", decoder), ("decoder_weights", decoder_weights)):
        if not value:
            raise BenchError(
                f"method.image_loss=true needs a trained, frozen decoder, and method.{key} is not set",
                f"Set method.decoder=package.module.callable and method.decoder_weights=FILE. {_WITHOUT}",
            )
    assert decoder is not None
    assert decoder_weights is not None
    weights = Path(decoder_weights).expanduser()
    if not weights.is_file():
        raise BenchError(f"no decoder weights at {weights}", f"Mend method.decoder_weights. {_WITHOUT}")
    module, _, name = decoder.rpartition(".")
    try:
        build = getattr(importlib.import_module(module), name) if module else None
    except (ImportError, AttributeError) as error:
        raise BenchError(f"method.decoder={decoder} can't be imported: {error}", "Mend the dotted path.") from error
    if not callable(build):
        raise BenchError(f"method.decoder={decoder} names nothing that can be called", "Mend the dotted path.")
    return ImageLoss(build(weights))
