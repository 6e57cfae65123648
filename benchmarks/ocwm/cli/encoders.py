"""`bench train-encoder`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocwm.cli.interrupts import stoppable
from ocwm.cli.options import Debug, Encoder, Json, Overrides, Preset, Task

if TYPE_CHECKING:
    from ocwm.train_encoder import Trained


def train_encoder(
    encoder: Encoder,
    task: Task,
    overrides: Overrides = None,
    preset: Preset = "mini",
    seed: Annotated[int | None, typer.Option(help="Sets seeds.encoder.", show_default=False)] = None,
    output: Annotated[
        Path | None, typer.Option(help="Weights file to write (default: in the work folder).", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Train anew, and replace the output file.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train an encoder on a task's training videos and write its weights."""
    with stoppable() as stop_here:
        from ocwm import train_encoder as engine
        from ocwm.config import compose
        from ocwm.distributed import processes
        from ocwm.progress import say

        config = compose(
            method=None, task=task, preset=preset, seed=seed, overrides=list(overrides or []), trains=encoder
        )
        with processes(config.runtime.device, timeout_min=config.runtime.timeout) as team:
            with team.together():
                plan = engine.prepare(config, output=None if output is None else output.expanduser().absolute())
            stop_here()
            trained = engine.train(plan, force=force)
    if not team.first:
        return
    if not trained.new:
        say(f"this training is done: {trained.path} (--force trains anew)")
    print(json.dumps({**trained.report, "path": str(trained.path)}, indent=1) if as_json else _text(trained))


def _text(trained: Trained) -> str:
    """Return the end of the learning curve, the weights' size and how to use them."""
    from tabulate import tabulate

    from ocwm.quality import quality_lines

    report, quality = trained.report, trained.report["quality"]
    rows = report["curve"][-5:]
    names = list(dict.fromkeys(name for row in rows for name in row))
    curve = tabulate([[row.get(name, "") for name in names] for row in rows], headers=names, floatfmt=".4g")
    return "\n".join(
        [
            curve,
            "",
            f"{report['steps']} updates in {report['seconds']:.0f} s",
            *quality_lines(quality),
            f"{trained.path}: {report['weights']['bytes'] / 1e6:.2f} MB, sha256 {report['weights']['sha256']}",
            "use it with:",
            " ".join(trained.overrides),
        ]
    )
