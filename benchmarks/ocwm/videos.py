"""The videos of a task as pixels: what pixel encoders are trained on, judged on and read.

Shape letters: T frames, H, W image height and width, n objects.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ObjectTruth:
    """What is known about the objects of one video.

    Attributes:
        positions: (T, n, 2) float32, anything where not visible.
        visible: (T, n) bool.
        labels: for each attribute (e.g. "color") the class of each object, (n,) int64.
    """

    positions: NDArray[np.float32]
    visible: NDArray[np.bool_]
    labels: Mapping[str, NDArray[np.int64]]


class Videos(ABC):
    """The videos of one split; they have equally many frames of one size.

    Attributes:
        ids: (V,) int64, the stable number of each video, see `Observations.ids`.
        length: frames T of every video.
        size: height and width of the frames.
        observed: the first so many frames are what a model may see; the rest is the future. Equal to `length` where
            no future is known.
        manifest: sha256 that identifies the videos.
    """

    ids: NDArray[np.int64]
    length: int
    size: tuple[int, int]
    observed: int
    manifest: str

    def __len__(self) -> int:
        """Return the number of videos V."""
        return len(self.ids)

    @abstractmethod
    def frames(self, video: int, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Return frames (T, H, W, 3) RGB of one video, counted from 0 in this split.

        Raises:
            BenchError: the file is missing, damaged or of another length.
        """

    def masks(self, video: int, start: int = 0, stop: int | None = None) -> NDArray[np.uint8] | None:
        """Return instance masks (T, H, W): 0 for the background, o + 1 for object o; None where there are none."""
        return None

    def objects(self, video: int) -> ObjectTruth | None:
        """Return what is known about the objects, in the order of the masks; None where nothing is."""
        return None
