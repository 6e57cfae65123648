"""DINOv2 (arXiv 2304.07193), with and without registers (arXiv 2309.16588), from the transformers library.

Shape letters: M images, P patches, D token width, H height, W width.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from ocwm.errors import BenchError
from ocwm_encoders.backbone_files import CONFIG, WEIGHTS, read_config

HUB_OFFSET = 0.1  # of torch.hub's DINOv2, in patches

# Parameter names of transformers 4, which published checkpoints have, and what transformers 5 calls them.
_RENAMED = (
    (r"(encoder\.layer\.\d+\.attention)\.attention\.query\.", r"\1.q_proj."),
    (r"(encoder\.layer\.\d+\.attention)\.attention\.key\.", r"\1.k_proj."),
    (r"(encoder\.layer\.\d+\.attention)\.attention\.value\.", r"\1.v_proj."),
    (r"(encoder\.layer\.\d+\.attention)\.output\.dense\.", r"\1.o_proj."),
)
_RENAMED_BACK = (
    (r"(encoder\.layer\.\d+\.attention)\.q_proj\.", r"\1.attention.query."),
    (r"(encoder\.layer\.\d+\.attention)\.k_proj\.", r"\1.attention.key."),
    (r"(encoder\.layer\.\d+\.attention)\.v_proj\.", r"\1.attention.value."),
    (r"(encoder\.layer\.\d+\.attention)\.o_proj\.", r"\1.output.dense."),
)


def build_backbone(sizes: Mapping[str, Any], *, registers: bool = False) -> nn.Module:
    """Return a DINOv2 as transformers initialises it, from torch's global generator.

    Args:
        sizes: settings of `Dinov2Config`: hidden_size, num_hidden_layers, num_attention_heads, image_size, mlp_ratio, ...
        registers: build the variant with register tokens (`num_register_tokens` among the sizes).

    Raises:
        BenchError: transformers refuses the sizes.
    """
    config_class, model_class = _classes(registers=registers)
    if sizes.get("hidden_size", 1) % sizes.get("num_attention_heads", 1):
        raise BenchError(
            f"hidden_size={sizes['hidden_size']} is no multiple of num_attention_heads={sizes['num_attention_heads']}",
            "Choose heads that divide the width.",
        )
    backbone: nn.Module = model_class(config_class(**sizes))
    return backbone.eval()


def load_backbone(folder: Path, *, registers: bool = False) -> nn.Module:
    """Read a DINOv2 from a folder that holds config.json and model.safetensors.

    Raises:
        BenchError: the folder holds another model, or its files are damaged or don't fit each other.
    """
    config_class, model_class = _classes(registers=registers)
    hint = f"Name another folder or hub model with encoder.weights, one with {CONFIG} and {WEIGHTS} of a DINOv2."
    found = read_config(folder).get("model_type")
    if found != config_class.model_type:
        raise BenchError(f"{folder} holds a '{found}', not a '{config_class.model_type}'", hint)
    try:
        backbone, report = model_class.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise BenchError(f"can't load the DINOv2 in {folder}: {error}", hint) from error
    if missing := sorted(map(str, report["missing_keys"])):
        raise BenchError(f"{folder / WEIGHTS} lacks {len(missing)} weights, such as '{missing[0]}'", hint)
    loaded: nn.Module = backbone.eval()
    return loaded


def patch_tokens(tokens: Tensor, backbone: nn.Module) -> Tensor:
    """Leave out the class token and the registers: (M, 1 + R + P, D) to (M, P, D)."""
    registers: int = getattr(backbone.config, "num_register_tokens", 0)
    return tokens[:, 1 + registers :]


def features_and_keys(backbone: nn.Module, images_MCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return the patch tokens after the final layer norm, and the last block's attention keys, heads side by side.

    Args:
        backbone: a DINOv2.
        images_MCHW: (M, 3, H, W), normalised; sides are multiples of the patch size.

    Returns:
        (M, P, D) and (M, P, D); keys are those of the block's input after its first layer norm.
    """
    output = backbone(images_MCHW, output_hidden_states=True)
    last: Any = backbone.encoder.layer[-1]  # type: ignore[union-attr,index]
    attention = last.attention
    key = attention.k_proj if hasattr(attention, "k_proj") else attention.attention.key
    keys = key(last.norm1(output.hidden_states[-2]))
    return patch_tokens(output.last_hidden_state, backbone), patch_tokens(keys, backbone)


def resize_positions_as_hub(backbone: nn.Module, patches: int) -> None:
    """Replace the position table by one for `patches` x `patches`, resized as torch.hub's DINOv2 does.

    Its scale is (patches + 0.1) / table length where transformers takes patches / table length: bicubic without
    antialias both, but every position is read a little earlier. A table of the right size stays as it is.
    """
    table = backbone.embeddings.position_embeddings  # type: ignore[union-attr]
    assert isinstance(table, Tensor)
    length = round((table.shape[1] - 1) ** 0.5)
    if length == patches:
        return
    grid = table[:, 1:].reshape(1, length, length, -1).permute(0, 3, 1, 2)
    scale = (patches + HUB_OFFSET) / length
    resized = functional.interpolate(grid, scale_factor=(scale, scale), mode="bicubic", align_corners=False)
    rows = resized.permute(0, 2, 3, 1).flatten(1, 2)
    assert rows.shape[1] == patches**2, (rows.shape, patches)
    positions = nn.Parameter(torch.cat([table[:, :1], rows], dim=1), requires_grad=table.requires_grad)
    backbone.embeddings.position_embeddings = positions  # type: ignore[union-attr]


def rename(names: Iterable[str], *, known: Iterable[str]) -> dict[str, str]:
    """Map published parameter names to those of the installed transformers, whichever version that is.

    Args:
        names: names as in a file; those that are known already map to themselves.
        known: the names that the model has.

    Returns:
        Name in the file -> name in the model; unknown names are left as they are.
    """
    has = set(known)

    def translated(name: str) -> str:
        for rules in (_RENAMED, _RENAMED_BACK):
            new = _substituted(name, rules)
            if name not in has and new in has:
                return new
        return name

    return {name: translated(name) for name in names}


def published(name: str) -> str:
    """Return the published form of a parameter's name."""
    return _substituted(name, _RENAMED_BACK)


def _classes(*, registers: bool) -> tuple[Any, Any]:
    import transformers  # takes seconds, so it waits until a backbone is built

    if registers:
        return transformers.Dinov2WithRegistersConfig, transformers.Dinov2WithRegistersModel
    return transformers.Dinov2Config, transformers.Dinov2Model


def _substituted(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
