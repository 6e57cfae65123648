"""Starts scenarios in several processes that share a run, and prints what each of them says, as JSON.

    python team_scenarios.py FOLDER SCENARIO:PROCESSES ...

The processes are forked, so that torch is imported once. A scenario is a function of a folder of its own that all of its
processes see.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from tests.ocwm.drawn_videos import DrawnEncoder, DrawnVideos
from torch import Tensor, nn

from ocwm import encoding
from ocwm.artifacts import Cache
from ocwm.context import Workspace
from ocwm.costs import Costs
from ocwm.data_parallel import common_draw, draw_rows, weighted
from ocwm.distributed import processes, team
from ocwm.errors import BenchError
from ocwm.extraction import extract_all
from ocwm.row_files import compute_rows
from ocwm.trainer import Interrupted, TrainerConfig, fit

CPU = torch.device("cpu")
CONFIG = TrainerConfig(
    max_steps=24,
    batch_size=12,
    lr=5e-3,
    schedule="warmup_cosine",
    warmup_fraction=0.1,
    grad_clip=1.0,
    log_every=6,
    eval_every=12,
    checkpoint_seconds=1000.0,
)


@dataclass(frozen=True)
class Pair:
    inputs: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> Pair:
        return Pair(self.inputs.to(device), self.targets.to(device))


class Pairs:
    """100 items with drawn noise; `at_step` runs before the batch of a given update number."""

    def __init__(self, at_step: dict[int, Callable[[], None]] | None = None, *, poison: int = -1) -> None:
        self.inputs = np.random.default_rng(7).normal(size=(100, 8)).astype(np.float32)
        self.at_step, self.poison = at_step or {}, poison
        self.calls = 0

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, indices: np.ndarray, generator: np.random.Generator) -> Pair:
        return self.part(indices, generator, slice(None))

    def part(self, indices: np.ndarray, generator: np.random.Generator, rows: slice) -> Pair:
        self.at_step.get(self.calls, lambda: None)()
        self.calls += 1
        noise = generator.normal(scale=0.01, size=(len(indices), 8)).astype(np.float32)
        inputs = (self.inputs[indices] + noise)[rows]
        targets = inputs[:, :3] ** 2 * (np.nan if self.calls - 1 == self.poison else 1)
        return Pair(torch.from_numpy(inputs), torch.from_numpy(targets.astype(np.float32)))


class Masked(nn.Module):
    """A loss over drawn entries of every sample, with drawn noise and a mask of the whole batch; a weight is not used."""

    def __init__(self, *, dropout: float) -> None:
        super().__init__()
        torch.manual_seed(3 + team().rank)  # the first process's weights are everybody's
        self.layers = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 3))
        self.unused = nn.Linear(2, 2)

    def loss(self, batch: Pair) -> dict[str, Tensor]:
        noise = draw_rows(len(batch.inputs), lambda count: torch.randn(count, 8))
        counted = draw_rows(len(batch.inputs), lambda count: torch.rand(count, 3) < torch.rand(count, 1))
        scale = common_draw(lambda: torch.rand(()))
        error = (self.layers(batch.inputs + 0.1 * noise) - batch.targets).square()
        shown = weighted((error * counted).sum() / counted.sum().clamp(min=1), counted.sum())
        return {"loss": shown + scale * error.mean(), "shown": shown}


def train(folder: Path, data: Pairs, *, dropout: float, config: TrainerConfig = CONFIG) -> dict[str, Any]:
    model = Masked(dropout=dropout)
    validate = lambda model: {"dev": float(model.layers[0].weight.sum())}  # noqa: E731
    report = fit(model, data, config, seed=5, folder=folder, device=CPU, validate=validate)
    return {"curve": report.curve, "weights": [p.tolist() for p in model.parameters()], "from": report.resumed_from}


def curve(folder: Path) -> Any:
    return train(folder, Pairs(), dropout=0.0)


def uneven_batch(folder: Path) -> Any:
    return train(folder, Pairs(), dropout=0.0, config=replace(CONFIG, batch_size=13))


def stopped_and_resumed(folder: Path) -> Any:
    whole = train(folder / "whole", Pairs(), dropout=0.2)
    stop = {7: lambda: os.kill(os.getpid(), signal.SIGTERM)} if team().rank == team().size - 1 else {}
    said = ""
    try:
        train(folder / "parts", Pairs(stop), dropout=0.2)
    except Interrupted as error:
        said = str(error)
    rest = train(folder / "parts", Pairs(), dropout=0.2)
    return {"said": said, "whole": whole, "parts": rest}


def spoiled(folder: Path) -> Any:
    """One process meets a loss that is not finite."""
    return train(folder, Pairs(poison=5 if team().rank else -1), dropout=0.0)


def broken(folder: Path) -> Any:
    """One process can't read its data."""

    def fail() -> None:
        raise BenchError("this disk is broken")

    return train(folder, Pairs({5: fail} if team().rank else {}), dropout=0.0)


