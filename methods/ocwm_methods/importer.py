"""Imports published C-JEPA checkpoints: bare predictors (CLEVRER) and whole pickled world models (Push-T).

Sources: the checkpoints of arXiv 2602.11389, and of stable-worldmodel, whose training objects hold the same model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from ocwm.importer import EVALUATED, Imported, Shapes, WeightsImporter, split_names
from ocwm.types import LatentSpec
from ocwm_methods.cjepa import CJEPA
from ocwm_methods.conditioning import Conditioning

_ANY = 1  # slots; no weight depends on their number
_HEADS = 16  # of every published checkpoint
_FRAMES = {16: (6, 10, 2), 4: (3, 1, 5)}  # rows of the time table -> history, prediction, frameskip: CLEVRER, Push-T
_ENCODER = "the frozen VideoSAUR encoder (--as videosaur reads it)"


class CJEPAImporter(WeightsImporter):
    """C-JEPA and OC-JEPA; which objects were hidden in training leaves no trace in the weights."""

    marks: ClassVar[tuple[str, ...]] = tuple(
        rf"(model\.)?(predictor\.)?{name}" for name in ("time_pos_embed$", r"id_projector\.weight$", r"to_out\.weight$")
    )

    def convert(self, tensors: Mapping[str, Tensor]) -> Imported:
        """Name the predictor `predictor`, keep embeddings of actions and proprioception, leave the encoder out."""
        renamed = {_renamed(name): tensor for name, tensor in tensors.items()}
        kept, dropped = split_names(renamed, {r"(encoder|slot_attention|initializer)\.": _ENCODER})
        title = "a C-JEPA predictor"
        shapes = Shapes(kept, title)
        width = shapes.size("predictor.id_projector.weight", 0, axes=2)
        frames = shapes.size("predictor.time_pos_embed", 1, axes=4)
        sizes = {
            "depth": shapes.count(r"predictor\.transformer\.layers\.(\d+)\."),
            "mlp_dim": shapes.size("predictor.transformer.layers.0.1.1.weight", 0, axes=2),
        }
        history, future, frameskip = _FRAMES.get(frames, (frames - 1, 1, None))
        known = frameskip is not None
        assumed = {
            "heads": _HEADS,
            "history_frames + pred_frames": f"{history} + {future}" if known else f"any that make {frames}",
            "frameskip": frameskip if known else "any",
            "num_slots": "any",
        }
        times = [f"method.history_frames={history}", f"method.pred_frames={future}"] if known else []
        times += [f"method.frameskip={frameskip}"] if known else []
        token = "predictor.mask_token" in kept
        heads = _HEADS if width % _HEADS == 0 else 1
        conditioned = {part: _widths(shapes, part) for part in ("action", "proprio") if _embeds(kept, part)}
        embedded = {part: width_out for part, (_, width_out) in conditioned.items()}
        as_nodes = all(size == width for size in embedded.values())
        slot_dim = width if as_nodes else width - sum(embedded.values())

        conditioning: Conditioning = "nodes" if as_nodes else "concat"

        dims: dict[str, Any] = {f"{part}_dim": inputs for part, (inputs, _) in conditioned.items()}
        settings: dict[str, Any] = {
            **sizes,
            **({} if as_nodes else {f"{part}_embed_dim": size for part, size in embedded.items()}),
        }

        def build() -> nn.Module:
            return CJEPA(
                LatentSpec(num_slots=_ANY, slot_dim=slot_dim, **dims),
                history_frames=history,
                pred_frames=future,
                heads=heads,
                num_masked=0,
                extra_mask_token=token,
                conditioning=conditioning,
                **settings,
            )

        notes = []
        if conditioned:
            title = "a C-JEPA world model with actions"
            how = "nodes of their own" if as_nodes else "channels of every slot"
            notes.append(f"actions and proprioception are {how}")
        return Imported(
            title=title,
            tensors=kept,
            build=build,
            sizes={
                "slot_dim": slot_dim,
                **settings,
                "frames": frames,
                "extra_mask_token": token,
                **dims,
            },
            assumed=assumed,
            use=(
                *("--method", "cjepa"),
                *times,
                *(f"method.{key}={value}" for key, value in settings.items()),
                f"method.heads={_HEADS}",
                *(() if token else ("method.extra_mask_token=false",)),
                *(() if as_nodes else ("method.conditioning=concat",)),
                *EVALUATED,
            ),
            dropped=dropped,
            notes=notes,
        )


def _renamed(name: str) -> str:
    name = name.removeprefix("model.")
    bare = name.partition(".")[0] in ("mask_token", "time_pos_embed", "id_projector", "transformer", "to_out")
    return f"predictor.{name}" if bare else name


def _embeds(tensors: Mapping[str, Tensor], part: str) -> bool:
    return f"{part}_encoder.patch_embed.weight" in tensors


def _widths(shapes: Shapes, part: str) -> tuple[int, int]:
    name = f"{part}_encoder.patch_embed.weight"
    return shapes.size(name, 1, axes=3), shapes.size(name, 0, axes=3)
