"""The task: its settings, its metrics, how it is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ocwm.context import Evaluation, RunContext, Workspace
from ocwm.errors import BenchError
from ocwm.evidence import Evidence, Shown
from ocwm.interfaces import Encoder, Reference, WorldModel
from ocwm.types import Metric
from ocwm_tasks.clevrer.pipeline import Pipeline
from ocwm_tasks.clevrer.scene import ROLLOUT_FRAMES
from ocwm_tasks.clevrer.task import ClevrerTask
from ocwm_tasks.interactions.evaluation import evaluate, truth_key
from ocwm_tasks.interactions.measures import declare
from ocwm_tasks.interactions.truth import HORIZON, SEEN_FOR, VERSION


class InteractionsTask(ClevrerTask):
    """Who influences whom, on the videos that `clevrer` generates; world models are trained as there.

    Args:
        cuts: frames at which objects are removed.
        affected: world units from which on an object counts as moved by a removal.
        settings: those of `ClevrerTask` that say what the data is and how world models are trained.
    """

    version: ClassVar[int] = 1

    def __init__(self, *, cuts: Sequence[int] = (48, 80, 112), affected: float = 0.1, **settings: Any) -> None:
        super().__init__(**{**settings, "reasoners": ("symbolic",)})
        if self.root is not None:
            raise BenchError(
                "task.root is set, and interactions need data that can be simulated again", "Leave it out."
            )
        last = ROLLOUT_FRAMES - HORIZON
        if not cuts or len(set(cuts)) < len(cuts) or not all(SEEN_FOR <= cut <= last for cut in cuts):
            raise BenchError(f"task.cuts={list(cuts)} is not possible", f"Choose frames from {SEEN_FOR} to {last}.")
        if affected <= 0:
            raise BenchError(f"task.affected={affected:g} is no distance", "Choose more than 0.")
        self.cuts = tuple(sorted(cuts))
        self.affected = float(affected)

    def metrics(self) -> tuple[Metric, ...]:
        """Influence, counterfactual rollouts, errors by time since a collision."""
        return declare()

    def versions(self) -> Mapping[str, Any]:
        """Those of the data and of the probe, and that of the simulated truth."""
        return {**super().versions(), "truth": VERSION}

    def refuses(self, model: type[WorldModel] | type[Reference], encoder: Encoder) -> str:
        """Say what this pair lacks."""
        if encoder.reads != "state":
            return "removals are simulated as states (set encoder=state)"
        if issubclass(model, Reference) and model.privileged == "future":
            return "it reads the real future, in which nothing is removed (use resimulated)"
        return super().refuses(model, encoder)

    def stages(self, workspace: Workspace) -> Mapping[str, Mapping[str, Any]]:
        """Keys of the cached stages."""
        pipeline = Pipeline(self, workspace)
        return {**pipeline.keys(), "truth": truth_key(self, pipeline)}

    def run(self, context: RunContext) -> Evaluation:
        """Do all stages and measure."""
        return evaluate(self, context)

    def evidence(self, runs: Sequence[Shown], workspace: Workspace, *, count: int) -> Sequence[Evidence]:
        """Nothing of single pairs."""
        return ()
