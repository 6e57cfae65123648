"""Imports published checkpoints of SlotFormer, OCVP and DINO-WM.

Sources: the trainers of arXiv 2210.05861, 2302.11850 and 2411.04983; for OCVP also the baseline of arXiv 2602.11389, for
DINO-WM also stable-worldmodel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from ocwm.errors import BenchError
from ocwm.importer import EVALUATED, Imported, Shapes, WeightsImporter, split_names
from ocwm.types import LatentSpec
from ocwm_baselines.dino_wm import DinoWorldModel
from ocwm_baselines.ocvp import OCVP
from ocwm_baselines.slotformer import SlotFormer

_OCVP_HEAD, _VIT_HEAD = 32, 64  # widths of a head in every published configuration
_SLOTFORMER_HEADS = 8
_DINO_FRAMES = 3


class SlotFormerImporter(WeightsImporter):
    """SlotFormer; the decoder of its image loss is SAVi's, frozen."""

    marks: ClassVar[tuple[str, ...]] = (
        "rollouter\\.enc_t_pe$",
        r"rollouter\.in_proj\.weight$",
        r"rollouter\.transformer_encoder\.layers\.0\.self_attn\.",
    )

    def convert(self, tensors: Mapping[str, Tensor]) -> Imported:
        """Keep the rollouter."""
        reason = "the frozen decoder of SAVi, for the image loss only"
        kept, dropped = split_names(tensors, {r"decoder(_pos_embedding)?\.": reason})
        shapes = Shapes(kept, "SlotFormer")
        slot_dim = shapes.size("rollouter.in_proj.weight", 1, axes=2)
        sizes: dict[str, Any] = {
            "history_frames": shapes.size("rollouter.enc_t_pe", 1, axes=3),
            "width": shapes.size("rollouter.in_proj.weight", 0, axes=2),
            "depth": shapes.count(r"rollouter\.transformer_encoder\.layers\.(\d+)\."),
            "mlp_dim": shapes.size("rollouter.transformer_encoder.layers.0.linear1.weight", 0, axes=2),
        }
        heads = _SLOTFORMER_HEADS if sizes["width"] % _SLOTFORMER_HEADS == 0 else 1
        return Imported(
            title="a SlotFormer",
            tensors=kept,
            build=lambda: SlotFormer(LatentSpec(num_slots=1, slot_dim=slot_dim), heads=heads, **sizes),
            sizes={"slot_dim": slot_dim, **sizes},
            assumed={"heads": _SLOTFORMER_HEADS, "pred_frames": 10, "frameskip": 2, "num_slots": "any"},
            use=("--method", "slotformer", *_overrides(sizes), f"method.heads={_SLOTFORMER_HEADS}", *EVALUATED),
            dropped=dropped,
        )


