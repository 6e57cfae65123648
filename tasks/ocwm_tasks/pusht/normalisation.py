"""Means and standard deviations that actions and proprioception are scaled by.

Shape letters: E episodes, F rows of all episodes, W width of a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ocwm.errors import BenchError
from ocwm.types import ClipSpec

Values = TypeVar("Values", NDArray[Any], Tensor)


@dataclass(frozen=True)
class Normalisation:
    """(x - mean) / std of the last axis; `mean` and `std` are (W,) float32."""

    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    def apply(self, values: Values) -> Values:
        """Return values (..., W), an array or a tensor, normalised."""
        mean, std = self._like(values)
        scaled: Values = (values - mean) / std
        return scaled

    def invert(self, values: Values) -> Values:
        """Return normalised values (..., W) in their own units."""
        mean, std = self._like(values)
        scaled: Values = values * std + mean
        return scaled

    def repeated(self, times: int) -> Normalisation:
        """Return the same normalisation for `times` values in a row: (times * W,)."""
        return Normalisation(np.tile(self.mean, times), np.tile(self.std, times))

    def _like(self, values: Values) -> tuple[Any, Any]:
        if isinstance(values, Tensor):
            return values.new_tensor(self.mean), values.new_tensor(self.std)
        return self.mean, self.std


def column_statistics(columns: NDArray[Any]) -> Normalisation:
    """Return mean and population standard deviation of columns (F, W), as scikit-learn's StandardScaler does.

    NaN is left out, and a column that does not vary is divided by 1.

    Raises:
        BenchError: a column holds nothing.
    """
    values = np.asarray(columns, dtype=np.float64)
    if not np.isfinite(values).any(axis=0).all():
        raise BenchError(f"no statistics can be made of {len(values)} rows", "Give data with finite values.")
    return _made(np.nanmean(values, axis=0), np.nanvar(values, axis=0))


def clip_statistics(
    columns: NDArray[Any], offsets: NDArray[np.int64], clip: ClipSpec, *, blocks: bool
) -> Normalisation:
    """Return mean and unbiased standard deviation over all clips of a split, as published: rows count once for each clip.

    Args:
        columns: (F, W), the rows of all episodes one after the other.
        offsets: (E + 1,) first row of each episode, and F.
        clip: that the model trains on.
        blocks: of blocks of `clip.stride` rows in a row (actions): statistics (stride * W,), for each place in the block;
            else of the clips' frames, (W,).

    Raises:
        BenchError: no episode is as long as a clip.
    """
    values = np.asarray(columns, dtype=np.float64)
    places = clip.stride if blocks else 1
    counts = np.stack([_uses(offsets, clip, place, rows=len(values)) for place in range(places)])  # (places, F)
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    number = counts @ known
    if not (number > 1).all():
        raise BenchError(
            f"no episode holds a clip of {clip.span} rows (the longest has {int(np.diff(offsets).max(initial=0))})",
            "Lower the model's frame skip or its number of frames, or use longer episodes.",
        )
    mean = counts @ filled / number
    spread = np.stack([row @ np.where(known, filled - mean[place], 0.0) ** 2 for place, row in enumerate(counts)]) / (
        number - 1
    )
    return _made(mean.reshape(-1), spread.reshape(-1))


def _uses(offsets: NDArray[np.int64], clip: ClipSpec, place: int, *, rows: int) -> NDArray[np.float64]:
    """How many clips have each row (F,) as the `place`-th row after one of their frames."""
    changes = np.zeros(rows + 1)
    starts = np.diff(offsets) - clip.span + 1
    first, count = offsets[:-1][starts > 0, None], starts[starts > 0, None]
    lows = first + clip.stride * np.arange(clip.length) + place
    np.add.at(changes, lows, 1)
    np.add.at(changes, lows + count, -1)
    return np.cumsum(changes)[:-1]


def _made(mean: NDArray[np.float64], variance: NDArray[np.float64]) -> Normalisation:
    std = np.sqrt(variance)
    return Normalisation(mean.astype(np.float32), np.where(std > 0, std, 1.0).astype(np.float32))
