"""What `bench show` prints: the configuration of a run, its id, and what it would compute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ocwm.quality import quality_lines

if TYPE_CHECKING:
    from ocwm.run import Cell


def show_facts(cell: Cell) -> dict[str, Any]:
    """Return what `bench show` knows of a run, as JSON values."""
    from omegaconf import OmegaConf

    from ocwm import registry
    from ocwm.run import workspace

    work = workspace(cell.config, versions=cell.versions, data=cell.data)
    stages = {} if cell.data is None else cell.task.stages(work)
    preset = registry.read_yaml(cell.config.plugins["preset"].path)
    return {
        "id": cell.id,
        "config": OmegaConf.to_container(cell.config.values),
        "versions": dict(cell.versions),
        "data": None if cell.data is None else dict(cell.data),
        "duration": preset.get("duration", ""),
        "label": preset.get("label", ""),
        "records": [str(record.path) for record in cell.records],
        "results": str(cell.results),
        "stages": {
            name: {"cached": work.cached(name, key), "path": str(work.cache.path(name, key))}
            for name, key in stages.items()
        },
        "encoder_quality": next((q for record in cell.records if (q := record.notes.get("encoder_quality"))), None),
        "metrics": [metric.name for metric in cell.task.metrics()],
    }


def show_text(facts: Mapping[str, Any]) -> str:
    """Return the facts of `show_facts` for people."""
    import yaml

    lines = [yaml.safe_dump(facts["config"], sort_keys=False, allow_unicode=True).rstrip(), ""]
    lines.append(f"id {facts['id']}" if facts["id"] else "id pending: data absent")
    lines += [f"record: {path}" for path in facts["records"]]
    if not facts["records"]:
        lines.append(f"no record in {facts['results']} yet; expected to take {facts['duration'] or 'an unknown time'}")
    for name, stage in facts["stages"].items():
        lines.append(f"stage {name}: " + (f"cached in {stage['path']}" if stage["cached"] else "will be computed"))
    if facts["encoder_quality"]:
        lines += quality_lines(facts["encoder_quality"])
    return "\n".join(lines)
