"""Checkpoints: one safetensors file with JSON in its header, written atomically and verified when read."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from ocwm.errors import BenchError
from ocwm.whole_files import write_whole

_HEADER = "ocwm"
_DIGEST = "sha256"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds: tensors by name, and the JSON that was saved with them."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names start with `prefix`, by the rest of their names."""
        return {name[len(prefix) :]: value for name, value in self.tensors.items() if name.startswith(prefix)}


def save(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write `tensors` and the JSON-able `meta` to `path`, replacing it only when the new file is complete on disk.

    Args:
        path: target, by convention `*.safetensors`; its folder is made when missing.
        tensors: any devices and types; tensors that share memory are stored separately.
        meta: plain dicts, lists, texts, numbers, booleans and None.

    Raises:
        BenchError: when the file cannot be written (disk full, no permission); an older `path` is left as it was.
    """
    copies = {name: _independent(tensor) for name, tensor in tensors.items()}
    text = json.dumps(meta)
    header, content = _ordered(serialize(copies, metadata={_HEADER: text, _DIGEST: _digest(copies, text)}))
    try:
        write_whole(path, header, content)
    except OSError as error:
        raise _write_error(path, error) from error


def load(path: Path, *, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint that `save` wrote, with its tensors on `device`.

    Raises:
        BenchError: when the file is missing, cannot be read, or is damaged (bytes lost or changed).
    """
    hint = "Delete it, or run again with --rebuild, to make it anew."
    if not path.is_file():
        raise BenchError(f"no checkpoint at {path}", "Check the path, or run the training that writes it.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise BenchError(f"damaged checkpoint {path}: {error}", hint) from error
    except OSError as error:
        raise BenchError(f"could not read the checkpoint {path}: {error.strerror or error}", hint) from error
    if _HEADER not in header or _DIGEST not in header:
        raise BenchError(f"{path} is a safetensors file, but no checkpoint of this program", hint)
    if _digest(tensors, header[_HEADER]) != header[_DIGEST]:
        raise BenchError(f"damaged checkpoint {path}: its content does not match its checksum", hint)
    moved = {name: tensor.to(device) for name, tensor in tensors.items()}
    return Checkpoint(tensors=moved, meta=json.loads(header[_HEADER]))


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], *, source: Path | str) -> None:
    """Load a state dict strictly: the same names and shapes, nothing missing, nothing left over.

    Raises:
        BenchError: naming `source` and the first name or shape that does not fit.
    """
    ours = model.state_dict()
    hint = "It was made with another model or other sizes: check the method's settings."
    for problem, names in (("lacks", ours.keys() - tensors.keys()), ("has the unknown", tensors.keys() - ours.keys())):
        if names:
            first, more = sorted(names)[0], f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise BenchError(f"{source} {problem} weight '{first}'{more} for {type(model).__name__}", hint)
    for name, tensor in tensors.items():
        if tensor.shape != ours[name].shape:
            raise BenchError(f"{source}: '{name}' is {tuple(tensor.shape)}, not {tuple(ours[name].shape)}", hint)
    model.load_state_dict(dict(tensors))


def initial_weights(init: str, *, key: str) -> Path:
    """Return the file that a setting names as weights to start from.

    Raises:
        BenchError: it is not there.
    """
    path = Path(init).expanduser()
    if not path.is_file():
        raise BenchError(f"no weights at {key}={init}", "Name a file that `bench import` or a training has written.")
    return path


def _independent(tensor: Tensor) -> Tensor:
    """Return a contiguous CPU copy; the file format refuses tensors that share memory (tied weights)."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _ordered(serialized: bytes) -> tuple[bytes, memoryview]:
    """Return header and data of a safetensors file with the keys of the header in a fixed order.

    The library writes the metadata in an order that changes from call to call, and weights are told apart by the hash of
    their file.
    """
    size = int.from_bytes(serialized[:8], "little")
    text = json.dumps(json.loads(serialized[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data stays aligned
    return len(text).to_bytes(8, "little") + text, memoryview(serialized)[8 + size :]


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """Hash names, types, shapes, values and the JSON text."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _write_error(path: Path, error: OSError) -> BenchError:
    kept = "The checkpoint from before is kept; " if path.exists() else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BenchError(f"the disk is full: could not write {path}", f"{kept}free some space and run again.")
    return BenchError(f"could not write {path}: {error.strerror or error}", f"{kept}mend that and run again.")
