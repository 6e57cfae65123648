"""A small transformer over the patches of one frame, trained by masked reconstruction (after arXiv 2111.06377, 2111.09886).

Shape letters: M images, P patches, D token width, E numbers of a patch, H, W height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class PatchNetwork(nn.Module):
    """Tokens of patches that hold what a patch looks like and where it is.

    Args:
        resolution: height and width of the input.
        patch: side of a patch in pixels; it divides both.
        dim: width D.
        depth: transformer blocks.
        heads: of a block; they divide `dim`.
    """

    places: Tensor

    def __init__(self, *, resolution: tuple[int, int], patch: int, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.patch = patch
        self.size = (resolution[0] // patch, resolution[1] // patch)
        numbers, patches = 3 * patch**2, self.size[0] * self.size[1]
        self.embed = nn.Linear(numbers, dim)
        self.masked = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, patches, dim) * 0.02)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, heads, 4 * dim, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.to_pixels = nn.Linear(dim, numbers)
        self.to_place = nn.Linear(dim, 2)
        rows, columns = (torch.linspace(-1, 1, length) for length in self.size)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        self.register_buffer("places", torch.stack([x, y], dim=-1).reshape(-1, 2), persistent=False)

    def cut(self, images_M3HW: Tensor) -> Tensor:
        """Cut images into patches (M, P, E), row by row."""
        return functional.unfold(images_M3HW, self.patch, stride=self.patch).transpose(1, 2)

    def tokens(self, images_M3HW: Tensor, hidden_MP: Tensor | None = None) -> Tensor:
        """Return the tokens (M, P, D) of images in [-1, 1]; hidden patches (M, P) are not looked at."""
        x_MPD = self.embed(self.cut(images_M3HW))
        if hidden_MP is not None:
            x_MPD = torch.where(hidden_MP[..., None], self.masked.to(x_MPD.dtype), x_MPD)
        x_MPD = x_MPD + self.positions
        for block in self.blocks:
            x_MPD = block(x_MPD)
        return self.norm(x_MPD)  # type: ignore[no-any-return]

    def losses(self, images_M3HW: Tensor, hidden_MP: Tensor) -> dict[str, Tensor]:
        """Return the mean square errors of masked reconstruction.

        Args:
            images_M3HW: in [-1, 1].
            hidden_MP: bool, the patches to hide; some are hidden and some are not.

        Returns:
            "hidden" (of hidden patches, from the others), "seen" (of the others, so that tokens keep what a patch looks
            like) and "place" (of the place that is read from a token, from -1 to 1).
        """
        tokens_MPD = self.tokens(images_M3HW, hidden_MP)
        errors_MP = (self.to_pixels(tokens_MPD).float() - self.cut(images_M3HW)).square().mean(dim=-1)
        place = (self.to_place(tokens_MPD).float() - self.places).square().mean()
        return {"hidden": errors_MP[hidden_MP].mean(), "seen": errors_MP[~hidden_MP].mean(), "place": place}
