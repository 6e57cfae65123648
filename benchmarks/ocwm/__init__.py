"""The engine of a benchmark harness for object-centric world models. The public names are imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ocwm.context import DataReport, Evaluation, RunContext, Workspace
    from ocwm.errors import BenchError
    from ocwm.interfaces import Encoder, Reference, RolloutReference, Task, WorldModel
    from ocwm.schemas import Seeds
    from ocwm.types import ClipSpec, LatentBatch, LatentSpec, Metric, MetricValue, Observations

__version__ = "0.1.0"

__all__ = [
    "BenchError",
    "ClipSpec",
    "DataReport",
    "Encoder",
    "Evaluation",
    "LatentBatch",
    "LatentSpec",
    "Metric",
    "MetricValue",
    "Observations",
    "Reference",
    "RolloutReference",
    "RunContext",
    "Seeds",
    "Task",
    "Workspace",
    "WorldModel",
]

_HOMES = {
    "BenchError": "ocwm.errors",
    **dict.fromkeys(("DataReport", "Evaluation", "RunContext", "Workspace"), "ocwm.context"),
    **dict.fromkeys(("Encoder", "Reference", "RolloutReference", "Task", "WorldModel"), "ocwm.interfaces"),
    "Seeds": "ocwm.schemas",
    **dict.fromkeys(("ClipSpec", "LatentBatch", "LatentSpec", "Metric", "MetricValue", "Observations"), "ocwm.types"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ocwm' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
