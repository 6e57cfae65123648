"""Video frames as pixel encoders want them: checked, resized, normalised.

Shape letters: B batch, T time, H height, W width.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from ocwm.errors import BenchError
from ocwm.types import Observations

Normalisation = Literal["half", "imagenet"]
ChannelOrder = Literal["rgb", "bgr"]
Resize = Literal["bilinear", "bicubic"]

_MEAN_STD: dict[Normalisation, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def pixels_of(observations: Observations, encoder: str) -> Tensor:
    """Return the frames (B, T, 3, H, W) uint8 of some observations.

    Raises:
        BenchError: there are none, or they have another layout or type.
    """
    pixels = observations.pixels
    if pixels is None:
        raise BenchError(f"the encoder '{encoder}' needs frames, and the data has none", "Choose encoder=state.")
    if pixels.dim() != 5 or pixels.shape[2] != 3 or pixels.dtype is not torch.uint8:
        raise BenchError(
            f"the encoder '{encoder}' got frames of shape {tuple(pixels.shape)} and type {pixels.dtype}",
            "It wants (videos, frames, 3, height, width), uint8, RGB.",
        )
    if 0 in pixels.shape:
        raise BenchError(f"the encoder '{encoder}' got no frames: shape {tuple(pixels.shape)}", "Check the video.")
    return pixels


def prepare(
    pixels_BTCHW: Tensor,
    *,
    size: tuple[int, int],
    normalisation: Normalisation,
    resize: Resize = "bilinear",
    antialias: bool,
    channel_order: ChannelOrder = "rgb",
) -> Tensor:
    """Resize frames to `size` (the aspect ratio is not kept), then normalise them channel by channel.

    Args:
        pixels_BTCHW: (B, T, 3, H, W) uint8, RGB.
        size: height and width of the result.
        normalisation: "half" maps 0..255 to -1..1; "imagenet" takes ImageNet's mean and standard deviation.
        resize: bicubic values are clamped to 0..1 before the normalisation.
        antialias: low-pass filter when shrinking.
        channel_order: "bgr" swaps red and blue.

    Returns:
        (B, T, 3, *size) float32.

    Raises:
        BenchError: an unknown setting.
    """
    one_of("pixel_normalisation", normalisation, get_args(Normalisation))
    one_of("resize", resize, get_args(Resize))
    one_of("channel_order", channel_order, get_args(ChannelOrder))
    if channel_order == "bgr":
        pixels_BTCHW = pixels_BTCHW.flip(2)
    images = pixels_BTCHW.flatten(0, 1).to(torch.float32) / 255
    if tuple(images.shape[-2:]) != tuple(size):
        images = functional.interpolate(images, size=size, mode=resize, align_corners=False, antialias=antialias)
    if resize == "bicubic":
        images = images.clamp(0, 1)
    mean, std = (images.new_tensor(values)[:, None, None] for values in _MEAN_STD[normalisation])
    return ((images - mean) / std).view(*pixels_BTCHW.shape[:2], 3, *size)


def one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse an unknown value of the setting `encoder.<key>`.

    Raises:
        BenchError: naming the setting and what it can be.
    """
    if value not in allowed:
        raise BenchError(f"encoder.{key}={value} is not known", f"Choose one of {', '.join(allowed)}.")
