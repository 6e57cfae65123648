"""Arrays of zarr folders, version 2, that are cut along their first axis only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm.errors import BenchError

_HINT = "Copy or download it again."


class ZarrArray:
    """One array. `about` is its header, `shape` its shape.

    Args:
        folder: that holds `.zarray` and the chunks.
        width: that its second axis must have; None for any array.

    Raises:
        BenchError: the header is missing, damaged, or asks for what is not known here.
    """

    def __init__(self, folder: Path, *, width: int | None = None) -> None:
        from numcodecs import get_codec

        try:
            about: dict[str, Any] = json.loads((folder / ".zarray").read_text(encoding="utf-8"))
            self.shape: tuple[int, ...] = tuple(about["shape"])
            self._chunk: tuple[int, ...] = tuple(about["chunks"])
            self._dtype = np.dtype(about["dtype"])
            codec = about["compressor"]
            self._codec = get_codec(codec) if codec else None
            plain = about["zarr_format"] == 2 and about["order"] == "C" and not about["filters"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BenchError(f"{folder} holds no zarr array ({error})", _HINT) from error
        self.about, self._folder = about, folder
        if not plain or self._chunk[1:] != self.shape[1:]:
            raise BenchError(
                f"{folder} is a zarr array of an unknown layout", "Write it as zarr 2, in chunks of whole rows."
            )
        if width is not None and self.shape[1:] != (width,):
            raise BenchError(f"{folder} has shape {self.shape}, expected (rows, {width})", "Is it a Push-T data set?")
        self._separator = about.get("dimension_separator", ".")

    def rows(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return rows start .. stop - 1 of the first axis.

        Raises:
            BenchError: a chunk is damaged.
        """
        stop = self.shape[0] if stop is None else stop
        size = self._chunk[0]
        chunks = [self._read(number) for number in range(start // size, -(-stop // size))]
        if not chunks:
            return np.empty((0, *self.shape[1:]), self._dtype)
        first = start // size * size
        return np.concatenate(chunks)[start - first : stop - first]

    def _read(self, number: int) -> NDArray[Any]:
        path = self._folder / self._separator.join([str(number), *("0" for _ in self.shape[1:])])
        if not path.exists():  # zarr leaves out what holds nothing but the fill value
            return np.full(self._chunk, self.about["fill_value"] or 0, dtype=self._dtype)
        try:
            data = path.read_bytes()
            decoded = self._codec.decode(data) if self._codec else data
            return np.frombuffer(decoded, dtype=self._dtype).reshape(self._chunk)
        except (OSError, ValueError, RuntimeError) as error:
            raise BenchError(f"the chunk {path} is damaged ({error})", _HINT) from error
