"""Actions and proprioception beside the slots of a frame: as nodes of their own, or as channels of every slot.

Shape letters: B batch, T time, N slots, D slot dimension, M nodes of a frame, C width of a node, E width of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ocwm.errors import BenchError
from ocwm.matching import reorder

Conditioning = Literal["nodes", "concat"]


class FrameEmbedding(nn.Module):
    """A linear embedding of what belongs to a frame (B, T, in) -> (B, T, E), stored as a convolution of width 1.

    What is missing in the data (NaN) is 0.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.patch_embed = nn.Conv1d(in_dim, out_dim, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Embed every frame by itself."""
        return functional.linear(x.nan_to_num(nan=0.0), self.patch_embed.weight[..., 0], self.patch_embed.bias)


@dataclass(frozen=True)
class Layout:
    """Where slots, proprioception and action, in this order, stand in the nodes (B, T, M, C) of a frame.

    Attributes:
        conditioning: "nodes" gives M = N + 2 nodes of width D; "concat" repeats the embeddings on the N slots.
        proprio, action: width E of each embedding, 0 where the task has none.
    """

    conditioning: Conditioning
    proprio: int
    action: int

    @property
    def channels(self) -> int:
        """What the embeddings add to the width of a node."""
        return self.proprio + self.action if self.conditioning == "concat" else 0

    @property
    def extra_nodes(self) -> int:
        """How many nodes there are besides the slots."""
        return 0 if self.conditioning == "concat" else bool(self.proprio) + bool(self.action)

    def join(self, latents: Tensor, *, proprio: Tensor | None, action: Tensor | None) -> Tensor:
        """Put slots (B, T, N, D) and embeddings (B, T, E) together: (B, T, M, C)."""
        parts = [self._spread(part, latents.shape[2]) for part in (proprio, action) if part is not None]
        return torch.cat([latents, *parts], dim=self._axis) if parts else latents

    def split(self, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take nodes (B, T, M, C) apart: slots (B, T, N, D), proprioception and action (B, T, 1 or N, E).

        What the task does not have comes back empty on the axis of the parts.
        """
        proprio, action = self._sizes
        sizes = [nodes.shape[self._axis] - proprio - action, proprio, action]
        parts = torch.split(nodes, sizes, dim=self._axis)
        return parts[0], parts[1], parts[2]

    def replace_action(self, nodes: Tensor, action: Tensor) -> Tensor:
        """Put embeddings (B, T, E) where the action stands in nodes (B, T, M, C)."""
        kept = nodes.narrow(self._axis, 0, nodes.shape[self._axis] - self._sizes[1])
        return torch.cat([kept, self._spread(action, nodes.shape[2])], dim=self._axis)

    def reorder(self, nodes: Tensor, order: Tensor) -> Tensor:
        """Put the slots of nodes (B, T, M, C) in another order (B, N), with all of their channels, the same at every T."""
        slots, rest = torch.tensor_split(nodes, [order.shape[-1]], dim=2)
        return torch.cat([reorder(slots, order[:, None].expand(-1, nodes.shape[1], -1)), rest], dim=2)

    @property
    def _axis(self) -> int:
        return 3 if self.conditioning == "concat" else 2

    @property
    def _sizes(self) -> tuple[int, int]:
        """Extent of proprioception and action on the axis of the parts."""
        if self.conditioning == "concat":
            return self.proprio, self.action
        return int(bool(self.proprio)), int(bool(self.action))

    def _spread(self, embedded: Tensor, slots: int) -> Tensor:
        node = embedded[:, :, None]
        return node.expand(-1, -1, slots, -1) if self.conditioning == "concat" else node


def embed(embedding: FrameEmbedding | None, values: Tensor | None, what: str) -> Tensor | None:
    """Embeddings (B, T, E) of `values`, None for a task without them.

    Raises:
        BenchError: the model was built for them, and there are none.
    """
    if embedding is None:
        return None
    if values is None:
        raise BenchError(f"this world model was built for {what}, and the batch has none")
    return embedding(values)  # type: ignore[no-any-return]
