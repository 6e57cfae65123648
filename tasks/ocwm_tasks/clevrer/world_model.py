"""Trains the world model on the latents of the training videos.

Shape letters: V videos, T frames, N slots, D slot dimension.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from ocwm.checkpoint import load, save
from ocwm.interfaces import WorldModel
from ocwm.progress import Progress
from ocwm.trainer import FitReport, fit
from ocwm.trainer_config import TrainerConfig
from ocwm_tasks.clevrer.windows import ClipSet

Curve = list[dict[str, float]]
WEIGHTS, CURVE = "model.safetensors", "curve.json"


def train_world_model(
    model: WorldModel,
    clips: ClipSet,
    config: TrainerConfig,
    *,
    seed: int,
    work: Path,
    out: Path,
    device: torch.device,
    progress: Progress,
    validate: Callable[[WorldModel], Mapping[str, float]],
) -> FitReport:
    """Train, going on from the checkpoint in `work` where there is one, and write weights and learning curve to `out`."""
    report = fit(model, clips, config, seed=seed, folder=work, device=device, progress=progress, validate=validate)
    save(out / WEIGHTS, model.state_dict(), {"steps": report.steps})
    (out / CURVE).write_text(json.dumps(report.curve))
    return report


def load_world_model(model: WorldModel, folder: Path, *, device: torch.device) -> Curve:
    """Load the trained weights into the model and return its learning curve."""
    model.load_state_dict(load(folder / WEIGHTS).tensors)
    model.to(device).eval()
    curve: Curve = json.loads((folder / CURVE).read_text())
    return curve
