"""Parts of VideoSAUR (arXiv 2306.04829): blocks, recurrent slot attention, SlotMixer decoder.

Parameter names are those of the published checkpoints.

Shape letters: B batch, T time, M images, P patches, N slots, L tokens, D slot dimension, E width of what is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ocwm_encoders.slot_attention import NormalisedSlotAttention


class Attention(nn.Module):
    """Multi-head attention with packed projections, whose logits are *multiplied* by sqrt(head width).

    Dividing, as everywhere else, would break the published weights.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x_BLD: Tensor, memory: Tensor | None = None) -> Tensor:
        """Read `memory` (B, L', D), or `x_BLD` itself where there is none: (B, L, D)."""
        if memory is None:
            query, key, value = self.qkv(x_BLD).chunk(3, dim=-1)
        else:
            dim = x_BLD.shape[-1]
            query = functional.linear(x_BLD, self.qkv.weight[:dim], self.qkv.bias[:dim])
            key, value = functional.linear(memory, self.qkv.weight[dim:], self.qkv.bias[dim:]).chunk(2, dim=-1)
        query, key, value = (self._split(part) for part in (query, key, value))
        read = functional.scaled_dot_product_attention(query, key, value, scale=query.shape[-1] ** 0.5)
        return self.out_proj(read.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _split(self, x_BLD: Tensor) -> Tensor:
        batch, length, dim = x_BLD.shape
        return x_BLD.view(batch, length, self.heads, dim // self.heads).transpose(1, 2)


class Block(nn.Module):
    """Pre-norm attention and feed-forward; a memory is read as it is given."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads)
        self.linear1 = nn.Linear(dim, 4 * dim)
        self.linear2 = nn.Linear(4 * dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, x_BLD: Tensor, memory: Tensor | None = None) -> Tensor:
        """Map (B, L, D) to (B, L, D)."""
        x_BLD = x_BLD + self.self_attn(self.norm1(x_BLD), memory)
        return x_BLD + self.linear2(self.linear1(self.norm2(x_BLD)).relu())  # type: ignore[no-any-return]


class Blocks(nn.Module):
    """A stack of blocks without a norm at its end."""

    def __init__(self, dim: int, *, heads: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))

    def forward(self, x_BLD: Tensor, memory: Tensor | None = None) -> Tensor:
        """Map (B, L, D) to (B, L, D)."""
        for block in self.blocks:
            x_BLD = block(x_BLD, memory)
        return x_BLD


class Initialiser(nn.Module):
    """Start of the slots: noise around a mean, both shared by all slots."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(1, 1, dim))
        self.log_std = nn.Parameter(torch.full((1, 1, dim), dim**-0.5).log())

    def forward(self, noise_BND: Tensor) -> Tensor:
        """Map standard normal numbers (B, N, D) to slots (B, N, D), any N."""
        return self.mean + noise_BND * self.log_std.exp()


@dataclass(frozen=True)
class SlotStates:
    """Slots of a video.

    Attributes:
        state: (B, T, N, D) after slot attention; what is exported as slots.
        predicted: (B, T, N, D), the starts of the frames that follow.
        masks: (B, T, N, P), the last round's softmax over slots.
    """

    state: Tensor
    predicted: Tensor
    masks: Tensor


class Processor(nn.Module):
    """Slot attention on every frame, started from a prediction out of the frame before.

    Args:
        dim: width D.
        heads: of the predictor.
        first_iterations: rounds of slot attention in a video's first frame.
        iterations: rounds in every other frame.
    """

    def __init__(self, dim: int, *, heads: int = 4, first_iterations: int = 3, iterations: int = 2) -> None:
        super().__init__()
        self.first_iterations = first_iterations
        self.iterations = iterations
        self.corrector = NormalisedSlotAttention(dim)
        self.predictor = Blocks(dim, heads=heads, depth=1)

    def forward(self, features_BTPD: Tensor, slots_BND: Tensor, *, first: bool = True) -> SlotStates:
        """Follow slots through frames.

        Args:
            features_BTPD: (B, T, P, D).
            slots_BND: start of the first of these frames: initial slots, or the last prediction of an earlier call.
            first: whether that frame is a video's first one and gets `first_iterations`.
        """
        states, predictions, masks = [], [], []
        for t in range(features_BTPD.shape[1]):
            rounds = self.first_iterations if first and t == 0 else self.iterations
            state, mask = self.corrector(features_BTPD[:, t], slots_BND, iterations=rounds)
            slots_BND = self.predictor(state)
            states.append(state)
            predictions.append(slots_BND)
            masks.append(mask)
        return SlotStates(*(torch.stack(parts, dim=1) for parts in (states, predictions, masks)))


class ReLUStack(nn.Module):
    """Linear layers with a ReLU after every one, the last included."""

    def __init__(self, inputs: int, width: int, *, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(depth):
            layers += [nn.Linear(width if i else inputs, width), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., width)."""
        return self.layers(x)  # type: ignore[no-any-return]


class SlotMixer(nn.Module):
    """Decodes all patches at once: each mixes the slots, then renders the mix (arXiv 2206.06922, adapted).

    Args:
        dim: width D of the slots.
        patches: number P of patches.
        outputs: width E of what is decoded for every patch.
        heads, blocks: of the allocator, which reads slots only by cross-attention.
        renderer_dim: hidden width of the renderer.
    """

    def __init__(
        self, dim: int, *, patches: int, outputs: int, heads: int = 4, blocks: int = 3, renderer_dim: int = 1024
    ) -> None:
        super().__init__()
        self.pos_emb = nn.Parameter(torch.randn(1, patches, dim) * dim**-0.5)
        self.allocator = Blocks(dim, heads=heads, depth=blocks)
        self.renderer = ReLUStack(dim, renderer_dim, depth=3)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(dim, dim, bias=False)
        self.norm_k = nn.LayerNorm(dim)
        self.norm_q = nn.LayerNorm(dim)
        self.norm_memory = nn.LayerNorm(dim)
        self.output_transform = nn.Linear(renderer_dim, outputs)

    def forward(self, slots_MND: Tensor) -> tuple[Tensor, Tensor]:
        """Decode slots (M, N, D) into (M, P, E), with the share of every slot in a patch (M, N, P)."""
        positions_MPD = self.pos_emb.expand(slots_MND.shape[0], -1, -1)
        queries_MPD = self.to_q(self.norm_q(self.allocator(positions_MPD, self.norm_memory(slots_MND))))
        keys_MND = self.to_k(self.norm_k(slots_MND))
        logits_MPN = queries_MPD @ keys_MND.transpose(1, 2) * keys_MND.shape[-1] ** -0.5
        shares_MPN = logits_MPN.softmax(dim=-1)
        mixed_MPD = shares_MPN @ slots_MND + positions_MPD
        return self.output_transform(self.renderer(mixed_MPD)), shares_MPN.transpose(1, 2)
