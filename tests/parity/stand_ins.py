"""Files like the published ones, made from the weights of golden vectors: nesting, prefixes, pickled modules.

Classes of pickled modules belong to a package that is gone when the file is read.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

PACKAGE = "published_package"


def save(path: Path, content: Any, *, legacy: bool = False) -> Path:
    """Write a torch file; the package of the pickled classes goes away."""
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    sys.modules.pop(PACKAGE, None)
    return path


def pickled_module(tensors: Mapping[str, Tensor], *, buffers: tuple[str, ...] = (), name: str = "Model") -> nn.Module:
    """A module tree that holds the tensors under their dotted names, of classes that only this process knows.

    Args:
        tensors: by dotted name.
        buffers: names that end like this are buffers.
        name: of the class.
    """
    root = _new(name)
    for dotted, tensor in tensors.items():
        *way, last = dotted.split(".")
        module = root
        for part in way:
            if part not in module._modules:
                module.add_module(part, _new("Part"))
            module = module.get_submodule(part)
        if dotted.endswith(buffers) and buffers:
            module.register_buffer(last, tensor)
        else:
            module.register_parameter(last, nn.Parameter(tensor, requires_grad=False))
    return root


def foreign(name: str, **attributes: Any) -> Any:
    """An object of another class of the package, such as the settings beside a checkpoint."""
    made = _class(name, object)()
    made.__dict__.update(attributes)
    return made


def _new(name: str) -> nn.Module:
    module: nn.Module = _class(name, nn.Module)()
    return module


def _class(name: str, base: type) -> Any:
    package = sys.modules.setdefault(PACKAGE, types.ModuleType(PACKAGE))
    if not hasattr(package, name):
        setattr(package, name, type(name, (base,), {"__module__": PACKAGE}))
    return getattr(package, name)