class OCVPImporter(WeightsImporter):
    """OCVP-Seq and OCVP-Par."""

    marks: ClassVar[tuple[str, ...]] = (
        r"(predictor\.)?mlp_in\.weight$",
        r"(predictor\.)?mlp_out\.weight$",
        r"(predictor\.)?transformer_encoders\.0\.",
    )

    def convert(self, tensors: Mapping[str, Tensor]) -> Imported:
        """Name the predictor `predictor` where the file does not."""
        bare = r"(mlp_in|mlp_out|transformer_encoders)\."
        ours = {f"predictor.{name}" if re.match(bare, name) else name: tensor for name, tensor in tensors.items()}
        shapes = Shapes(ours, "OCVP")
        first = "predictor.transformer_encoders.0."
        sequential = any(name.startswith(f"{first}object_encoder_block.") for name in ours)
        method = "ocvp_seq" if sequential else "ocvp_par"
        slot_dim = shapes.size("predictor.mlp_in.weight", 1, axes=2)
        block = f"{first}object_encoder_block." if sequential else first
        sizes: dict[str, Any] = {
            "width": shapes.size("predictor.mlp_in.weight", 0, axes=2),
            "depth": shapes.count(r"predictor\.transformer_encoders\.(\d+)\."),
            "mlp_dim": shapes.size(f"{block}linear1.weight", 0, axes=2),
        }
        heads = max(1, sizes["width"] // _OCVP_HEAD)
        attention: Any = "sequential" if sequential else "parallel"
        return Imported(
            title="an OCVP-Seq predictor" if sequential else "an OCVP-Par predictor",
            tensors=ours,
            build=lambda: OCVP(LatentSpec(num_slots=1, slot_dim=slot_dim), attention=attention, heads=heads, **sizes),
            sizes={"slot_dim": slot_dim, **sizes},
            assumed={
                "heads": heads,
                "residual": True,
                "history_frames": 6,
                "buffer_frames": 6,
                "pred_frames": 10,
                "frameskip": 2,
                "num_slots": "any",
            },
            use=("--method", method, *_overrides(sizes), f"method.heads={heads}", *EVALUATED),
        )


class DinoImporter(WeightsImporter):
    """DINO-WM on patches or on slots: its dict of pickled modules, or the object or state dict of stable-worldmodel."""

    marks: ClassVar[tuple[str, ...]] = (
        r"(model\.)?predictor\.pos_embedding$",
        r"(model\.)?predictor\.transformer\.layers\.0\.0\.to_qkv\.weight$",
    )

    def convert(self, tensors: Mapping[str, Tensor]) -> Imported:
        """Keep the predictor and the embeddings of actions and proprioception."""
        renamed = {_dino_name(name): tensor for name, tensor in tensors.items()}
        ours, dropped = split_names(
            renamed,
            {
                r"predictor\.transformer\.layers\.\d+\.0\.bias$": "the mask of the attention, which follows from the sizes",
                r"decoder\.": "the decoder, which no prediction and no plan depends on",
                r"(backbone|encoder|slot_attention|initializer)\.": "the frozen encoder",
            },
        )
        shapes = Shapes(ours, "DINO-WM")
        rows = shapes.size("predictor.pos_embedding", 1, axes=3)
        width = shapes.size("predictor.pos_embedding", 2, axes=3)
        inner = shapes.size("predictor.transformer.layers.0.0.to_qkv.weight", 0, axes=2) // 3
        heads, head_dim = (inner // _VIT_HEAD, _VIT_HEAD) if inner % _VIT_HEAD == 0 else (1, inner)
        frames = _DINO_FRAMES if rows % _DINO_FRAMES == 0 else 1
        embedded = {part: _widths(shapes, ours, part) for part in ("action", "proprio")}
        present = {part: size for part, size in embedded.items() if size[0]}
        as_tokens = bool(present) and all(outputs == width for _, outputs in present.values())
        extra = len(present) if as_tokens else sum(outputs for _, outputs in present.values())
        num_slots = rows // frames - (extra if as_tokens else 0)
        slot_dim = width - (0 if as_tokens else extra)
        embeds = {} if as_tokens else {f"{part}_embed_dim": outputs for part, (_, outputs) in present.items()}
        sizes: dict[str, Any] = {
            "depth": shapes.count(r"predictor\.transformer\.layers\.(\d+)\."),
            "mlp_dim": shapes.size("predictor.transformer.layers.0.1.net.1.weight", 0, axes=2),
            **embeds,
        }
        fusion: Any = "tokens" if as_tokens else "channels"
        spec = LatentSpec(
            num_slots=num_slots, slot_dim=slot_dim, action_dim=embedded["action"][0], proprio_dim=embedded["proprio"][0]
        )
        if slot_dim < 1 or num_slots < 1:
            raise BenchError(
                f"the file looks like DINO-WM, but its embeddings leave {num_slots} tokens of width {slot_dim}"
            )
        settings: dict[str, Any] = {"history_frames": frames, "heads": heads, "head_dim": head_dim, "fusion": fusion}
        return Imported(
            title="a DINO-WM world model",
            tensors=ours,
            build=lambda: DinoWorldModel(spec, **settings, **sizes),
            sizes={
                "num_slots x history_frames": num_slots * frames,
                "slot_dim": slot_dim,
                "heads x head_dim": inner,
                "action_dim": spec.action_dim,
                "proprio_dim": spec.proprio_dim,
                **sizes,
            },
            assumed={
                "history_frames": frames,
                "num_slots": num_slots,
                "heads": heads,
                "head_dim": head_dim,
                "fusion": fusion,
                "action_repeat": 1,
                "proprio_repeat": 1,
            },
            use=("--method", "dino_wm", *_overrides({**sizes, **settings}), *EVALUATED),
            dropped=dropped,
            notes=("dino_wm_reg and oc_dino_wm are the same class: --method says what the tokens were",),
        )


def _dino_name(name: str) -> str:
    name = name.removeprefix("model.")
    return re.sub(r"^extra_encoders\.(action|proprio)\.", r"\1_encoder.", name)


def _widths(shapes: Shapes, tensors: Mapping[str, Tensor], part: str) -> tuple[int, int]:
    """Return inputs and outputs of an embedding, 0 and 0 where there is none."""
    name = f"{part}_encoder.patch_embed.weight"
    return (shapes.size(name, 1, axes=3), shapes.size(name, 0, axes=3)) if name in tensors else (0, 0)


def _overrides(sizes: Mapping[str, Any]) -> list[str]:
    return [f"method.{key}={value}" for key, value in sizes.items()]
