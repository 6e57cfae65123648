"""Frames as the trainings of encoders keep them on disk.

Shape letters: T frames, H, W height and width.
"""

from __future__ import annotations

from torch import Tensor, float32, uint8
from torch.nn import functional

from ocwm_encoders.frames import Resize


def shrink(pixels_T3HW: Tensor, *, size: tuple[int, int], resize: Resize = "bilinear", antialias: bool) -> Tensor:
    """Resize frames (T, 3, H, W) uint8 to `size` and round to uint8; smaller frames stay as they are.

    The rounding is the one difference from resizing when a clip is read (1/255 of the range at most).
    """
    height, width = pixels_T3HW.shape[-2:]
    if (height, width) == tuple(size) or height * width <= size[0] * size[1]:
        return pixels_T3HW
    images = functional.interpolate(
        pixels_T3HW.to(float32), size=size, mode=resize, align_corners=False, antialias=antialias
    )
    return images.round().clamp(0, 255).to(uint8)
