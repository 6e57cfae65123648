"""Background-gated, position-explicit slot attention for videos from one fixed camera.

Slot attention as in arXiv 2006.15055, over frames as in arXiv 2111.12594, with changes that let a small network learn
objects in minutes on a CPU: pixels that look like the background take no part, every slot says where it is, a decoder
draws each slot relative to that place on top of a static background, and slots stay normed however long a video is.

Shape letters: B batch, T time, M images, N slots, C width of a slot's content, P pixels of the feature map, Q decoded
pixels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ocwm.errors import BenchError

GATE_GAIN = 4.0  # a pixel counts fully where a colour is off by a quarter of [-1, 1]'s unit
ATTENTION_ROOM = 2.0  # area at which a slot's update has half its size: an empty slot gets none
POSITION_ROOM = 0.1  # area at which a slot's place is drawn half way to the centre: an empty slot is there
_AREA_ROWS = 32  # areas are in pixels of a picture with so many rows, whatever the feature map has


@dataclass(frozen=True)
class Tracks:
    """Slots through time.

    Attributes:
        content: (B, T, N, C).
        positions: (B, T, N, 2), x to the right and y down; y from -1 to 1, x to the same scale.
        attention: (B, T, N, P), softmax over slots times the gate.
    """

    content: Tensor
    positions: Tensor
    attention: Tensor


def grid(height: int, width: int) -> Tensor:
    """Return the centres (x, y) of the pixels of a picture, (height * width, 2), row by row.

    y goes from -1 to 1 between the picture's edges and x is to the same scale, so that pictures of one scene have the
    same coordinates at any resolution.
    """
    y = (torch.arange(height) + 0.5) / height * 2 - 1
    x = ((torch.arange(width) + 0.5) / width * 2 - 1) * (width / height)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows], dim=-1).reshape(-1, 2)


def _residual(width: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))


class PixelDecoder(nn.Module):
    """Colour and mask logit of single pixels, from a slot and where the pixel lies relative to it.

    Args:
        content: width C.
        width: of the hidden layers.
        depth: number of hidden layers, at least 1.
    """

    _PLACES = 14  # numbers that a place is described by

    def __init__(self, content: int, *, width: int, depth: int) -> None:
        super().__init__()
        self.of_slot = nn.Linear(content, width)
        self.of_place = nn.Linear(self._PLACES, width, bias=False)
        layers: list[nn.Module] = [nn.ReLU()]
        for _ in range(depth - 1):
            layers += [nn.Linear(width, width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 4))

    def forward(self, content_MNC: Tensor, positions_MN2: Tensor, places_MQ2: Tensor) -> tuple[Tensor, Tensor]:
        """Return colours (M, N, Q, 3) in [-1, 1] and mask logits (M, N, Q) at places (M, Q, 2)."""
        places = places_MQ2[:, None]
        away = places - positions_MN2[:, :, None]
        waves = [wave for scale in (8, 16) for wave in ((scale * away).sin(), (scale * away).cos())]
        described = torch.cat([2 * away, 9 * away.square(), places.expand_as(away), *waves], dim=-1)
        drawn = self.layers(self.of_slot(content_MNC)[:, :, None] + self.of_place(described)).float()
        return drawn[..., :3].tanh(), drawn[..., 3]


class GatedSlots(nn.Module):
    """Follows the objects in front of a known background.

    Args:
        resolution: height and width of the input.
        num_slots: slots N.
        content: width C.
        channels: of the convolutions.
        convolutions: their number; the first has kernel 5, the others 3.
        feature_stride: input pixels to one of the feature map.
        shading_input: the convolutions also read the frame minus the background.
        first_iterations, iterations: rounds of slot attention in a video's first frame and in all others.
        decoder_dim, decoder_depth: see `PixelDecoder`.
        loss_stride: input pixels to one of the decoded picture.

    Raises:
        BenchError: sizes that don't fit together.
    """

    background: Tensor
    feature_grid: Tensor
    loss_grid: Tensor

    def __init__(
        self,
        *,
        resolution: tuple[int, int],
        num_slots: int,
        content: int,
        channels: int,
        convolutions: int,
        feature_stride: int,
        shading_input: bool,
        first_iterations: int,
        iterations: int,
        decoder_dim: int,
        decoder_depth: int,
        loss_stride: int,
    ) -> None:
        super().__init__()
        for key, stride in (("feature_stride", feature_stride), ("loss_stride", loss_stride)):
            if stride < 1 or any(side % stride for side in resolution):
                raise BenchError(
                    f"encoder.{key}={stride} does not divide encoder.resolution={list(resolution)}", "Use 1 or 2."
                )
        for key, value in (
            ("convolutions", convolutions),
            ("decoder_depth", decoder_depth),
            ("iterations", iterations),
        ):
            if value < 1:
                raise BenchError(f"encoder.{key} is {value}", "It must be at least 1.")
        self.resolution = resolution
        self.feature_stride, self.loss_stride = feature_stride, loss_stride
        self.shading_input = shading_input
        self.first_iterations, self.iterations = first_iterations, iterations
        height, width = resolution
        feature_size = (height // feature_stride, width // feature_stride)
        loss_size = (height // loss_stride, width // loss_stride)
        self.feature_size, self.loss_size = feature_size, loss_size
        self._unit_area = (_AREA_ROWS / feature_size[0]) ** 2

        inputs = 6 if shading_input else 3
        layers: list[nn.Module] = [nn.Conv2d(inputs, channels, 5, feature_stride, 2), nn.ReLU()]
        for _ in range(convolutions - 1):
            layers += [nn.Conv2d(channels, channels, 3, 1, 1), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.of_place = nn.Linear(4, channels)
        self.features = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, content), nn.ReLU(), nn.Linear(content, content)
        )
        self.norm_features = nn.LayerNorm(content)
        self.to_keys_values = nn.Linear(content, 2 * content, bias=False)
        self.to_queries = nn.Sequential(nn.LayerNorm(content), nn.Linear(content, content, bias=False))
        self.gru = nn.GRUCell(content, content)
        self.update = _residual(content)
        self.norm_slots = nn.LayerNorm(content)
        self.predictor = _residual(content)
        self.norm_predicted = nn.LayerNorm(content)
        last = self.predictor[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)  # at first an object is where it was
        nn.init.zeros_(last.bias)
        self.initial = nn.Parameter(torch.randn(1, num_slots, content) * 0.5)
        self.decoder = PixelDecoder(content, width=decoder_dim, depth=decoder_depth)
        self.drawn_background = nn.Parameter(torch.zeros(1, 3, *loss_size))
        self.background_logit = nn.Parameter(torch.zeros(1))
        self.register_buffer("background", torch.zeros(1, 3, height, width))
        self.register_buffer("feature_grid", grid(*feature_size), persistent=False)
        self.register_buffer("loss_grid", grid(*loss_size), persistent=False)

    @torch.no_grad()
    def set_background(self, background_3HW: Tensor) -> None:
        """Take over the background (3, H, W), for the gate and as the start of the layer that is drawn."""
        self.background.copy_(background_3HW[None])
        self.drawn_background.copy_(functional.avg_pool2d(background_3HW[None], self.loss_stride))

    def gate(self, images_M3HW: Tensor) -> Tensor:
        """Return how much each pixel (M, 1, H, W) of images in [-1, 1] differs from the background, from 0 to 1."""
        return ((images_M3HW - self.background).abs().amax(dim=1, keepdim=True) * GATE_GAIN).clamp(max=1)

    def follow(self, images_BT3HW: Tensor, previous: Tensor | None = None) -> Tracks:
        """Follow slots through frames (B, T, 3, H, W) in [-1, 1].

        Args:
            images_BT3HW: the frames.
            previous: content (B, N, C) of the frame before the first one; None at a video's start.
        """
        batch, frames = images_BT3HW.shape[:2]
        images = images_BT3HW.flatten(0, 1)
        shape = (batch, frames, -1)
        keys, values = self._keys_values(images).chunk(2, dim=-1)
        keys_BTPC, values_BTPC = (part.view(*shape, part.shape[-1]) for part in (keys, values))
        gate_BTP = functional.avg_pool2d(self.gate(images), self.feature_stride).view(shape)
        slots, maps = [], []
        content_BNC = self.initial.expand(batch, -1, -1) if previous is None else previous
        # Attention sums over many pixels and slots are carried on for many frames: always in full precision.
        with torch.autocast(images.device.type, enabled=False):
            for t in range(frames):
                first = previous is None and t == 0
                if not first:
                    content_BNC = self.norm_predicted(content_BNC + self.predictor(content_BNC))
                for _ in range(self.first_iterations if first else self.iterations):
                    content_BNC, attention_BNP = self._attend(
                        content_BNC, keys_BTPC[:, t], values_BTPC[:, t], gate_BTP[:, t]
                    )
                slots.append(content_BNC)
                maps.append(attention_BNP)
            attention = torch.stack(maps, dim=1)
            room = POSITION_ROOM / self._unit_area
            positions = attention @ self.feature_grid / (attention.sum(dim=-1, keepdim=True) + room)
        return Tracks(torch.stack(slots, dim=1), positions, attention)

    def areas(self, tracks: Tracks) -> Tensor:
        """Return the area (B, T, N) that each slot attends to, in pixels of a picture with 32 rows."""
        return tracks.attention.sum(dim=-1) * self._unit_area

    def decode(
        self, content_MNC: Tensor, positions_MN2: Tensor, pixels_MQ: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw slots in front of the background.

        Args:
            content_MNC: (M, N, C).
            positions_MN2: (M, N, 2).
            pixels_MQ: which pixels of the decoded picture, numbered row by row; None draws all of them.

        Returns:
            Colours (M, Q, 3) in [-1, 1], and masks (M, N + 1, Q), a softmax over the slots and the background (last).
        """
        count = len(content_MNC)
        behind_L3 = self.drawn_background.flatten(2)[0].T
        if pixels_MQ is None:
            places_MQ2 = self.loss_grid.expand(count, -1, -1)
            behind_MQ3 = behind_L3.expand(count, -1, -1)
        else:
            places_MQ2, behind_MQ3 = self.loss_grid[pixels_MQ], behind_L3[pixels_MQ]
        colours_MNQ3, logits_MNQ = self.decoder(content_MNC, positions_MN2, places_MQ2)
        logit = self.background_logit.expand(count, 1, logits_MNQ.shape[-1])
        masks = torch.cat([logits_MNQ, logit], dim=1).softmax(dim=1)
        drawn = (masks[:, :-1, :, None] * colours_MNQ3).sum(dim=1) + masks[:, -1, :, None] * behind_MQ3
        return drawn, masks

    def _keys_values(self, images_M3HW: Tensor) -> Tensor:
        """Return keys and values (M, P, 2C) of images (M, 3, H, W), in float32."""
        inputs = torch.cat([images_M3HW, images_M3HW - self.background], dim=1) if self.shading_input else images_M3HW
        maps = self.convolutions(inputs).flatten(2).transpose(1, 2)
        places = self.of_place(torch.cat([self.feature_grid, -self.feature_grid], dim=-1))
        keys_values: Tensor = self.to_keys_values(self.norm_features(self.features(maps + places)))
        return keys_values.float()

    def _attend(
        self, content_BNC: Tensor, keys_BPC: Tensor, values_BPC: Tensor, gate_BP: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the slots after one round, and their gated attention (B, N, P)."""
        logits_BNP = self.to_queries(content_BNC) @ keys_BPC.transpose(1, 2) * content_BNC.shape[-1] ** -0.5
        attention_BNP = logits_BNP.softmax(dim=1) * gate_BP[:, None]
        room = ATTENTION_ROOM / self._unit_area
        reads_BNC = attention_BNP @ values_BPC / (attention_BNP.sum(dim=-1, keepdim=True) + room)
        content = self.gru(reads_BNC.flatten(0, 1), content_BNC.flatten(0, 1)).view_as(content_BNC)
        return self.norm_slots(content + self.update(content)), attention_BNP
