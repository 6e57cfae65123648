"""StoSAVi, the stochastic slot encoder of SlotFormer (arXiv 2210.05861, appendix; SAVi: arXiv 2111.12594).

Parameter names are those of the published checkpoints, dead layers included, so that they load strictly.

Shape letters: B batch, T time, M images, N slots, D slot dimension, P pixels of the feature map, F feature width,
C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ocwm.data_parallel import draw_rows
from ocwm.errors import BenchError
from ocwm_encoders.slot_attention import ResidualSlotAttention

PRIOR_VARIANCE = 0.01
KL_WEIGHT = 1e-4


@dataclass(frozen=True)
class Decoded:
    """Slots as pictures, in the units of the input images.

    Attributes:
        image: (M, 3, H, W), the slots' colours mixed by their masks.
        colours: (M, N, 3, H, W).
        masks: (M, N, 1, H, W), a softmax over slots.
    """

    image: Tensor
    colours: Tensor
    masks: Tensor


class PositionEmbedding(nn.Module):
    """Adds a linear map of (y, x, 1 - y, 1 - x) to a feature map; coordinates run from 0 to 1."""

    def __init__(self, size: tuple[int, int], channels: int) -> None:
        super().__init__()
        self.size = size
        self.dense = nn.Linear(4, channels)
        rows, columns = (torch.linspace(0, 1, length) for length in size)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        self.register_buffer("grid", torch.stack([y, x, 1 - y, 1 - x], dim=-1)[None])

    def forward(self, maps_MCHW: Tensor) -> Tensor:
        """Map (M, C, H, W) to (M, C, H, W)."""
        embedded: Tensor = self.dense(self.grid)
        return maps_MCHW + embedded.permute(0, 3, 1, 2)


class SlotPredictor(nn.Module):
    """Next frame's start from this frame's slots: a feed-forward added to the layer-normed slots, not to the raw ones."""

    def __init__(self, slot_dim: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(slot_dim)
        self.mlp = nn.Sequential(nn.Linear(slot_dim, 2 * slot_dim), nn.ReLU(), nn.Linear(2 * slot_dim, slot_dim))

    def forward(self, slots_BND: Tensor) -> Tensor:
        """Map (B, N, D) to (B, N, D)."""
        normed_BND = self.ln(slots_BND)
        return normed_BND + self.mlp(normed_BND)  # type: ignore[no-any-return]


class StoSAVi(nn.Module):
    """Encodes video frames into slots, frame after frame, and decodes slots into images.

    Args:
        resolution: height and width of the input and of the decoded images.
        num_slots: slots N.
        slot_dim: width D of a slot.
        slot_mlp_dim: hidden width of slot attention's feed-forward.
        iterations: rounds of slot attention, the same in every frame.
        encoder_channels: 3, then the width of every convolution.
        encoder_kernel: its kernel size, odd.
        encoder_resolution: height and width of the feature map; the first convolution has stride 2 where the input is
            larger.
        feature_dim: width F of the features that slots read.
        decoder_channels: D, then the width of every transposed convolution.
        decoder_kernel: its kernel size, odd.
        decoder_resolution: size of the map that a slot is broadcast to.
        stochastic: draw the start of slot attention in every frame, also in evaluation (published); False takes its
            mean, and the KL term is 0.

    Raises:
        BenchError: sizes that don't fit together.
    """

    def __init__(
        self,
        *,
        resolution: tuple[int, int] = (64, 64),
        num_slots: int = 7,
        slot_dim: int = 128,
        slot_mlp_dim: int = 256,
        iterations: int = 2,
        encoder_channels: Sequence[int] = (3, 64, 64, 64, 64),
        encoder_kernel: int = 5,
        encoder_resolution: tuple[int, int] = (64, 64),
        feature_dim: int = 128,
        decoder_channels: Sequence[int] = (128, 64, 64, 64, 64),
        decoder_kernel: int = 5,
        decoder_resolution: tuple[int, int] = (8, 8),
        stochastic: bool = True,
    ) -> None:
        super().__init__()
        if decoder_channels[0] != slot_dim:
            raise BenchError(
                f"encoder.decoder_channels starts with {decoder_channels[0]}, but encoder.slot_dim={slot_dim}",
                "A slot is the decoder's input: make them equal.",
            )
        self.resolution = resolution
        self.iterations = iterations
        self.stochastic = stochastic
        self.init_latents = nn.Parameter(torch.randn(1, num_slots, slot_dim))
        self.kernel_dist_layer = nn.Sequential(nn.Linear(slot_dim, 2 * slot_dim))
        # Never used; the published checkpoints hold it.
        self.prior_slot_layer = nn.Sequential(
            nn.Linear(slot_dim, slot_dim), nn.LayerNorm(slot_dim), nn.ReLU(), nn.Linear(slot_dim, slot_dim)
        )
        self.slot_attention = ResidualSlotAttention(feature_dim, slot_dim, mlp_dim=slot_mlp_dim)
        stride = 2 if resolution[0] > encoder_resolution[0] else 1
        self.encoder = _convolutions(encoder_channels, encoder_kernel, first_stride=stride)
        width = encoder_channels[-1]
        self.encoder_pos_embedding = PositionEmbedding(encoder_resolution, width)
        self.encoder_out_layer = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, feature_dim), nn.ReLU(), nn.Linear(feature_dim, feature_dim)
        )
        self.decoder = _transposed(decoder_channels, decoder_kernel, decoder_resolution, resolution)
        self.decoder_pos_embedding = PositionEmbedding(decoder_resolution, slot_dim)
        self.predictor = SlotPredictor(slot_dim)

    def features(self, images_MCHW: Tensor) -> Tensor:
        """Return what slots read of images (M, 3, H, W): (M, P, F), row by row.

        Raises:
            ValueError: images of another size than `resolution`, or a resolution that the feature map does not fit.
        """
        if tuple(images_MCHW.shape[-2:]) != tuple(self.resolution):
            raise ValueError(f"images of {tuple(images_MCHW.shape[-2:])}, not {tuple(self.resolution)}")
        maps_MCHW = self.encoder(images_MCHW)
        if tuple(maps_MCHW.shape[-2:]) != self.encoder_pos_embedding.size:
            raise ValueError(
                f"the feature map is {tuple(maps_MCHW.shape[-2:])}, its grid {self.encoder_pos_embedding.size}"
            )
        maps_MCHW = self.encoder_pos_embedding(maps_MCHW)
        return self.encoder_out_layer(maps_MCHW.flatten(2).transpose(1, 2))  # type: ignore[no-any-return]

    def encode(
        self, images_BTCHW: Tensor, *, previous: Tensor | None = None, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode frames in order.

        Args:
            images_BTCHW: (B, T, 3, H, W) in [-1, 1].
            previous: slots (B, N, D) of the frame before the first one; None at the start of a video.
            noise: (B, T, N, D) standard normal numbers for the starts; None draws them from torch's global generator.
                Ignored where the encoder is not stochastic.

        Returns:
            Slots (B, T, N, D), and mean and log variance of every start (B, T, N, 2D).
        """
        batch, frames = images_BTCHW.shape[:2]
        features_BTPF = self.features(images_BTCHW.flatten(0, 1))
        features_BTPF = features_BTPF.view(batch, frames, *features_BTPF.shape[1:])
        start_BND = self.init_latents.expand(batch, -1, -1) if previous is None else self.predictor(previous)
        slots, kernels = [], []
        for t in range(frames):
            kernel = self.kernel_dist_layer(start_BND)
            mean_BND, log_variance_BND = kernel.chunk(2, dim=-1)
            if self.stochastic:
                eps_BND = _normal_like(mean_BND) if noise is None else noise[:, t]
                mean_BND = mean_BND + (0.5 * log_variance_BND).exp() * eps_BND
            slots_BND = self.slot_attention(features_BTPF[:, t], mean_BND, iterations=self.iterations)
            slots.append(slots_BND)
            kernels.append(kernel)
            start_BND = self.predictor(slots_BND)
        return torch.stack(slots, dim=1), torch.stack(kernels, dim=1)

    def decode(self, slots_MND: Tensor) -> Decoded:
        """Decode slots (M, N, D), each by itself, and mix the pictures."""
        maps = slots_MND.flatten(0, 1)[..., None, None].expand(-1, -1, *self.decoder_pos_embedding.size)
        pictures = self.decoder(self.decoder_pos_embedding(maps))
        pictures = pictures.view(*slots_MND.shape[:2], *pictures.shape[1:])
        colours, masks = pictures[:, :, :3], pictures[:, :, 3:].softmax(dim=1)
        return Decoded((colours * masks).sum(dim=1), colours, masks)

    def loss(self, images_BTCHW: Tensor, *, noise: Tensor | None = None) -> dict[str, Tensor]:
        """Training loss of clips (B, T, 3, H, W): reconstruction + 1e-4 * KL, each a mean.

        Returns:
            "loss", "post_recon_loss" (mean square error, images in [-1, 1]) and "kld_loss".
        """
        slots_BTND, kernel = self.encode(images_BTCHW, noise=noise)
        image = self.decode(slots_BTND.flatten(0, 1)).image
        reconstruction = functional.mse_loss(image, images_BTCHW.flatten(0, 1))
        kl = kl_loss(kernel) if self.stochastic else reconstruction.new_zeros(())
        return {"loss": reconstruction + KL_WEIGHT * kl, "post_recon_loss": reconstruction, "kld_loss": kl}


