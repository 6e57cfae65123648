"""`bench data make|check|describe --task pusht`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocwm.context import DataReport, Workspace
from ocwm.errors import BenchError
from ocwm.whole_files import write_whole
from ocwm_tasks.pusht import statistics
from ocwm_tasks.pusht.pictures import contact_sheet
from ocwm_tasks.pusht.play.config import SPLITS
from ocwm_tasks.pusht.play.make import make_play
from ocwm_tasks.pusht.readers.detect import open_data
from ocwm_tasks.pusht.stages import Stages

if TYPE_CHECKING:
    from ocwm_tasks.pusht.readers.data_set import PushtData
    from ocwm_tasks.pusht.task import PushtTask


def make(task: PushtTask, workspace: Workspace, *, out: Path | None) -> DataReport:
    """Make the play data in `out` (which must not exist or be empty), or in the cache."""
    if task.root is not None:
        raise BenchError(f"task.root={task.root} is set: that data is not made here", "Leave task.root out.")
    root = Stages(task, workspace).root if out is None else out
    if out is not None:
        _make_in(task, workspace, out)
    counts = ", ".join(f"{task.play.episodes(split)} {split}" for split in SPLITS)
    facts = {"root": str(root), "episodes": {split: task.play.episodes(split) for split in SPLITS}}
    return DataReport(facts, f"{root}: {counts} episodes of {task.play.steps} actions")


def check(task: PushtTask, workspace: Workspace, *, out: Path | None) -> DataReport:
    """Read all states and actions, draw the starts and goals, and say what is there; the manifest goes to `out`."""
    data = _data(task, workspace)
    facts: dict[str, Any] = data.manifest()
    lines = [f"{facts['root']}: {facts['kind']}, {facts['files']:,} files, {facts['bytes']:,} bytes"]
    lines += [
        f"{name}: {part['episodes']:,} episodes, {part['rows']:,} rows (from {part['shortest']} to {part['longest']}), "
        f"frames {part['frames']}"
        for name, part in facts["origins"].items()
    ]
    lines += [f"as {name}: {part['episodes']:,} episodes of {part['of']}" for name, part in facts["splits"].items()]
    lines += facts["notes"]
    ok = True
    try:
        pairs = task.draw({name: data.episodes(name) for name in data.splits}, seed=workspace.seeds.eval)
    except BenchError as error:
        ok = False
        facts["pairs"] = None
        lines.append(f"no start/goal pairs: {error}")
    else:
        facts["pairs"] = {"count": len(pairs), "sha256": pairs.sha256, "block_must_move": float(pairs.moved.mean())}
        lines.append(
            f"{len(pairs)} start/goal pairs from {task.source_split}: {pairs.moved.mean():.0%} need the block moved or "
            f"turned (sha256 {pairs.sha256[:12]})"
        )
    if out is not None:
        _write(out, json.dumps(facts, indent=1).encode())
        lines.append(f"manifest: {out}")
    return DataReport(facts, "\n".join(lines), ok=ok)


def describe(task: PushtTask, workspace: Workspace, *, out: Path | None) -> DataReport:
    """Statistics of every split beside the published ones; a sheet of frames goes to the folder `out`."""
    data = _data(task, workspace)
    splits = {name: data.episodes(name) for name in data.splits}
    facts: dict[str, Any] = {name: statistics.describe(episodes) for name, episodes in splits.items()}
    text = statistics.render(facts)
    if out is not None:
        path = out / "episodes.png"
        try:
            out.mkdir(parents=True, exist_ok=True)
            contact_sheet(splits["train"], path)
        except OSError as error:
            raise BenchError(f"can't write {path}: {error.strerror}", "Choose another folder with --out.") from error
        facts["pictures"] = [str(path)]
        text += f"\npicture: {path}"
    return DataReport(facts, text)


def _data(task: PushtTask, workspace: Workspace) -> PushtData:
    return open_data(Stages(task, workspace).root) if task.root is None else task.recorded


def _make_in(task: PushtTask, workspace: Workspace, root: Path) -> None:
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise BenchError(f"{root} is not an empty folder", "Give a new folder with --out.")
    partial = root.with_name(f".{root.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        with workspace.progress("data (episodes)", sum(map(task.play.episodes, SPLITS))) as bar:
            make_play(partial, task.play, seed=workspace.seeds.data, workers=workspace.workers, progress=bar.update)
        if root.exists():
            root.rmdir()
        partial.rename(root)
    except OSError as error:
        raise BenchError(
            f"can't write {root}: {error.strerror}", "Free some space or choose another folder."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise BenchError(f"can't write {path}: {error.strerror}", "Choose another file with --out.") from error