def killed(folder: Path) -> Any:
    return train(folder, Pairs({5: lambda: os.kill(os.getpid(), signal.SIGKILL)} if team().rank else {}), dropout=0.0)


def hanging(folder: Path) -> Any:
    """One process stands still; the time limit is two seconds (see `_run`)."""
    return train(folder, Pairs({5: lambda: time.sleep(4)} if team().rank else {}), dropout=0.0)


def draws(folder: Path) -> Any:
    """What samples get and what dropout gets in an update."""
    seen: dict[str, Any] = {}

    class Looking(Masked):
        def loss(self, batch: Pair) -> dict[str, Tensor]:
            seen["noise"] = draw_rows(len(batch.inputs), lambda count: torch.randn(count, 2)).tolist()
            seen["mask"] = common_draw(lambda: torch.rand(3)).tolist()
            seen["inputs"] = batch.inputs.tolist()
            seen["dropout"] = torch.nn.functional.dropout(torch.ones(50), 0.5).tolist()
            return super().loss(batch)

    fit(Looking(dropout=0.0), Pairs(), replace(CONFIG, max_steps=1), seed=5, folder=folder, device=CPU)
    return seen


def stages(folder: Path) -> Any:
    """Stages that all build, that the first builds, one in another, and one that fails."""
    space = _space(folder)
    built: list[str] = []

    def build(name: str, *, inner: str = "") -> Callable[[Path], None]:
        def work(place: Path) -> None:
            if inner:
                space.stage(inner, {}, build(inner), together=True)
            team().gather(name)  # all that build together meet
            built.append(name)
            (place / "by.txt").write_text(f"{team().size} {team().rank}")

        return work

    def fail(place: Path) -> None:
        raise BenchError("no room")

    first = space.stage("outer", {}, build("outer", inner="nested"))
    nested = space.cache.path("nested", {})
    if not team().first:  # which does not ask for it again
        assert space.stage("nested", {}, build("nested"), together=True) == nested
    shared = space.stage("shared", {}, build("shared", inner="own"), together=True)
    found = {path.parent.name: (path / "by.txt").read_text() for path in (first, nested, shared)}
    costs = {name: cost.get("processes") for name, cost in space.costs.stages.items()}
    team().next_turn()
    anew = replace(space, rebuild=True, _fresh=set())
    anew.stage("shared", {}, build("anew"), together=True)
    try:
        space.stage("failing", {}, fail)
    except BenchError as error:
        return {"built": built, "found": found, "costs": costs, "error": str(error), "kind": type(error).__name__}


