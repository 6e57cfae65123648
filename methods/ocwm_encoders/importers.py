"""Imports published checkpoints of StoSAVi and of VideoSAUR.

Sources: the trainers of arXiv 2210.05861 (StoSAVi) and arXiv 2602.11389 (VideoSAUR, and the world models that hold one).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ocwm import registry
from ocwm.importer import FrameOrder, Imported, Shapes, WeightsImporter, split_names
from ocwm_encoders.backbone import published
from ocwm_encoders.frames import prepare
from ocwm_encoders.savi import SAVi
from ocwm_encoders.savi_network import StoSAVi
from ocwm_encoders.videosaur_network import VideoSAUR

_HEAD_WIDTH = 64  # of every published DINOv2


class SAViImporter(WeightsImporter):
    """StoSAVi with its decoder, as the trainers of SlotFormer and of C-JEPA save it."""

    marks: ClassVar[tuple[str, ...]] = (
        "init_latents$",
        r"kernel_dist_layer\.0\.",
        r"slot_attention\.project_q\.",
        r"encoder\.0\.0\.weight$",
        r"predictor\.ln\.",
    )

    def convert(self, tensors: Mapping[str, Tensor]) -> Imported:
        """Keep every name: ours are the published ones, the layers that are never used included."""
        shapes = Shapes(tensors, "StoSAVi")
        encoder_maps = _grid(shapes, "encoder_pos_embedding.grid")
        decoder_maps = _grid(shapes, "decoder_pos_embedding.grid")
        convolutions = shapes.channels(r"encoder\.(\d+)\.0\.weight", 0)
        transposed = shapes.channels(r"decoder\.(\d+)\.0\.weight", 1)
        # The first convolution may halve the images, the decoder doubles its map until it has their size.
        reachable = [decoder_maps[0] * 2**doublings for doublings in range(len(transposed) + 1)]
        scale = 1 if encoder_maps[0] in reachable or 2 * encoder_maps[0] not in reachable else 2
        sizes: dict[str, Any] = {
            "num_slots": shapes.size("init_latents", 1, axes=3),
            "slot_dim": shapes.size("init_latents", 2, axes=3),
            "slot_mlp_dim": shapes.size("slot_attention.mlp.1.weight", 0, axes=2),
            "encoder_channels": [shapes.size("encoder.0.0.weight", 1, axes=4), *convolutions],
            "encoder_kernel": shapes.size("encoder.0.0.weight", 3, axes=4),
            "encoder_resolution": list(encoder_maps),
            "feature_dim": shapes.size("encoder_out_layer.1.weight", 0, axes=2),
            "decoder_channels": [shapes.size("decoder.0.0.weight", 0, axes=4), *transposed],
            "decoder_kernel": shapes.size("decoder.0.0.weight", 3, axes=4),
            "decoder_resolution": list(decoder_maps),
        }
        assumed = {"resolution": [scale * side for side in encoder_maps], "iterations": 2}
        settings = {**sizes, **assumed}
        return Imported(
            title="a StoSAVi encoder with decoder",
            tensors=tensors,
            build=lambda: SAVi(**settings).build_network(),
            sizes=sizes,
            assumed=assumed,
            use=("encoder=savi", "encoder.weights={file}", *_overrides(settings)),
        )

    @torch.no_grad()
    def frame_order(self, imported: Imported, frames_THWC: NDArray[np.uint8]) -> FrameOrder:
        """Encode and decode the frames with the mean starts, and compare with what was put in."""
        network = imported.build().eval()
        network.load_state_dict(dict(imported.tensors))
        assert isinstance(network, StoSAVi)
        network.stochastic = False
        pixels = torch.from_numpy(np.ascontiguousarray(frames_THWC)).permute(0, 3, 1, 2)[None]
        configured = registry.read_yaml(registry.find("encoder", "savi").path)
        errors = {}
        for order in ("rgb", "bgr"):
            images = prepare(
                pixels,
                size=network.resolution,
                normalisation="half",
                antialias=bool(configured["antialias"]),
                channel_order=order,
            )
            slots, _ = network.encode(images)
            decoded = network.decode(slots[0]).image
            errors[order] = float(functional.mse_loss(decoded, images[0]))
        return FrameOrder(errors, str(configured["channel_order"]), "encoder.channel_order")


class VideoSAURImporter(WeightsImporter):
    """VideoSAUR with its DINOv2, as its trainer saves it, or without decoder as a part of a world model."""

    marks: ClassVar[tuple[str, ...]] = (
        "initializer\\.(mean|log_std)$",
        r"encoder\.module\.output_transform\.",
        r"processor\.module\.corrector\.",
    )
    parts: ClassVar[tuple[str, ...]] = (
        r"(model\.)?initializer\.backbone\.(mean|log_std)$",
        r"(model\.)?encoder\.backbone\.module\.output_transform\.",
        r"(model\.)?slot_attention\.backbone\.module\.corrector\.",
    )

    def convert(self, tensors: Mapping[str, Tensor]) -> Imported:
        """Give the parts of a world model the encoder's own names, and the backbone those of the encoder's files."""
        renamed = {_videosaur_name(name): tensor for name, tensor in tensors.items()}
        ours, dropped = split_names(
            renamed,
            {
                r"(predictor|action_encoder|proprio_encoder)\.": "the world model (--as cjepa reads it)",
                r"(loss_fns|train_metrics|val_metrics|mask_resizers|aux_decoders|target_encoder)\.": "heads of the losses",
            },
        )
        shapes = Shapes(ours, "VideoSAUR")
        place = r"encoder\.module\.backbone\."
        width = shapes.size("encoder.module.output_transform.layers.0.weight", 0, axes=1)
        backbone = {
            "hidden_size": width,
            "num_hidden_layers": shapes.count(place + r"encoder\.layer\.(\d+)\."),
            "num_attention_heads": max(1, width // _HEAD_WIDTH),
            "mlp_ratio": shapes.size("encoder.module.backbone.encoder.layer.0.mlp.fc1.weight", 0, axes=2) // width,
            "patch_size": shapes.size(
                "encoder.module.backbone.embeddings.patch_embeddings.projection.weight", 3, axes=4
            ),
        }
        rows = shapes.size("encoder.module.backbone.embeddings.position_embeddings", 1, axes=3) - 1
        backbone["image_size"] = round(rows**0.5) * backbone["patch_size"]
        sizes: dict[str, Any] = {"slot_dim": shapes.size("initializer.mean", 2, axes=3)}
        with_decoder = any(name.startswith("decoder.") for name in ours)
        if with_decoder:
            patches = shapes.size("decoder.module.pos_emb", 1, axes=3)
            sizes |= {
                "image_size": round(patches**0.5) * backbone["patch_size"],
                "decoder_blocks": shapes.count(r"decoder\.module\.allocator\.blocks\.(\d+)\."),
                "renderer_dim": shapes.size("decoder.module.renderer.layers.0.weight", 0, axes=2),
            }

        def build() -> VideoSAUR:
            settings = {key: value for key, value in sizes.items() if key not in ("image_size", "slot_dim")}
            patches = (sizes["image_size"] // backbone["patch_size"]) ** 2 if with_decoder else None
            return VideoSAUR(
                backbone, slot_dim=sizes["slot_dim"], patches=patches, **_heads(sizes["slot_dim"]), **settings
            )

        assumed = {"predictor_heads": 4, "decoder_heads": 4, "iterations": "3, then 2", "num_slots": "any"}
        assumed |= {"backbone.num_attention_heads": backbone["num_attention_heads"]}
        return Imported(
            title="a VideoSAUR encoder" + ("" if with_decoder else " without decoder"),
            tensors=ours,
            build=build,
            sizes={**sizes, **{f"backbone.{key}": value for key, value in backbone.items() if "heads" not in key}},
            assumed=assumed,
            use=(
                "encoder=videosaur",
                "encoder.weights={file}",
                *_overrides(sizes),
                *(f"encoder.backbone.{key}={value}" for key, value in backbone.items()),
                *(() if with_decoder else ("encoder.with_decoder=false",)),
            ),
            dropped=dropped,
        )


def _videosaur_name(name: str) -> str:
    """Return the name in VideoSAUR's own files of a tensor in a file of VideoSAUR or of a world model around it."""
    name = name.removeprefix("model.")
    name = re.sub(r"^(initializer|encoder)\.backbone\.(?=mean|log_std|module\.)", r"\1.", name)
    name = re.sub(r"^slot_attention\.(backbone\.)?(?=module\.)", "processor.", name)
    if match := re.match(r"(encoder\.module\.backbone\.)(.*)", name):
        return match[1] + published(match[2])
    return name


def _heads(slot_dim: int) -> dict[str, Any]:
    """Return heads that the constructor takes; the names and shapes do not depend on them."""
    heads = 4 if slot_dim % 4 == 0 else 1
    return {"predictor_heads": heads, "decoder_heads": heads}


def _grid(shapes: Shapes, name: str) -> tuple[int, int]:
    return shapes.size(name, 1, axes=4), shapes.size(name, 2, axes=4)


def _overrides(settings: Mapping[str, Any]) -> list[str]:
    return [f"encoder.{key}={str(value).replace(' ', '')}" for key, value in settings.items()]
