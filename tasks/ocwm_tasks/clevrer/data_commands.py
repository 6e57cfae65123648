"""`bench data make|check|describe --task clevrer`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocwm.context import DataReport, Workspace
from ocwm.errors import BenchError
from ocwm.progress import Progress
from ocwm_tasks.clevrer import check as checking
from ocwm_tasks.clevrer.dataset import Dataset
from ocwm_tasks.clevrer.generator import balance
from ocwm_tasks.clevrer.generator.make import SPLITS, make_dataset
from ocwm_tasks.clevrer.pictures import contact_sheet
from ocwm_tasks.clevrer.pipeline import Pipeline
from ocwm_tasks.clevrer.world import World

if TYPE_CHECKING:
    from ocwm_tasks.clevrer.task import ClevrerTask

SHOWN = 4  # videos on a contact sheet


def make(task: ClevrerTask, workspace: Workspace, *, out: Path | None) -> DataReport:
    """Make the embedded data in `out` (which must not exist or be empty), or in the cache."""
    if task.root is not None:
        raise BenchError(f"task.root={task.root} is set: that data is not made here", "Leave task.root out.")
    if out is None:
        root = Pipeline(task, workspace).root
    else:
        root = out
        _make_in(task, workspace, root)
    config = task.generator
    facts = {"root": str(root), "videos": {split: config.videos(split) for split in SPLITS}}
    counts = ", ".join(f"{config.videos(split)} {split}" for split in SPLITS)
    return DataReport(facts, f"{root}: {counts} videos")


def _make_in(task: ClevrerTask, workspace: Workspace, root: Path) -> None:
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise BenchError(f"{root} is not an empty folder", "Give a new folder with --out.")
    partial = root.with_name(f".{root.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        config = task.generator
        with workspace.progress("data", sum(map(config.videos, SPLITS))) as bar:
            make_dataset(partial, config, seed=workspace.seeds.data, workers=workspace.workers, progress=bar.update)
        if root.exists():
            root.rmdir()
        partial.rename(root)
    except OSError as error:
        raise BenchError(
            f"can't write {root}: {error.strerror}", "Free some space or choose another folder."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check(task: ClevrerTask, workspace: Workspace, *, out: Path | None) -> DataReport:
    """Decode every video, run every program whose truth is known; write the manifest to the folder `out`."""
    dataset = _dataset(task, workspace)
    with workspace.progress("checking", _units(dataset)) as bar:
        report = checking.check_dataset(dataset, videos=True, tick=lambda _: _count(bar))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "manifest.json").write_text(json.dumps(report["manifest"], indent=1))
    return DataReport(report, checking.render(report), ok=not report["problems"])


def describe(task: ClevrerTask, workspace: Workspace, *, out: Path | None) -> DataReport:
    """Counts and balance of the questions; contact sheets of a few videos in the folder `out`."""
    dataset = _dataset(task, workspace)
    facts: dict[str, Any] = {}
    texts = []
    train = dataset.questions("train") if "train" in dataset.splits else None
    for split in dataset.splits:
        questions = dataset.questions(split)
        worlds = _worlds(dataset, split) if dataset.kind == "embedded" else None
        learn_from = train if split != "train" else None
        facts[split] = balance.describe(questions, train=learn_from, worlds=worlds)
        texts.append(f"## {split}\n\n{balance.render(facts[split])}")
        if out is not None and (videos := dataset.indices(split, "videos")):
            out.mkdir(parents=True, exist_ok=True)
            sheet = out / f"{split}.png"
            contact_sheet([dataset.frames(split, index) for index in videos[:SHOWN]], sheet)
            facts[split]["contact_sheet"] = str(sheet)
            texts.append(f"frames: {sheet}")
    if out is None:
        texts.append("Give --out DIR for contact sheets of the videos.")
    return DataReport(facts, "\n\n".join(texts))


def _count(bar: Progress) -> None:
    bar.update(1)


def _dataset(task: ClevrerTask, workspace: Workspace) -> Dataset:
    return Pipeline(task, workspace).dataset


def _units(dataset: Dataset) -> int:
    return sum(
        len(dataset.indices(split, "videos"))
        + sum(len(dataset.scenes(split, source=source)) for source in dataset.sources(split))
        for split in dataset.splits
    )


def _worlds(dataset: Dataset, split: str) -> dict[int, World]:
    """True worlds to frame 159."""
    return {scene.index: World.from_scene(scene) for scene in dataset.scenes(split, future=True)}