def shares(folder: Path) -> Any:
    """Slots and rows in shares, and a share that fails."""
    encoding.BATCH_VIDEOS = 2
    videos = DrawnVideos(5, first=3)
    work, out = folder / "work", folder / "out"
    for one in (work, out):
        one.mkdir(exist_ok=True)
    found = extract_all(DrawnEncoder(), videos, work, out, device=CPU)
    asked: list[tuple[int, int]] = []

    def rows(part: slice) -> np.ndarray:
        asked.append((part.start, part.stop))
        return np.arange(10, dtype=np.float32)[part, None] * np.ones(3, np.float32)

    compute_rows(10, rows, unit=4, work=work, out=out / "rows.npy")
    own = [team().rank] * (2 + team().rank)
    told: dict[str, Any] = {
        "gathered": team().gather(own),
        "first": team().by_first(lambda: f"{team().size} of {os.getpid()}"),
    }

    def fail() -> None:
        raise BenchError("half is missing")

    try:
        with team().together():
            if team().rank:
                fail()
    except BenchError as error:
        told["error"] = str(error)
    return {"asked": asked, "frames": None if found is None else found.frames, **told}


def cli(folder: Path) -> Any:
    """`bench run` at its smallest, on both tasks; exit codes, and what is printed to stdout and stderr.

    One process takes over the models that several have trained, and makes all else anew.
    """
    from ocwm.cli import main

    for path in (folder / "home" / "cache").glob("*") if team().size == 1 else ():
        if path.name not in ("data", "world_model", "aloe"):
            shutil.rmtree(path)
    found = {}
    encoder = ["encoder=gated_slots", "encoder.weights=random", "encoder.resolution=[32,32]"]
    options = [
        "--preset",
        "tiny",
        "--results",
        str(folder / f"results.{team().size}"),
        "runtime.device=cpu",
        "runtime.threads=1",
    ]
    for name, given in (
        ("clevrer", ["--task", "clevrer", "task.protocol=imagined"]),
        ("pusht", ["--task", "pusht", "task.plans_together=1", "task.curve=[[3,1]]", *encoder]),
    ):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["run", "--method", "cjepa", *given, *options])
        found[name] = {"code": code, "out": out.getvalue(), "err": err.getvalue()}
    return found


def _space(folder: Path) -> Workspace:
    config: Any = SimpleNamespace()
    return Workspace(
        config=config, seeds=config, workers=1, cache=Cache(folder / "home"), costs=Costs(), versions={}, data=None
    )


def _fork(scenario: str, folder: Path, rank: int, size: int, port: int) -> int:
    process = os.fork()
    if process:
        return process
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(size),
        LOCAL_RANK=str(rank),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        OCWM_HOME=str(folder / "home"),
    )
    answer: dict[str, Any] = {}
    try:
        if scenario == "cli":
            with processes("cpu", timeout_min=2):
                answer["result"] = cli(folder)
        else:
            with processes("cpu", timeout_min=2 / 60 if scenario == "hanging" else 2):
                answer["result"] = globals()[scenario](folder)
    except BenchError as error:
        answer["error"] = f"{type(error).__name__}: {error}"
    finally:
        (folder / f"answer.{rank}.json").write_text(json.dumps(answer))
        os._exit(0)


def run(scenario: str, folder: Path, size: int) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    children = [_fork(scenario, folder, rank, size, port) for rank in range(size)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    answers = [folder / f"answer.{rank}.json" for rank in range(size)]
    said = [json.loads(path.read_text()) if path.exists() else None for path in answers]
    return {"codes": codes, "said": said, "seconds": time.monotonic() - started}


def main() -> None:
    torch.set_num_threads(1)
    torch.optim.AdamW(Masked(dropout=0.0).parameters())  # imports much of torch: once here
    if any(argument.startswith("cli") for argument in sys.argv):
        for module in (
            "ocwm_methods.cjepa",
            "ocwm_tasks.clevrer.evaluation",
            "ocwm_tasks.pusht.evaluation",
            "ocwm.report",
        ):
            importlib.import_module(module)
    folder, found = Path(sys.argv[1]), {}
    for argument in sys.argv[2:]:
        scenario, _, size = argument.partition(":")
        found[argument] = run(
            scenario, folder / (scenario if scenario == "cli" else argument.replace(":", ".")), int(size)
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
