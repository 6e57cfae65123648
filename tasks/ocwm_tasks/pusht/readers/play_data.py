"""Play data that was made by this package (see `play/make.py`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.pusht.episodes import Episodes, open_episodes
from ocwm_tasks.pusht.play.make import MARKER
from ocwm_tasks.pusht.readers.data_set import SPLITS, PushtData


class PlayData(PushtData):
    """Train, dev and test as they were made; frames are rendered."""

    kind = "embedded"
    origins = SPLITS

    def read(self, origin: str) -> Episodes:
        """Map a split."""
        return open_episodes(self.root / origin)

    def cut(self, split: str) -> tuple[str, NDArray[np.int64]]:
        """A split is what was made as it."""
        return split, np.arange(len(self.origin(split)))

    @property
    def files(self) -> tuple[Path, ...]:
        """The marker and the arrays of all splits."""
        return (self.root / MARKER, *(path for split in SPLITS for path in sorted((self.root / split).iterdir())))

    @property
    def contents(self) -> tuple[Path, ...]:
        """All files."""
        return self.files
