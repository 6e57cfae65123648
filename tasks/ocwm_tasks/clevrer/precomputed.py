"""The `precomputed` encoder: slots that exist already, from a published slot pickle or a store made from one.

Shape letters: B videos, T frames, N slots, D slot dimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from ocwm.artifacts import Cache
from ocwm.errors import BenchError, suggest
from ocwm.folders import work_folder
from ocwm.interfaces import Encoder
from ocwm.types import LatentBatch, Observations
from ocwm_tasks.clevrer.scene import OBSERVED_FRAMES, ROLLOUT_FRAMES
from ocwm_tasks.clevrer.slots_store import SlotSplit, SlotStore

FUTURES = ("real", "imagined")


class PrecomputedSlots(Encoder):
    """Hands out the stored slots of each video by its number; which object a slot holds is not known.

    The files are those that StoSAVi (SlotFormer, arXiv 2210.05861) and C-JEPA (arXiv 2602.11389) publish. A pickle is
    converted into a store in the work folder when it is met for the first time. Nothing is read before it is asked for.

    Args:
        slots: a slot pickle, or the folder of a store.
        future: what the frames after the observed ones are, where there are any: "real" (encoded from real frames) or
            "imagined" (a model's rollout, as in the published files `rollout_*.pkl`). The files don't tell.
        num_slots, slot_dim: what the slots must be like; None takes them as they are.
        home: work folder, see `runtime.home`.
    """

    version: ClassVar[int] = 1
    reads: ClassVar[Literal["state", "pixels"]] = "pixels"

    def __init__(
        self,
        *,
        slots: str,
        future: str | None = None,
        num_slots: int | None = None,
        slot_dim: int | None = None,
        home: str | None = None,
    ) -> None:
        if future is not None and future not in FUTURES:
            raise BenchError(f"encoder.future={future} is not known", suggest(str(future), FUTURES))
        self.path = Path(slots).expanduser()
        self.future = future
        self._wanted = num_slots, slot_dim
        self._home = home

    @cached_property
    def store(self) -> SlotStore:
        """The opened store, as the configuration wants it.

        Raises:
            BenchError: no slots, other sizes than configured, or frames after the observed ones of unknown origin.
        """
        store = SlotStore.open(self.path, cache=Cache(work_folder(self._home)))
        frames, slots, width = store.shape
        num_slots, slot_dim = self._wanted
        store.expect(
            num_slots=slots if num_slots is None else num_slots,
            slot_dim=width if slot_dim is None else slot_dim,
            frames=(OBSERVED_FRAMES, ROLLOUT_FRAMES),
        )
        more = frames - OBSERVED_FRAMES
        if more and self.future is None:
            raise BenchError(
                f"the slots of {self.path} go on for {more} frames after the {OBSERVED_FRAMES} observed ones",
                "Set encoder.future=real if they were encoded from real frames, encoder.future=imagined if a model "
                "has predicted them.",
            )
        if not more and self.future is not None:
            raise BenchError(
                f"encoder.future={self.future}: the slots of {self.path} end with the {frames} observed frames",
                f"Leave encoder.future out, or give slots of {ROLLOUT_FRAMES} frames.",
            )
        return store

    @property
    def num_slots(self) -> int:
        """Number of slots N."""
        return self.store.shape[1]

    @property
    def slot_dim(self) -> int:
        """Width D of a slot."""
        return self.store.shape[2]

    @cached_property
    def splits(self) -> Mapping[str, SlotSplit]:
        """The stored slots: of train, validation and test."""
        return {name: self.store.split(name) for name in self.store.splits}

    def encode(self, observations: Observations, carry: Any = None) -> tuple[LatentBatch, Any]:
        """Look up all frames of the videos `observations.ids`, whose frames are not read: (B, T, N, D). No carry.

        Raises:
            BenchError: a video without slots.
        """
        rows = []
        for video in observations.ids.tolist():
            if video not in self._places:
                raise BenchError(f"video {video} has no slots in {self.path}", f"{len(self._places)} videos have.")
            split, row = self._places[video]
            rows.append(self.splits[split].slots[row])
        return LatentBatch(torch.from_numpy(np.stack(rows))), None

    @cached_property
    def _places(self) -> Mapping[int, tuple[str, int]]:
        """Split and row of each video."""
        places: dict[int, tuple[str, int]] = {}
        for name, split in self.splits.items():
            for row, video in enumerate(split.videos.tolist()):
                if video in places:
                    raise BenchError(
                        f"{self.path} names video {video} in {places[video][0]} and in {name}", "Keep one of the two."
                    )
                places[video] = name, row
        return places