def kl_loss(kernel: Tensor) -> Tensor:
    """KL divergence of the starts from a normal distribution with the same mean and variance 0.01.

    Args:
        kernel: (..., 2D) mean and log variance; only the spread is pulled.

    Returns:
        A scalar: summed over D, mean over the rest.
    """
    log_variance = kernel.chunk(2, dim=-1)[1]
    prior = torch.tensor(PRIOR_VARIANCE, dtype=kernel.dtype, device=kernel.device)
    each = 0.5 * (prior.log() - log_variance) + log_variance.exp() / (2 * prior) - 0.5
    return each.sum(dim=-1).mean()


def _convolutions(channels: Sequence[int], kernel: int, *, first_stride: int) -> nn.Sequential:
    """Convolutions with ReLU between them, none after the last."""
    layers = []
    for i in range(len(channels) - 1):
        stride = first_stride if i == 0 else 1
        convolution = nn.Conv2d(channels[i], channels[i + 1], kernel, stride=stride, padding=kernel // 2)
        last = i == len(channels) - 2
        layers.append(nn.Sequential(convolution) if last else nn.Sequential(convolution, nn.ReLU()))
    return nn.Sequential(*layers)


def _transposed(channels: Sequence[int], kernel: int, size: tuple[int, int], target: tuple[int, int]) -> nn.Sequential:
    """Transposed convolutions that double the map until it has the target's size, then a map to colour and mask logit."""
    layers: list[nn.Module] = []
    height, width = size
    for i in range(len(channels) - 1):
        stride = 2 if height < target[0] else 1
        height, width = height * stride, width * stride
        layers.append(
            nn.Sequential(
                nn.ConvTranspose2d(
                    channels[i], channels[i + 1], kernel, stride, padding=kernel // 2, output_padding=stride - 1
                ),
                nn.ReLU(),
            )
        )
    if (height, width) != tuple(target):
        raise BenchError(
            f"the decoder makes {height} x {width} images of {size[0]} x {size[1]} maps, not {target[0]} x {target[1]}",
            "Change encoder.decoder_resolution or the number of encoder.decoder_channels.",
        )
    return nn.Sequential(*layers, nn.Conv2d(channels[-1], 4, 1))


def _normal_like(values_BND: Tensor) -> Tensor:
    """Standard normal numbers for every sample."""
    shape, kind = values_BND.shape[1:], values_BND.dtype
    return draw_rows(len(values_BND), lambda count: torch.randn(count, *shape, dtype=kind, device=values_BND.device))
