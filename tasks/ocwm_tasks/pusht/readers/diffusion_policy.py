"""The human demonstrations of Diffusion Policy (arXiv 2303.04137), `pusht_cchi_v7_replay.zarr`.

    data/state           (F, 5): agent x, y, block x, y, angle
    data/action          (F, 2): target of the agent, in px
    data/img             (F, 96, 96, 3)
    meta/episode_ends    row after the last of each episode

The agent's velocity was not recorded, but it is determined: the agent is driven by the controller alone, nothing stops it.
So it is computed from the recorded targets, starting at rest.

Shape letters: F rows of all episodes, T rows of one.
"""

from __future__ import annotations

import itertools
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocwm.artifacts import digest
from ocwm.errors import BenchError
from ocwm_tasks.pusht.episodes import Episodes
from ocwm_tasks.pusht.readers.data_set import PushtData
from ocwm_tasks.pusht.readers.stored_frames import ArrayFrames
from ocwm_tasks.pusht.readers.zarr_array import ZarrArray
from ocwm_tasks.pusht.simulator import K_P, K_V, TICK, TICKS_PER_STEP
from ocwm_tasks.pusht.state import ACTION_SCALE, ANGLE, wrap


def find_zarr(root: Path) -> Path | None:
    """Return the zarr folder: the root, or the only one in it; None where there is none."""
    candidates = [root, *sorted(root.glob("*.zarr"))]
    found = [path for path in candidates if (path / "meta" / "episode_ends" / ".zarray").is_file()]
    return found[0] if len(found) == 1 else None


class DiffusionPolicyData(PushtData):
    """Demonstrations without splits."""

    kind = "diffusion_policy"
    origins = ("train",)
    notes = ("The agent's velocity was not recorded; it is computed from the recorded targets.",)

    @cached_property
    def _zarr(self) -> Path:
        found = find_zarr(self.root)
        assert found is not None, "the layout was recognised"
        return found

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """All files of the zarr folder."""
        return tuple(sorted(path for path in self._zarr.rglob("*") if path.is_file()))

    @cached_property
    def contents(self) -> tuple[Path, ...]:
        """Chunks of states, actions and episode ends."""
        kept = {self._zarr / "data" / "state", self._zarr / "data" / "action", self._zarr / "meta" / "episode_ends"}
        return tuple(path for path in self.files if path.parent in kept)

    def read(self, origin: str) -> Episodes:
        """Read the demonstrations; their frames stay in the zarr folder."""
        states = ZarrArray(self._zarr / "data" / "state", width=5).rows().astype(np.float64)
        targets = ZarrArray(self._zarr / "data" / "action", width=2).rows().astype(np.float64)
        ends = ZarrArray(self._zarr / "meta" / "episode_ends").rows().astype(np.int64)
        offsets = np.concatenate([[0], ends])
        if len(targets) != len(states) or (np.diff(offsets) < 1).any() or offsets[-1] != len(states):
            raise BenchError(
                f"{self._zarr}: {len(states)} states, {len(targets)} actions and episodes to row {offsets[-1]} do not fit",
                "Copy or download it again.",
            )
        spans = list(itertools.pairwise(offsets.tolist()))
        velocities = [driven(states[low, :2], targets[low : high - 1])[1] for low, high in spans]
        states[:, ANGLE] = wrap(states[:, ANGLE])
        ids = np.arange(len(ends))
        source = None
        if (self._zarr / "data" / "img" / ".zarray").is_file():
            frames = ZarrArray(self._zarr / "data" / "img")
            firsts = dict(zip(ids.tolist(), offsets[:-1].tolist(), strict=True))
            source = ArrayFrames(
                lambda start, stop: frames.rows(start, stop).round().astype(np.uint8),
                firsts,
                identity=digest(frames.about),
            )
        return Episodes(
            np.concatenate([states, np.concatenate(velocities)], axis=1),
            ((targets - states[:, :2]) / ACTION_SCALE).astype(np.float32),
            offsets,
            ids,
            source=source,
            about={"kind": self.kind, "split": origin, "velocities": "computed", "exact_replay": False},
        )


def driven(
    start2: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Drive the agent from rest at a position (2,) towards targets (T, 2) in px, 0.1 s each.

    Returns:
        Positions in px and velocities in px/s, (T + 1, 2) each: the agent's of the simulator.
    """
    driven_axes = [_driven_axis(float(start2[axis]), targets[:, axis].tolist()) for axis in range(2)]
    positions, velocities = (np.array([axis[part] for axis in driven_axes]).T for part in range(2))
    return positions, velocities


def _driven_axis(position: float, targets: list[float]) -> tuple[list[float], list[float]]:
    """`driven` along one axis; plain numbers, which for so few are ten times as fast as arrays."""
    velocity = 0.0
    positions, velocities = [position], [velocity]
    for target in targets:
        for _ in range(TICKS_PER_STEP):
            velocity += (K_P * (target - position) + K_V * (0.0 - velocity)) * TICK
            position += velocity * TICK
        positions.append(position)
        velocities.append(velocity)
    return positions, velocities
