"""Slot attention (arXiv 2006.15055) in the two forms that published weights need.

Both share the competition: a softmax over slots, then a mean over pixels weighted by it. They differ in the layer norms,
in the epsilon and in the feed-forward. Parameter names are those of the published checkpoints.

Shape letters: B batch, P pixels or patches, N slots, D slot dimension, F feature width.
"""

from __future__ import annotations

from torch import Tensor, nn


def compete(queries_BND: Tensor, keys_BPD: Tensor, values_BPD: Tensor, *, eps: float) -> tuple[Tensor, Tensor]:
    """Let slots compete for pixels, and read the values by who won.

    Args:
        queries_BND: (B, N, D).
        keys_BPD, values_BPD: (B, P, D).
        eps: added to every weight after the softmax, before the weights of a slot are made to sum to 1 over the pixels.

    Returns:
        What each slot reads (B, N, D), and the softmax over slots (B, N, P).
    """
    logits_BNP = queries_BND @ keys_BPD.transpose(1, 2) * queries_BND.shape[-1] ** -0.5
    masks_BNP = logits_BNP.softmax(dim=1)
    weights_BNP = masks_BNP + eps
    weights_BNP = weights_BNP / weights_BNP.sum(dim=2, keepdim=True)
    return weights_BNP @ values_BPD, masks_BNP


class ResidualSlotAttention(nn.Module):
    """SAVi's slot attention: the GRU keeps the raw slots, and a residual feed-forward follows it.

    Args:
        features: width F of the input features.
        slot_dim: width D of a slot.
        mlp_dim: hidden width of the feed-forward.
        eps: see `compete`.
    """

    def __init__(self, features: int, slot_dim: int, *, mlp_dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.norm_inputs = nn.LayerNorm(features)
        self.project_q = nn.Sequential(nn.LayerNorm(slot_dim), nn.Linear(slot_dim, slot_dim, bias=False))
        self.project_k = nn.Linear(features, slot_dim, bias=False)
        self.project_v = nn.Linear(features, slot_dim, bias=False)
        self.gru = nn.GRUCell(slot_dim, slot_dim)
        self.mlp = nn.Sequential(
            nn.LayerNorm(slot_dim), nn.Linear(slot_dim, mlp_dim), nn.ReLU(), nn.Linear(mlp_dim, slot_dim)
        )

    def forward(self, features_BPF: Tensor, slots_BND: Tensor, *, iterations: int) -> Tensor:
        """Return the slots (B, N, D) after `iterations` rounds on features (B, P, F)."""
        inputs_BPF = self.norm_inputs(features_BPF)
        keys_BPD, values_BPD = self.project_k(inputs_BPF), self.project_v(inputs_BPF)
        for _ in range(iterations):
            reads_BND, _ = compete(self.project_q(slots_BND), keys_BPD, values_BPD, eps=self.eps)
            slots_BND = self.gru(reads_BND.flatten(0, 1), slots_BND.flatten(0, 1)).view_as(slots_BND)
            slots_BND = slots_BND + self.mlp(slots_BND)
        return slots_BND


class NormalisedSlotAttention(nn.Module):
    """VideoSAUR's slot attention: the GRU keeps the layer-normed slots, and nothing follows it.

    Args:
        dim: width D of slots and of features.
        eps: see `compete`.
    """

    def __init__(self, dim: int, *, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps
        self.to_k = nn.Linear(dim, dim, bias=False)
        self.to_v = nn.Linear(dim, dim, bias=False)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.gru = nn.GRUCell(dim, dim)
        self.norm_features = nn.LayerNorm(dim)
        self.norm_slots = nn.LayerNorm(dim)

    def forward(self, features_BPD: Tensor, slots_BND: Tensor, *, iterations: int) -> tuple[Tensor, Tensor]:
        """Return slots (B, N, D) after `iterations` (at least 1) rounds, and the last round's masks (B, N, P)."""
        if iterations < 1:
            raise ValueError(f"slot attention needs at least 1 iteration, not {iterations}")
        inputs_BPD = self.norm_features(features_BPD)
        keys_BPD, values_BPD = self.to_k(inputs_BPD), self.to_v(inputs_BPD)
        masks_BNP = keys_BPD.new_empty(0)
        for _ in range(iterations):
            kept_BND = self.norm_slots(slots_BND)
            reads_BND, masks_BNP = compete(self.to_q(kept_BND), keys_BPD, values_BPD, eps=self.eps)
            slots_BND = self.gru(reads_BND.flatten(0, 1), kept_BND.flatten(0, 1)).view_as(kept_BND)
        return slots_BND, masks_BNP
