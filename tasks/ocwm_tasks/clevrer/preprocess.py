"""Video frames as the published pixel encoders want them.

Source: SAVi and SlotFormer (arXiv 2210.05861, appendix).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def preprocess(frames: Tensor, *, size: tuple[int, int] = (64, 64), antialias: bool = False) -> Tensor:
    """Scale frames to [-1, 1] and resize them bilinearly; the aspect ratio is not kept.

    Args:
        frames: (..., 3, H, W) uint8.
        size: height and width of the result.
        antialias: False is what SlotFormer's environment did (torchvision 0.11), True what torchvision does from 0.17
            on, which the SAVi weights released with C-JEPA have most likely seen.

    Returns:
        (..., 3, *size) float32.
    """
    scaled = (frames.to(torch.float32) / 255 - 0.5) / 0.5
    images = scaled.flatten(0, -4) if frames.dim() > 3 else scaled[None]
    resized = functional.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=antialias)
    return resized.view(*frames.shape[:-2], *size)
