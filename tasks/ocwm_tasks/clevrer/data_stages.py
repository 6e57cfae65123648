"""The cached stages up to the latents: data, frames, slots.

Shape letters: V videos, T frames, N slots, D slot dimension, n objects.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ocwm.context import RunContext, Workspace
from ocwm.distributed import team
from ocwm.errors import BenchError
from ocwm.extraction import EXTRACTION_VERSION, extract_all
from ocwm.videos import Videos
from ocwm_tasks.clevrer.dataset import Dataset
from ocwm_tasks.clevrer.embedded import EmbeddedDataset
from ocwm_tasks.clevrer.generator.make import SPLITS, make_dataset
from ocwm_tasks.clevrer.generator.rendering import Untaken, render_videos
from ocwm_tasks.clevrer.latents import Latents, copy_slots, encode_scenes, write_known
from ocwm_tasks.clevrer.layout_official import find_files
from ocwm_tasks.clevrer.reader import open_dataset
from ocwm_tasks.clevrer.splits import ORIGINS, Split, percent, plan, read_splits, stored_splits
from ocwm_tasks.clevrer.video_sets import EmbeddedVideos, OfficialVideos

if TYPE_CHECKING:
    from ocwm_tasks.clevrer.task import ClevrerTask

Key = dict[str, Any]
NAMES = tuple(ORIGINS)
REPORT, IMAGES = "extraction.json", "images.npy"


class DataStages:
    """Data, videos and latents of one run.

    Args:
        task: settings.
        workspace: for making data, for rendering and for asking about stages a workspace will do; to encode it must be
            a `RunContext`.
    """

    def __init__(self, task: ClevrerTask, workspace: Workspace) -> None:
        self.task = task
        self.workspace = workspace
        self._videos: dict[str, Videos] = {}

    @property
    def context(self) -> RunContext:
        """The workspace of a run."""
        assert isinstance(self.workspace, RunContext)
        return self.workspace

    # Keys

    @property
    def data_key(self) -> Key:
        """Of the embedded data."""
        return self.workspace.part("data")

    def frames_key(self, name: str) -> Key:
        """Of the frames of a split that the data came without."""
        return {**self.data_key, "split": name}

    def latents_key(self, *more: str) -> Key:
        """What all latents depend on, with more parts of the configuration."""
        pixels = {"extraction": EXTRACTION_VERSION} if self.task.reads_videos else {}
        return {**self.workspace.part("data", "encoder", "seeds.encoder", *more), **pixels}

    def slots_key(self, name: str) -> Key:
        """Of the latents of a split."""
        return {**self.latents_key(), "split": name}

    # Data

    @cached_property
    def root(self) -> Path:
        """Folder of the data; embedded data is made where it is missing."""
        return self.task.root or self.workspace.stage("data", self.data_key, self._make)

    def _make(self, folder: Path) -> None:
        config = self.task.generator
        with self.workspace.progress("data", sum(map(config.videos, SPLITS))) as bar:
            make_dataset(
                folder, config, seed=self.workspace.seeds.data, workers=self.workspace.workers, progress=bar.update
            )

    @cached_property
    def dataset(self) -> Dataset:
        """The opened data."""
        return self.task.dataset if self.task.root is not None else open_dataset(self.root)

    @cached_property
    def splits(self) -> dict[str, Split]:
        """Train, dev and test."""
        task = self.task
        if task.stored is not None:
            stored = {name: split.videos.tolist() for name, split in task.stored.splits.items()}
            return stored_splits(self.dataset, stored, where=str(task.stored.path))
        if task.reads_videos and not task.embedded:
            there = {name: self.dataset.indices(name, "videos") for name in self.dataset.splits}
            return stored_splits(self.dataset, there, where=str(self.dataset.root))
        return read_splits(self.dataset, task.scene_source)

    @property
    def measured(self) -> Split:
        """The split that is measured on."""
        return self.splits[self.task.split]

    # Videos

    def videos(self, name: str) -> Videos:
        """Return the videos of a split; those that the data came without are rendered.

        Raises:
            BenchError: there are none, or they can't be read.
        """
        if name not in self._videos:
            self._videos[name] = self._find_videos(name)
        return self._videos[name]

    def renders(self, name: str) -> bool:
        """Whether the run must render videos of a split that the embedded data comes without."""
        task, config = self.task, self.task.generator
        if not (task.reads_videos and task.embedded):
            return False
        if task.root is not None:
            return bool(self.unrendered(name))
        origin = ORIGINS[name]
        return config.rendered(origin) < config.videos(origin)

    def unrendered(self, name: str) -> list[int]:
        """Numbers of the videos of a split that the embedded data came without."""
        origin, _ = plan(self.dataset)[name]
        return sorted(set(self.dataset.scenes(origin).indices) - set(self.dataset.indices(origin, "videos")))

    def _find_videos(self, name: str) -> Videos:
        if name not in NAMES:
            raise BenchError(f"there is no split '{name}'", f"Known: {', '.join(NAMES)}.")
        origin, belongs = plan(self.dataset)[name]
        if isinstance(self.dataset, EmbeddedDataset):
            return self._embedded_videos(self.dataset, name, origin)
        there = self.dataset.indices(origin, "videos") if origin in self.dataset.splits else ()
        indices = [index for index in there if belongs(percent(index))]
        if not indices:
            raise BenchError(
                f"{self.dataset.root} has no videos for {name} ({len(there)} in split '{origin}')",
                "Put them there, or choose an encoder that reads states.",
            )
        return OfficialVideos(self.dataset, origin, indices)

    def _embedded_videos(self, dataset: EmbeddedDataset, name: str, origin: str) -> EmbeddedVideos:
        missing = self.unrendered(name)

        def build(folder: Path) -> None:
            height, width = dataset.frame_size()
            untaken = [Untaken(index, dataset.motion(origin, index)) for index in missing]
            with self.workspace.progress(f"rendering {name}", len(missing)) as bar:
                workers = self.workspace.workers
                render_videos(folder, origin, untaken, width=width, height=height, workers=workers, progress=bar.update)

        elsewhere = None
        if missing:
            folder = self.workspace.stage(f"frames.{name}", self.frames_key(name), build)
            elsewhere = EmbeddedDataset(folder, files=find_files(folder))
        manifest = (self.workspace.data or {}).get("manifest", "")
        return EmbeddedVideos(dataset, origin, dataset.scenes(origin).indices, elsewhere=elsewhere, manifest=manifest)

    # Latents

    def latents(self, name: str) -> Latents:
        """Encoded videos of a split."""
        stage, key = f"slots.{name}", self.slots_key(name)
        if not self.task.reads_videos:
            return Latents.load(self.context.stage(stage, key, lambda folder: self._encode_or_copy(name, folder)))
        if not self.context.cached(stage, key):
            self.videos(name)  # what it renders has costs of its own
        folder = self.context.stage(stage, key, lambda folder: self._extract(name, folder), together=True)
        report = self.extraction(name)
        self.context.costs.note(stage, frames_per_second=report["frames_per_second"])
        return Latents.load(folder)

    def extraction(self, name: str) -> dict[str, Any]:
        """What was found when the slots of a split were extracted from its videos; {} where they are not yet."""
        path = self.context.cache.path(f"slots.{name}", self.slots_key(name)) / REPORT
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return found

    def _encode_or_copy(self, name: str, folder: Path) -> None:
        split, stored = self.splits[name], self.task.stored
        with self.context.progress(f"encoding {name}", len(split.scenes) or len(split.videos)) as bar:
            if stored is None:
                encode_scenes(self.context.encoder, split.scenes, folder, advance=bar.update)
            else:
                copy_slots(stored, split.videos, folder, advance=bar.update)

    def _extract(self, name: str, folder: Path) -> None:
        videos, encoder, context = self.videos(name), self.context.encoder, self.context
        work = context.work(f"slots.{name}", self.slots_key(name))
        with context.progress(f"encoding {name} (frames)", len(videos) * videos.length // team().size) as bar:
            found = extract_all(
                encoder, videos, work, folder, device=context.device, readers=context.own_workers, progress=bar
            )
        if found is None:
            return
        scenes = self.splits[name].scenes if self.task.objects_known else ()
        write_known(folder, videos.ids, found.slot_of, scenes, frames=videos.length)
        shown = ~np.isnan(found.iou)
        report = {
            "frames": found.frames,
            "frames_per_second": round(found.frames_per_second, 1),
            "device": str(context.device),
            "objects": int(shown.sum()),
            "missed_objects": found.missed,
        }
        (folder / REPORT).write_text(json.dumps(report), encoding="utf-8")
        context.say(
            f"slots.{name}: {found.frames:,} frames encoded in {found.seconds:,.1f} s, "
            f"{found.frames_per_second:,.0f} frames/s on {context.device}"
        )

    def images(self, name: str) -> NDArray[np.float16]:
        """Observed frames of a split as the encoder's decoder gives them, (V, T, 3, h, w), a memory map."""

        def build(folder: Path) -> None:
            videos, encoder = self.videos(name), self.context.encoder
            with (folder / IMAGES).open("wb") as file, self.context.progress(f"images {name}", len(videos)) as bar:
                for video in range(len(videos)):
                    pixels = np.ascontiguousarray(videos.frames(video, 0, videos.observed).transpose(0, 3, 1, 2))
                    shown = encoder.target_images(torch.from_numpy(pixels)[None])[0].numpy().astype("<f2")
                    if video == 0:
                        header = {"descr": "<f2", "fortran_order": False, "shape": (len(videos), *shown.shape)}
                        np.lib.format.write_array_header_1_0(file, header)
                    file.write(shown.tobytes())
                    bar.update(1)

        folder = self.context.stage(f"images.{name}", self.slots_key(name), build)
        return cast("NDArray[np.float16]", np.load(folder / IMAGES, mmap_mode="r"))
