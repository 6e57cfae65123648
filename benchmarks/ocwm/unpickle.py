"""Reads foreign pickles and torch files safely: tensors, numpy arrays and plain containers, nothing else."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ocwm.errors import BenchError
from ocwm.pickle_machine import FileSource, PickleMachine, Sink

if TYPE_CHECKING:
    from torch import Tensor

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_PROTOCOL = 1001


def load_pickle(path: Path) -> Any:
    """Return what a pickle of any protocol holds, in memory; every kind of dict comes as a plain dict.

    Raises:
        BenchError: the file is missing, damaged, truncated, or holds a class that is not allowed (named).
    """
    with _open(path) as file:
        source = FileSource(file, size=path.stat().st_size)
        return PickleMachine(source, where=str(path), nested=_nested(str(path))).run()


def stream_arrays(file: IO[bytes], *, size: int, where: str, sink: Sink) -> Any:
    """Walk a pickle in constant memory.

    Args:
        file: the pickle, at its start.
        size: its length in bytes.
        where: its name for messages.
        sink: called with (name, array) for each numpy array as it is met, in file order; the name is the text
            that lies before the array (its key), or None. What it returns takes the array's place.

    Returns:
        What the pickle holds, with the sink's results in place of the arrays.

    Raises:
        BenchError: as `load_pickle`.
    """
    return PickleMachine(FileSource(file, size=size), where=where, sink=sink).run()


def load_torch(path: Path, *, foreign: set[str] | None = None) -> Any:
    """Return what a file of `torch.save` holds (both file formats), on the CPU; parameters come as tensors.

    Args:
        path: the file.
        foreign: takes the names of foreign classes, whose objects come as `ocwm.pickle_builders.Record`, still without
            importing or calling anything; None refuses them.

    Raises:
        BenchError: the file is missing, damaged, truncated, or holds a class that is not allowed (named).
    """
    with _open(path) as file:
        if zipfile.is_zipfile(file):
            return _load_zip(file, where=str(path), foreign=foreign)
        file.seek(0)
        return _load_legacy(file, size=path.stat().st_size, where=str(path), foreign=foreign)


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise BenchError(f"Can't read {path}: {error.strerror}", "Check the path and its permissions.") from error


def _nested(where: str) -> Any:
    return lambda data: _load_legacy(io.BytesIO(data), size=len(data), where=where)


def _load_zip(file: IO[bytes], *, where: str, foreign: set[str] | None) -> Any:
    """Read the format that torch writes since 1.6: a zip file with a pickle and one entry for each storage."""
    import torch

    storages: dict[str, Tensor] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            main = next((name for name in names if name.endswith("/data.pkl")), None)
            if main is None:
                raise BenchError(f"{where} is a zip file, but not one that torch wrote", "Unpack archives first.")
            folder = main.removesuffix("data.pkl")
            order = archive.read(f"{folder}byteorder").decode() if f"{folder}byteorder" in names else "little"
            if order != sys.byteorder:
                raise BenchError(f"{where} was written on a {order}-endian machine", "Save it again on this one.")

            def storage(dtype: str, key: str, numel: int) -> Tensor:
                if key not in storages:
                    data = bytearray(archive.read(f"{folder}data/{key}"))
                    kind = getattr(torch, dtype)
                    storages[key] = torch.frombuffer(data, dtype=kind) if data else torch.empty(0, dtype=kind)
                if storages[key].numel() < numel:
                    raise ValueError(f"storage {key} has {storages[key].numel()} elements, expected {numel}")
                return storages[key]

            data = archive.read(main)
            source = FileSource(io.BytesIO(data), size=len(data))
            return PickleMachine(source, where=where, storages=storage, foreign=foreign).run()
    except zipfile.BadZipFile as error:
        raise BenchError(f"{where} is damaged ({error})", "Copy or download it again.") from error


def _load_legacy(file: IO[bytes], *, size: int, where: str, foreign: set[str] | None = None) -> Any:
    """Read the format that torch wrote before 1.6: five pickles in a row, then the raw storages."""
    import torch

    source = FileSource(file, size=size)
    storages: dict[str, Tensor] = {}

    def storage(dtype: str, key: str, numel: int) -> Tensor:
        if key not in storages:
            kind = getattr(torch, dtype)
            if numel * kind.itemsize > size:
                raise ValueError(f"storage {key} is larger than the file")
            storages[key] = torch.zeros(numel, dtype=kind)
        return storages[key]

    def read() -> Any:
        return PickleMachine(source, where=where, storages=storage, foreign=foreign).run()

    magic, protocol = read(), read()
    if (magic, protocol) != (_TORCH_MAGIC, _TORCH_PROTOCOL):
        raise BenchError(f"{where} is no file of torch.save", "Give a checkpoint that torch.save wrote.")
    if not read().get("little_endian", True):
        raise BenchError(f"{where} was written on a big-endian machine", "Save it again on this one.")
    result, keys = read(), read()
    for key in keys:
        elements = storages[str(key)]
        source.read(8)  # the number of elements, known already
        data = source.read(elements.numel() * elements.element_size())
        if source.short:
            raise BenchError(f"{where} ends early: it is truncated", "Copy or download it again.")
        if data:
            elements.copy_(torch.frombuffer(bytearray(data), dtype=elements.dtype))
    return result
