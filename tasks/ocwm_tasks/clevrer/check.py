"""Checks a data set: what is there, whether it can be read, and whether every program gives the file's answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tabulate import tabulate

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.dataset import Dataset, Source
from ocwm_tasks.clevrer.executor import NotExecutable, answer, judge
from ocwm_tasks.clevrer.manifest import QUESTION_TYPES, manifest
from ocwm_tasks.clevrer.scene import Scene
from ocwm_tasks.clevrer.world import World

Tick = Callable[[str], None]  # called with what was just done, once for each unit of work


def check_dataset(dataset: Dataset, *, videos: bool = False, tick: Tick = lambda what: None) -> dict[str, Any]:
    """Read everything that can be read and run every program whose truth is known.

    Args:
        dataset: what to check.
        videos: decode every video; else the first and the last of each split.
        tick: called after each video and scene.

    Returns:
        JSON values: "manifest"; "videos" {"decoded", "of"}; "scenes" by split and source; "problems", one line
        for each file that can't be read; "executor" by question type {"choices", "agree", "not_executable"}: the
        choices (descriptive: questions) of the videos whose state is known, how many the program answers as
        the file does, and how many have no program, no answer, or ask for a truth that is not known; "unknown_state",
        how many choices are left out because their video has no state; "reasons" for what is not executable; and
        "disagreements", the first few by name.

    Raises:
        BenchError: the folder or a question file can't be read.
    """
    problems: list[str] = []
    decoded = {split: _decode(dataset, split, every=videos, problems=problems, tick=tick) for split in dataset.splits}
    tally = _Tally()
    scenes = {split: _run_split(dataset, split, tally=tally, problems=problems, tick=tick) for split in dataset.splits}
    return {
        "manifest": manifest(dataset),
        "videos": decoded,
        "scenes": scenes,
        "executor": tally.by_type(),
        "by_source": tally.by_source(),
        "unknown_state": dict(tally.unknown),
        "reasons": dict(tally.reasons.most_common()),
        "disagreements": tally.disagreements,
        "problems": problems,
    }


class _Tally:
    """Counts of choices by question type and source of the state."""

    _NAMED = 10

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.unknown: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.disagreements: list[str] = []

    def add(self, source: str, kind: str, what: str) -> None:
        self.counts[source, kind, what] += 1

    def by_type(self) -> dict[str, dict[str, int]]:
        kinds = {kind for _, kind, _ in self.counts}
        ordered = [kind for kind in QUESTION_TYPES if kind in kinds] + sorted(kinds - set(QUESTION_TYPES))
        return {kind: self._row(lambda _, k, kind=kind: k == kind) for kind in ordered}

    def by_source(self) -> dict[str, dict[str, int]]:
        sources = sorted({source for source, _, _ in self.counts})
        return {source: self._row(lambda s, _, source=source: s == source) for source in sources}

    def _row(self, keep: Callable[..., bool]) -> dict[str, int]:
        row = {"choices": 0, "agree": 0, "not_executable": 0}
        for (source, kind, what), count in self.counts.items():
            if keep(source, kind):
                row[what] = row.get(what, 0) + count
        return row

    def disagree(self, text: str) -> None:
        if len(self.disagreements) < self._NAMED:
            self.disagreements.append(text)


def _decode(dataset: Dataset, split: str, *, every: bool, problems: list[str], tick: Tick) -> dict[str, int]:
    there = dataset.indices(split, "videos")
    chosen = there if every else sorted({*there[:1], *there[-1:]})
    decoded = 0
    for index in chosen:
        try:
            dataset.frames(split, index)
            decoded += 1
        except BenchError as error:
            problems.append(str(error))
        tick(f"video {index}")
    return {"decoded": decoded, "tried": len(chosen), "of": len(there)}


def _run_split(
    dataset: Dataset, split: str, *, tally: _Tally, problems: list[str], tick: Tick
) -> dict[str, dict[str, int]]:
    """Read every scene of every source; run the programs on the truest one of each video."""
    asked = {}
    if dataset.files(split).questions is not None:
        asked = {scene["scene_index"]: scene["questions"] for scene in dataset.questions(split)}
    counts: dict[str, dict[str, int]] = {}
    for source in dataset.sources(split):
        counts[source] = {"read": 0, "failed": 0}
        for scene, counterfactual in _scenes(dataset, split, source, counts=counts[source], problems=problems):
            tick(f"scene {scene.index}")
            questions = asked.pop(scene.index, None)
            if questions:
                _run_scene(scene, counterfactual, questions, source=source, tally=tally)
    for questions in asked.values():
        for question in questions:
            tally.unknown[question["question_type"]] += len(question.get("choices") or [question])
    return counts


def _scenes(
    dataset: Dataset, split: str, source: Source, *, counts: dict[str, int], problems: list[str]
) -> Iterator[tuple[Scene, Mapping[int, frozenset[frozenset[int]]] | None]]:
    scenes = dataset.scenes(split, source=source, future=dataset.kind == "embedded")
    removals = {removal.index: removal.pairs for removal in dataset.removals(split)}
    for index in scenes.indices:
        try:
            scene = scenes.of(index)
        except BenchError as error:
            problems.append(str(error))
            counts["failed"] += 1
            continue
        counts["read"] += 1
        yield scene, removals.get(index)


def _run_scene(
    scene: Scene,
    counterfactual: Mapping[int, frozenset[frozenset[int]]] | None,
    questions: list[dict[str, Any]],
    *,
    source: str,
    tally: _Tally,
) -> None:
    world = World.from_scene(scene, counterfactual=counterfactual)
    for question in questions:
        kind = question["question_type"]
        choices = question.get("choices")
        for item in choices or [question]:
            tally.add(source, kind, "choices")
            try:
                found = answer(question, world) if choices is None else judge(question, item, world)
                reason = None if "answer" in item else "the file gives no answer"
            except NotExecutable as error:
                reason = error.reason
            if reason is not None:
                tally.add(source, kind, "not_executable")
                tally.reasons[reason] += 1
            elif found == item["answer"]:
                tally.add(source, kind, "agree")
            else:
                text = item.get("choice", question["question"])
                tally.disagree(f"scene {scene.index}, question {question['question_id']} ({kind}), '{text}': {found}")


def render(report: Mapping[str, Any]) -> str:
    """Return the report of `check_dataset` as plain tables."""
    data = report["manifest"]
    parts = [f"{data['root']}: {data['kind']} CLEVRER data, manifest {data['manifest'][:12]}"]
    rows, notes = [], []
    for split, described in data["splits"].items():
        questions = described.get("questions", {})
        types = questions.get("types", {})
        decoded = report["videos"][split]
        rows.append(
            {
                "split": split,
                "videos": described["videos"]["count"],
                "decoded": f"{decoded['decoded']}/{decoded['tried']}",
                "annotations": described["annotations"]["count"],
                "trajectories": described["trajectories"]["count"],
                "scenes asked": questions.get("scenes", 0),
                **{kind: types.get(kind, {}).get("questions", 0) for kind in QUESTION_TYPES},
            }
        )
        notes += [f"{split}: {count['count']} {what}" for what, count in described["missing"].items()]
        notes += [f"{split}: video {index} is left out, {why}" for index, why in described["skipped"].items()]
    parts.append(tabulate(rows, headers="keys", tablefmt="simple"))
    if notes:
        parts.append("\n".join(f"note: {note}" for note in notes))
    executed = [
        {"programs": kind, **counts, "agree of executable": _share(counts)}
        for kind, counts in report["executor"].items()
    ]
    parts.append(tabulate(executed, headers="keys", tablefmt="simple") if executed else "No program could be run.")
    reasons = [f"not executable: {count} ({why})" for why, count in report["reasons"].items()]
    unknown = [f"left out: {count} {kind} (no state)" for kind, count in report["unknown_state"].items()]
    wrong = [f"disagrees: {text}" for text in report["disagreements"]]
    problems = [f"problem: {text}" for text in report["problems"]]
    lines = [*reasons, *unknown, *wrong, *problems]
    return "\n\n".join(parts + (["\n".join(lines)] if lines else []))


def _share(counts: Mapping[str, int]) -> str:
    executable = counts["choices"] - counts["not_executable"]
    return f"{100 * counts['agree'] / executable:.2f} %" if executable else "-"
