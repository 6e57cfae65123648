"""What plugs into `bench import`: readers of published files, registered as `conf/importer/NAME.yaml`.

An importer of weights gets tensors by their published names and gives them back under ours, with the class that they must
fit exactly. An importer of pickles converts files that are too large for memory by itself.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ocwm.errors import BenchError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

EVALUATED = ("trainer.init={file}", "trainer.max_steps=0")  # how a run takes a world model as it is


@dataclass(frozen=True)
class Dropped:
    """Names of a published file that were left out, and why."""

    names: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Imported:
    """Published weights in our names.

    Attributes:
        title: what they are.
        tensors: by the names of our class.
        build: makes our class in the inferred sizes; called on torch's meta device, so that it costs nothing.
        sizes: what the shapes say.
        assumed: what no tensor depends on: setting -> the value that was published for such sizes, or a sentence where
            that can't be known.
        use: what `bench run` needs to use them; "{file}" stands for the written file.
        dropped: what was left out.
        notes: further sentences for the user.
    """

    title: str
    tensors: Mapping[str, Tensor]
    build: Callable[[], nn.Module]
    sizes: Mapping[str, Any]
    assumed: Mapping[str, Any] = field(default_factory=dict)
    use: Sequence[str] = ()
    dropped: Sequence[Dropped] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Converted:
    """What an importer of pickles has written.

    Attributes:
        title: what it is.
        facts: for people and for `--json`.
        use: as for `Imported`.
        notes: further sentences for the user.
    """

    title: str
    facts: Mapping[str, Any]
    use: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class FrameOrder:
    """Which order of colours a reconstruction fits.

    Attributes:
        errors: mean square error for "rgb" and for "bgr".
        configured: the order that the class takes where nothing else is said.
        key: the setting that chooses the order.
    """

    errors: Mapping[str, float]
    configured: str
    key: str


class WeightsImporter(ABC):
    """Reads the weights of one architecture. Built as `cls()`.

    Attributes:
        marks: regular expressions; names of this architecture match every one of them.
        parts: the same for a larger model that this one is a part of.
    """

    marks: ClassVar[tuple[str, ...]]
    parts: ClassVar[tuple[str, ...]] = ()

    def matches(self, names: Collection[str]) -> float:
        """Return from 0 to 1 how much the names are like this architecture's; a part of a larger model counts less."""
        return max(_share(self.marks, names), 0.75 * _share(self.parts, names))

    @abstractmethod
    def convert(self, tensors: Mapping[str, Tensor]) -> Imported:
        """Rename, leave out, infer sizes.

        Raises:
            BenchError: a tensor that a size is inferred from is absent or has another number of axes.
        """

    def frame_order(self, imported: Imported, frames_THWC: NDArray[np.uint8]) -> FrameOrder:
        """Reconstruct video frames (T, H, W, 3) RGB in both orders of colours.

        Raises:
            BenchError: the weights can't reconstruct frames.
        """
        raise BenchError(f"--check-frames: {imported.title} can't reconstruct frames", "Leave the option out.")


class PickleImporter(ABC):
    """Converts a pickle of any size into a folder. Built as `cls()`."""

    @abstractmethod
    def convert(self, path: Path, folder: Path) -> Converted:
        """Convert the file `path` into the empty `folder`, in constant memory.

        Raises:
            BenchError: the file holds something else.
        """


class Shapes:
    """Sizes that the shapes of published tensors tell.

    Args:
        tensors: by name.
        title: of the architecture, for messages.
    """

    def __init__(self, tensors: Mapping[str, Tensor], title: str) -> None:
        self._tensors = tensors
        self._title = title

    def size(self, name: str, axis: int, *, axes: int) -> int:
        """Return the length of one axis of a tensor that has so many `axes`.

        Raises:
            BenchError: there is no such tensor, or it has another number of axes, or it is empty.
        """
        if name not in self._tensors:
            raise BenchError(
                f"the file looks like {self._title}, but lacks '{name}'",
                "It may be another version: --as names another kind.",
            )
        shape = tuple(self._tensors[name].shape)
        if len(shape) != axes or 0 in shape:
            raise BenchError(f"the file looks like {self._title}, but '{name}' is {shape}, which has not {axes} axes")
        return shape[axis]

    def count(self, pattern: str) -> int:
        """Return how many different numbers group 1 of `pattern` has among the names."""
        return len({match[1] for name in self._tensors if (match := re.match(pattern, name))})

    def channels(self, pattern: str, axis: int) -> list[int]:
        """Return the length of an axis of every tensor whose name matches, in the order of the number in group 1."""
        found = {int(match[1]): name for name in self._tensors if (match := re.fullmatch(pattern, name))}
        return [self.size(found[number], axis, axes=4) for number in sorted(found)]


def split_names(tensors: Mapping[str, Tensor], reasons: Mapping[str, str]) -> tuple[dict[str, Tensor], list[Dropped]]:
    """Leave out the names that a regular expression of `reasons` matches, and say why."""
    kept = dict(tensors)
    dropped = []
    for pattern, reason in reasons.items():
        if names := tuple(name for name in kept if re.match(pattern, name)):
            dropped.append(Dropped(names, reason))
            for name in names:
                del kept[name]
    return kept, dropped


def _share(patterns: Sequence[str], names: Collection[str]) -> float:
    if not patterns:
        return 0.0
    return sum(any(re.match(pattern, name) for name in names) for pattern in patterns) / len(patterns)
