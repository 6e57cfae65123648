"""The figures of a Push-T run.

Shape letters: P problems, S steps of the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm.stats import cluster_bootstrap, wilson
from ocwm.types import Metric, MetricValue
from ocwm_tasks.pusht.control import NEVER, Outcomes
from ocwm_tasks.pusht.state import AGENT, ANGLE, BLOCK, turn_between
from ocwm_tasks.pusht.success import block_success, joint_success

NOTHING = MetricValue(value=0.0, n=0)  # declared, but there is nothing to measure it on
OF_EPISODES = "bootstrap over episodes"

SUCCESS = (
    Metric("success.joint.first_hit", "%", True, "agent and block in place and turned right after any step"),
    Metric("success.joint.final", "%", True, "the same after the last step"),
    Metric(
        "success.block.first_hit", "%", True, "block in place and turned right after any step, where it was not before"
    ),
    Metric("success.block.final", "%", True, "the same after the last step"),
)
ERRORS = (
    Metric("error.agent.final", "px", False, "distance of the agent to its goal after the last step"),
    Metric("error.block.final", "px", False, "distance of the block to its goal after the last step"),
    Metric("error.angle.final", "degrees", False, "angle of the block to its goal after the last step"),
)


def declare(*, blocks: Sequence[int], objects_known: bool) -> tuple[Metric, ...]:
    """All metrics of a run: success, what is left of the way, and how far the imagined positions are off.

    Args:
        blocks: horizons of rollouts, in action blocks.
        objects_known: whether positions can be read from the latents.
    """
    rollout = [Metric(f"rollout.slot_error.{h}", "mse", False, f"latent error after {h} action blocks") for h in blocks]
    for name in ("agent", "block") if objects_known else ():
        rollout += [
            Metric(f"rollout.{name}_error.{h}", "px", False, f"imagined {name} after {h} action blocks") for h in blocks
        ]
    return (*SUCCESS, *ERRORS, *rollout)


@dataclass
class Figures:
    """Collects values with intervals, and the items behind them.

    Attributes:
        rng, draws: of the bootstrap.
        values: by metric key.
        items: arrays to be stored beside the record: `KEY`, `KEY@item`, `KEY@cluster`.
    """

    rng: np.random.Generator
    draws: int
    values: dict[str, MetricValue] = field(default_factory=dict)
    items: dict[str, NDArray[Any]] = field(default_factory=dict)

    def add_outcomes(self, outcomes: Outcomes, *, items: NDArray[np.int64], episodes: NDArray[np.int64]) -> None:
        """Add success and what is left of the way; `items` and `episodes` (P,) say which problems these are."""
        final, goals = outcomes.final, outcomes.goals
        everything = np.ones(len(goals), dtype=np.bool_)
        to_move = ~block_success(outcomes.states[:, 0], goals)  # elsewhere doing nothing would count as success
        for key, reached in (
            ("success.joint.first_hit", outcomes.joint_hit != NEVER),
            ("success.joint.final", joint_success(final, goals)),
            ("success.block.first_hit", outcomes.block_hit != NEVER),
            ("success.block.final", block_success(final, goals)),
        ):
            kept = to_move if ".block." in key else everything
            if not kept.any():
                continue
            hits = reached[kept]
            low, high = wilson(int(hits.sum()), len(hits))
            self.values[key] = MetricValue(100 * float(hits.mean()), len(hits), 100 * low, 100 * high, "Wilson")
            self._store(key, hits, items[kept], episodes[kept])
        for key, error in (
            ("error.agent.final", np.linalg.norm(final[:, AGENT] - goals[:, AGENT], axis=1)),
            ("error.block.final", np.linalg.norm(final[:, BLOCK] - goals[:, BLOCK], axis=1)),
            ("error.angle.final", np.degrees(turn_between(final[:, ANGLE], goals[:, ANGLE]))),
        ):
            self.add_errors(key, error, items=items, episodes=episodes)

    def add_errors(
        self, key: str, error: NDArray[Any], *, items: NDArray[np.int64], episodes: NDArray[np.int64]
    ) -> None:
        """Add the mean of an error (P,)."""
        low, high = cluster_bootstrap(error, episodes, rng=self.rng, draws=self.draws)
        self.values[key] = MetricValue(float(error.mean()), len(error), low, high, OF_EPISODES)
        self._store(key, error.astype(np.float32), items, episodes)

    def complete(self, declared: Sequence[Metric]) -> dict[str, MetricValue]:
        """Values of all declared metrics, in their order."""
        return {metric.name: self.values.get(metric.name, NOTHING) for metric in declared}

    def _store(self, key: str, values: NDArray[Any], items: NDArray[np.int64], episodes: NDArray[np.int64]) -> None:
        self.items[key] = values
        self.items[f"{key}@item"] = items.astype(np.int32)
        self.items[f"{key}@cluster"] = episodes.astype(np.int32)
