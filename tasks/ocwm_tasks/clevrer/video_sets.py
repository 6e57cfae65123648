"""The videos of a split as pixels, one read at a time.

Shape letters: T frames, H, W image height and width, n objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocwm.artifacts import digest
from ocwm.errors import BenchError
from ocwm.videos import ObjectTruth, Videos
from ocwm_tasks.clevrer.annotation import read_annotation
from ocwm_tasks.clevrer.dataset import Dataset
from ocwm_tasks.clevrer.embedded import EmbeddedDataset
from ocwm_tasks.clevrer.scene import COLORS, MATERIALS, OBSERVED_FRAMES, ROLLOUT_FRAMES, SHAPES, Scene
from ocwm_tasks.clevrer.video import frame_size, read_frames

KEPT = 4  # decoded videos that are kept for the next question about them


class EmbeddedVideos(Videos):
    """Videos of generated data, with their future, masks and objects.

    Args:
        dataset: the data.
        split: on disk.
        indices: numbers of the videos.
        elsewhere: data that holds the frames of the videos that were not rendered with the data; None where none lacks.
        manifest: sha256 that identifies the data.
    """

    length = ROLLOUT_FRAMES
    observed = OBSERVED_FRAMES

    def __init__(
        self,
        dataset: EmbeddedDataset,
        split: str,
        indices: Sequence[int],
        *,
        elsewhere: EmbeddedDataset | None,
        manifest: str,
    ) -> None:
        self.ids = np.array(indices, dtype=np.int64)
        self.size = dataset.frame_size()
        self.manifest = digest({"data": manifest, "split": split, "videos": list(indices)})
        self._dataset, self._split = dataset, split
        self._elsewhere = elsewhere
        self._scenes = dataset.scenes(split, future=True)
        self._rendered = frozenset(dataset.indices(split, "videos"))
        self._past = lru_cache(KEPT)(lambda index: self._place(index).frames(split, index))
        self._future = lru_cache(KEPT)(lambda index: self._place(index).future_frames(split, index))
        self._masks = lru_cache(KEPT)(lambda index: self._place(index).masks(split, index))

    def frames(self, video: int, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Frames (T, H, W, 3); those of the future lie in a file of their own and are read only where asked for."""
        index, stop = int(self.ids[video]), self.length if stop is None else stop
        parts = []
        if start < self.observed:
            parts.append(self._past(index)[start:stop])
        if stop > self.observed:
            parts.append(self._future(index)[max(start - self.observed, 0) : stop - self.observed])
        return np.concatenate(parts)

    def masks(self, video: int, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Instance masks (T, H, W)."""
        masks: NDArray[np.uint8] = self._masks(int(self.ids[video]))[start:stop]
        return masks

    def objects(self, video: int) -> ObjectTruth:
        """Objects from the simulator's state, to frame 159."""
        return object_truth(self._scenes.of(int(self.ids[video])))

    def _place(self, index: int) -> EmbeddedDataset:
        if index in self._rendered:
            return self._dataset
        assert self._elsewhere is not None, "videos that were not rendered with the data are rendered elsewhere"
        return self._elsewhere


class OfficialVideos(Videos):
    """Videos of a folder in the official layout: 128 frames of native size, without masks and without future.

    Args:
        dataset: the data.
        split: on disk.
        indices: numbers of the videos.
    """

    length = observed = OBSERVED_FRAMES

    def __init__(self, dataset: Dataset, split: str, indices: Sequence[int]) -> None:
        files = dataset.files(split)
        self._paths: Mapping[int, Path] = files.videos
        self._annotations = {
            index: path for index, path in files.annotations.items() if index not in dataset.skipped(split)
        }
        self.ids = np.array(indices, dtype=np.int64)
        self.size = frame_size(self._paths[int(self.ids[0])])
        self.manifest = digest([[index, self._paths[index].stat().st_size] for index in indices])
        self._decoded = lru_cache(KEPT)(lambda index: read_frames(self._paths[index], length=OBSERVED_FRAMES))

    def frames(self, video: int, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Frames (T, H, W, 3)."""
        index = int(self.ids[video])
        frames: NDArray[np.uint8] = self._decoded(index)
        if frames.shape[1:3] != self.size:
            raise BenchError(
                f"{self._paths[index]} has frames of {frames.shape[1]} x {frames.shape[2]} pixels, the first video of "
                f"its split {self.size[0]} x {self.size[1]}",
                "All videos must have one size.",
            )
        return frames[start:stop]

    def objects(self, video: int) -> ObjectTruth | None:
        """Objects of the annotation, where there is one."""
        index = int(self.ids[video])
        path = self._annotations.get(index)
        return None if path is None else object_truth(read_annotation(path, index=index))


def object_truth(scene: Scene) -> ObjectTruth:
    """The objects of a scene; attributes are numbers in the constants of `scene`."""
    known = np.isfinite(scene.positions).all(axis=-1)
    labels = {
        "color": [COLORS.index(thing.color) for thing in scene.objects],
        "material": [MATERIALS.index(thing.material) for thing in scene.objects],
        "shape": [SHAPES.index(thing.shape) for thing in scene.objects],
    }
    return ObjectTruth(
        positions=scene.positions,
        visible=scene.visible & known,
        labels={name: np.array(ids, dtype=np.int64) for name, ids in labels.items()},
    )
