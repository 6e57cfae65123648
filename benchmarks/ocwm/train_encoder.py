"""Train an encoder on the training videos of a task: compose, refuse, say what will happen, train, write the weights.

A training is a cached stage: stopped, it goes on; done, its files are only copied. The weights file is written after
the JSON beside it, so that weights with a JSON of their own sha256 are complete.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors.torch import save as serialize

from ocwm import registry
from ocwm.artifacts import digest
from ocwm.config import Config, instantiate
from ocwm.context import Workspace
from ocwm.device import choose_device, keep_freed_memory, set_threads
from ocwm.distributed import team
from ocwm.encoder_quality import QUALITY_VERSION, frames_to_encode, measure_quality
from ocwm.encoder_training import EncoderTraining
from ocwm.errors import BenchError
from ocwm.identity import scientific
from ocwm.interfaces import Encoder, Task
from ocwm.kept_frames import ClipData, kept_frames
from ocwm.places import recorded_config, recorded_override
from ocwm.progress import say
from ocwm.provenance import provenance
from ocwm.run import workspace
from ocwm.trainer import FitReport, fit
from ocwm.trainer_config import TRAINER_VERSION, TrainerConfig
from ocwm.videos import Videos
from ocwm.whole_files import write_whole

SCHEMA = 1
QUALITY_VIDEOS = 50  # of the training and of the dev videos
_WEIGHTS, _REPORT = "weights.safetensors", "training.json"


@dataclass(frozen=True)
class Plan:
    """A training that is possible.

    Attributes:
        config: the resolved configuration; the groups `training` and `trainer` are this training's.
        encoder, training, task: built.
        device: to train on.
        data: what identifies the task's data.
        output: where the weights go; None for a file in the work folder.
    """

    config: Config
    encoder: Encoder
    training: EncoderTraining
    task: Task
    device: torch.device
    data: Mapping[str, str]
    output: Path | None

    @property
    def name(self) -> str:
        """The encoder's name."""
        return self.config.plugins["encoder"].name


@dataclass(frozen=True)
class Trained:
    """A weights file, what the JSON beside it says, whether it is new, and the overrides that it was asked for with."""

    path: Path
    report: Mapping[str, Any]
    new: bool
    asked: tuple[str, ...]

    @property
    def overrides(self) -> list[str]:
        """What makes a run use the weights, with the sizes that they were trained with."""
        sizes = [text for text in self.asked if text.startswith("encoder.")]
        return [f"encoder={self.report['encoder']}", *sizes, f"encoder.weights={self.path}"]


def prepare(config: Config, *, output: Path | None) -> Plan:
    """Build what is needed and refuse what can't work, before anything is computed.

    Raises:
        BenchError: what the user can mend.
    """
    if any(text.startswith("encoder.weights=") for text in config.overrides):
        raise BenchError("encoder.weights names weights to use, and these are to be trained", "Use --output FILE.")
    if output is not None and output.suffix != ".safetensors":
        raise BenchError(f"--output is {output}", "Weights are a safetensors file: --output NAME.safetensors.")
    values = config.values
    device = choose_device(config.runtime.device)
    if values.trainer.precision == "fp16" and device.type != "cuda":
        raise BenchError("trainer.precision=fp16 needs a CUDA device", "Use trainer.precision=bf16 or fp32.")
    task: Task = instantiate(values.task)
    data = task.data_identity(config.seeds)
    if data is None:
        root = OmegaConf.select(values, "task.root")
        raise BenchError(f"the data is absent: task.root={root}", "Give an existing folder with task.root=DIR.")
    encoder: Encoder = instantiate(values.encoder)
    training: EncoderTraining = instantiate(values.training, encoder)
    return Plan(config, encoder, training, task, device, data, output)


