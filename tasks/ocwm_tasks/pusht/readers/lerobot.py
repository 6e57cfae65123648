"""LeRobot's copy of the demonstrations (`lerobot/pusht`): it can be described, but not be planned on.

    meta/info.json      counts and columns
    meta/stats.json     mean and deviation of each column (optional)

Its state is the agent's position alone: where the block is can only be seen.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from ocwm.errors import BenchError
from ocwm_tasks.pusht.episodes import Episodes
from ocwm_tasks.pusht.readers.data_set import PushtData

INFO = Path("meta") / "info.json"


class LeRobotData(PushtData):
    """Counts and statistics only."""

    kind = "lerobot"
    origins = ()
    splits = ()
    notes = ("The block's pose was not recorded: starts can't be set and goals not be judged.",)

    def read(self, origin: str) -> Episodes:
        """Refuse. Errors: BenchError."""
        raise BenchError(
            f"{self.root} is a LeRobot data set: it has the agent's position, but not the block's pose",
            "Use Diffusion Policy's pusht_cchi_v7_replay.zarr, which holds the same demonstrations with it.",
        )

    def origin(self, name: str) -> Episodes:
        """Refuse. Errors: BenchError."""
        return self.read(name)

    def episodes(self, split: str) -> Episodes:
        """Refuse. Errors: BenchError."""
        return self.read(split)

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """All files."""
        return tuple(sorted(path for path in self.root.rglob("*") if path.is_file()))

    @property
    def contents(self) -> tuple[Path, ...]:
        """The description."""
        return (self.root / INFO,)

    def manifest(self) -> dict[str, Any]:
        """Add what the description says."""
        info = _json(self.root / INFO)
        stats = self.root / "meta" / "stats.json"
        wanted = ("codebase_version", "total_episodes", "total_frames", "fps")
        return {
            **super().manifest(),
            "info": {name: info.get(name) for name in wanted},
            "statistics": _json(stats) if stats.is_file() else {},
        }


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(f"can't read {path} ({error})", "Copy or download it again.") from error
    if not isinstance(found, dict):
        raise BenchError(f"{path} holds no description", "Copy or download it again.")
    return found
