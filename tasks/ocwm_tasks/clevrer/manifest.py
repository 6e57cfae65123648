"""What a data set holds, what is missing, and the hash that stands for it in the identity of a run."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ocwm.artifacts import digest
from ocwm.errors import BenchError
from ocwm_tasks.clevrer.dataset import Dataset, Source
from ocwm_tasks.clevrer.generator.config import GeneratorConfig
from ocwm_tasks.clevrer.generator.layout import NAME
from ocwm_tasks.clevrer.layout_official import SplitFiles

QUESTION_TYPES = ("descriptive", "explanatory", "predictive", "counterfactual")
_NAMED = 5  # of the missing videos, so many are named
_OFFICIAL_QUESTIONS = {  # sha256 of the published files
    "11181da673d223f41fb596aacfbbd3ff83d39af7f09a3210549e98cb283714b4": "train",
    "fdf841678a476655b906165e6ee4b0ed1516785c5ab927c8d0a4614e4e27e10d": "validation",
}


def data_identity(dataset: Dataset, *, source: Source = "annotation") -> dict[str, str]:
    """Return what identifies the data in a run: {"kind", "name", "manifest"}.

    The manifest hash is made from the generator's name, version and settings where they are known, else from the
    numbers and sizes of all files and the contents of the question files. Where the folder lies has no part in it. The
    kind is embedded or official; trajectories where a run reads the scenes from those.

    Raises:
        BenchError: a file can't be read.
    """
    generator = dataset.generator()
    if generator is not None:
        return {"kind": dataset.kind, "name": str(generator["name"]), "manifest": digest(generator)}
    contents = {split: _contents(dataset.files(split)) for split in dataset.splits}
    return {
        "kind": "trajectories" if source == "trajectories" else dataset.kind,
        "name": "clevrer",
        "manifest": digest({"kind": dataset.kind, "splits": contents}),
    }


def slots_identity(dataset: Dataset, *, slots: str) -> dict[str, str]:
    """Return what identifies slots that exist already and the questions about their videos.

    Args:
        dataset: its questions count, videos and annotations are not read.
        slots: sha256 of the slots.

    Raises:
        BenchError: a question file can't be read.
    """
    files = {split: dataset.files(split).questions for split in dataset.splits}
    asked = {split: _sha256(path) for split, path in files.items() if path is not None}
    return {
        "kind": dataset.kind,
        "name": "clevrer",
        "manifest": digest({"kind": dataset.kind, "questions": asked, "slots": slots}),
    }


def generator_identity(config: GeneratorConfig, *, version: int, seed: int) -> dict[str, str]:
    """Return what `data_identity` will say of embedded data that is made with these settings."""
    about = {"name": NAME, "version": version, "seed": seed, "config": asdict(config)}
    return {"kind": "embedded", "name": NAME, "manifest": digest(about)}


def manifest(dataset: Dataset) -> dict[str, Any]:
    """Return counts, sizes, hashes and what is missing, as JSON values; reads the question files, decodes nothing.

    Raises:
        BenchError: a file can't be read, or a question file is broken.
    """
    return {
        "root": str(dataset.root),
        **data_identity(dataset),
        "generator": dataset.generator(),
        "splits": {split: _describe_split(dataset, split) for split in dataset.splits},
    }


def _contents(files: SplitFiles) -> dict[str, Any]:
    parts = {"videos": files.videos, "annotations": files.annotations, "trajectories": files.trajectories}
    sizes = {name: [[index, path.stat().st_size] for index, path in paths.items()] for name, paths in parts.items()}
    return {**sizes, "questions": _sha256(files.questions) if files.questions else None}


def _describe_split(dataset: Dataset, split: str) -> dict[str, Any]:
    files = dataset.files(split)
    described: dict[str, Any] = {
        name: {"count": len(paths), "bytes": sum(path.stat().st_size for path in paths.values())}
        for name, paths in (
            ("videos", files.videos),
            ("annotations", files.annotations),
            ("trajectories", files.trajectories),
        )
    }
    asked: set[int] = set()
    if files.questions:
        scenes = dataset.questions(split)
        asked = {scene["scene_index"] for scene in scenes}
        described["questions"] = _describe_questions(scenes, files.questions)
    described["skipped"] = {str(index): reason for index, reason in dataset.skipped(split).items()}
    state = {*files.annotations, *files.trajectories} | set(_generated(dataset, split))
    described["missing"] = _missing(set(files.videos), state, asked, has_questions=files.questions is not None)
    return described


def _generated(dataset: Dataset, split: str) -> Iterable[int]:
    return dataset.scenes(split).indices if dataset.kind == "embedded" else ()


def _describe_questions(scenes: list[dict[str, Any]], path: Path) -> dict[str, Any]:
    questions: Counter[str] = Counter()
    choices: Counter[str] = Counter()
    answered = 0
    for scene in scenes:
        for question in scene["questions"]:
            kind = question["question_type"]
            questions[kind] += 1
            choices[kind] += len(question.get("choices", ()))
            answered += all("answer" in item for item in question.get("choices") or [question])
    sha256 = _sha256(path)
    return {
        "file": path.name,
        "sha256": sha256,
        "official": _OFFICIAL_QUESTIONS.get(sha256) is not None,
        "bytes": path.stat().st_size,
        "scenes": len(scenes),
        "answered": answered,
        "types": {
            kind: {"questions": questions[kind], **({"choices": choices[kind]} if choices[kind] else {})}
            for kind in (*QUESTION_TYPES, *sorted(set(questions) - set(QUESTION_TYPES)))
            if questions[kind]
        },
    }


def _missing(videos: set[int], state: set[int], asked: set[int], *, has_questions: bool) -> dict[str, Any]:
    """Name what goes without its counterpart: {what: {"count", "first": [indices]}}, only what there is."""
    gaps: Mapping[str, set[int]] = {
        "videos without annotation": videos - state,
        "videos without questions": videos - asked if has_questions else set(),
        "questions without video": asked - videos,
        "questions without annotation or trajectories": asked - state,
    }
    missing: dict[str, Any] = {
        what: {"count": len(indices), "first": sorted(indices)[:_NAMED]} for what, indices in gaps.items() if indices
    }
    if not has_questions:
        missing["question file"] = {"count": 1, "first": []}
    return missing


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BenchError(f"can't read {path}: {error.strerror}", "Check its permissions.") from error