def train(plan: Plan, *, force: bool = False) -> Trained:
    """Train an encoder and write its weights; where they are there already, return them.

    Several processes may train it together; the first writes the weights.

    Args:
        plan: what to train.
        force: train anew, and replace an existing output file.

    Raises:
        BenchError: what the user can mend; an output file of another training.
        Interrupted: after Ctrl-C; the same call goes on.
    """
    started = time.time()
    config, processes = plan.config, team()
    processes.next_turn()
    threads = set_threads(config.runtime.threads)
    keep_freed_memory()
    _announce(plan, threads=threads)
    space = workspace(config, versions=_versions(plan), data=plan.data)
    splits = {split: plan.task.videos(space, split) for split in ("train", "dev")}
    key = _key(plan, splits)
    name = f"{plan.name}-{digest(key, length=12)}.safetensors"
    path = plan.output or space.cache.home / "encoders" / name
    if not force and (report := processes.by_first(lambda: _existing(path, key))) is not None:
        return Trained(path, report, new=False, asked=tuple(config.overrides))
    say(f"weights go to {path}")
    stage = f"encoder.{plan.name}"

    def build(folder: Path) -> None:
        frames = {split: kept_frames(space, videos, plan.training, split=split) for split, videos in splits.items()}
        with space.costs.measure("training"):
            fitted = _fit(plan, space, frames, folder=space.work(stage, key))
        weights = serialize({name: _plain(tensor) for name, tensor in plan.training.weights().items()})
        (folder / _WEIGHTS).write_bytes(weights)
        report = {
            "schema": SCHEMA,
            "id": digest(key, length=12),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": _command(plan),
            "encoder": plan.name,
            "task": config.plugins["task"].name,
            "preset": config.plugins["preset"].name,
            "overrides": list(map(recorded_override, config.overrides)),
            "seeds": vars(config.seeds),
            "config": recorded_config(config.values),
            "key": key,
            "data": {
                **plan.data,
                **{split: _described(videos) for split, videos in splits.items()},
            },
            "weights": {"sha256": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)},
            "parameters": sum(p.numel() for p in plan.training.network.parameters()),
            "steps": fitted.steps,
            "seconds": round(fitted.seconds, 1),
            "curve": fitted.curve,
            "quality": processes.by_first(lambda: _quality(plan, space, splits, weights=folder / _WEIGHTS)),
            "costs": space.costs.stages,
            "provenance": provenance(
                distributions=[registry.distributions()[one.package] for one in config.plugins.values()],
                threads=threads,
                device=str(plan.device),
                wall_start=started,
            ),
        }
        (folder / _REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    place = replace(space, rebuild=force).stage(stage, key, build, together=True)  # the kept frames are used again
    text = (place / _REPORT).read_bytes()

    def publish() -> None:
        _publish(path.with_name(f"{path.name}.json"), text)
        _publish(path, (place / _WEIGHTS).read_bytes())

    processes.by_first(publish)
    return Trained(path, json.loads(text), new=True, asked=tuple(config.overrides))


def _fit(plan: Plan, space: Workspace, frames: Mapping[str, Any], *, folder: Path) -> FitReport:
    training, settings = plan.training, TrainerConfig(**_mapping(plan.config.values.trainer))
    training.start(frames["train"])
    held_out = ClipData(frames["dev"], training.clips).fixed(batch_size=settings.batch_size)

    def validate(model: EncoderTraining) -> dict[str, float]:
        torch.manual_seed(0)  # the same draws each time; the training's own are put back
        sums: dict[str, float] = {}
        for batch in held_out:
            for part, value in model.loss(batch.to(plan.device)).items():
                sums[part] = sums.get(part, 0.0) + float(value) * len(batch.frames)
        return {f"dev_{part}": value / sum(len(one.frames) for one in held_out) for part, value in sums.items()}

    with space.progress("training", settings.max_steps) as bar:
        return fit(
            training,
            ClipData(frames["train"], training.clips),
            settings,
            seed=plan.config.seeds.encoder,
            folder=folder,
            device=plan.device,
            progress=bar,
            validate=validate,
        )


def _quality(plan: Plan, space: Workspace, splits: Mapping[str, Videos], *, weights: Path) -> dict[str, Any]:
    """Return the figures of the quality gates, measured on dev videos with the weights of the file."""
    encoder: Encoder = instantiate(OmegaConf.create({**_mapping(plan.config.values.encoder), "weights": str(weights)}))
    train, held_out = splits["train"], splits["dev"]
    frames = frames_to_encode(encoder, train, held_out, videos=QUALITY_VIDEOS)
    with space.progress("quality gates", frames) as bar:
        quality = measure_quality(
            encoder, train, held_out, videos=QUALITY_VIDEOS, device=plan.device, readers=space.workers, progress=bar
        )
    return {"version": QUALITY_VERSION, **quality.as_dict()}


def _announce(plan: Plan, *, threads: int) -> None:
    plugins, trainer, clips = plan.config.plugins, plan.config.values.trainer, plan.training.clips
    preset = registry.read_yaml(plugins["preset"].path)
    label = f" ({preset['label']})" if preset.get("label") else ""
    parameters = sum(p.numel() for p in plan.training.network.parameters() if p.requires_grad)
    say(
        f"train encoder {plan.name} on the training videos of {plugins['task'].name}, preset {plugins['preset'].name}"
        f"{label}, seed {plan.config.seeds.encoder}: {parameters:,} parameters, {trainer.max_steps} updates of "
        f"{trainer.batch_size} clips of {clips.frames} frames; on {plan.device} with {threads} "
        f"thread{'s' * (threads > 1)}"
    )


def _versions(plan: Plan) -> dict[str, Any]:
    return {
        "encoder": plan.encoder.version,
        "training": plan.training.version,
        "trainer": TRAINER_VERSION,
        "task": plan.task.version,
        **plan.task.versions(),
    }


def _key(plan: Plan, splits: Mapping[str, Videos]) -> dict[str, Any]:
    """Return everything that the weights and the learning curve depend on; the task enters by its videos only."""
    groups = scientific(plan.config.values)
    del groups["encoder"]["weights"]
    versions = _versions(plan)
    return {
        "schema": SCHEMA,
        "encoder": groups["encoder"],
        "training": _mapping(plan.config.values.training),
        "trainer": groups["trainer"],
        "seed": plan.config.seeds.encoder,
        "versions": {name: versions[name] for name in ("encoder", "training", "trainer")},
        "videos": {split: videos.manifest for split, videos in splits.items()},
    }


def _existing(path: Path, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the report of a finished training at `path`; None where there is none, or it broke off while writing.

    Raises:
        BenchError: there is something else.
    """
    if not path.exists():
        return None
    beside = path.with_name(f"{path.name}.json")
    other = BenchError(f"{path} exists and is no result of this training", "Choose another --output, or use --force.")
    try:
        report = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise other from error
    if not isinstance(report, dict) or report.get("key") != json.loads(json.dumps(key)):
        raise other
    complete = report["weights"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    return report if complete else None


def _publish(path: Path, content: bytes) -> None:
    """Write a file that appears complete or not at all.

    Raises:
        BenchError: it can't be written.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        raise BenchError(
            f"can't write {path}: {error.strerror or error}",
            "The training is kept: mend that, or choose another --output, and give the same command again.",
        ) from error


def _command(plan: Plan) -> str:
    plugins = plan.config.plugins
    parts = ["bench train-encoder", *(f"--{kind} {plugins[kind].name}" for kind in ("encoder", "task", "preset"))]
    return " ".join([*parts, f"--seed {plan.config.seeds.encoder}", *map(recorded_override, plan.config.overrides)])


def _described(videos: Videos) -> dict[str, Any]:
    return {
        "manifest": videos.manifest,
        "videos": len(videos),
        "frames": videos.observed,
        "size": list(videos.size),
    }


def _mapping(node: Any) -> dict[str, Any]:
    content = OmegaConf.to_container(node, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy that the file format takes: on the CPU, contiguous, sharing no memory."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
