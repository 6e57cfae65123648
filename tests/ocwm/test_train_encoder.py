"""`bench train-encoder`: the weights file, what lies beside it, interruptions, errors."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ocwm import kept_frames
from ocwm.cli import main
from ocwm.config import compose, instantiate
from ocwm.encoder_training import Clips
from ocwm.errors import BenchError
from ocwm.kept_frames import ClipData
from ocwm.types import Observations

TRAIN = ["train-encoder", "--encoder", "colours_demo", "--task", "discs", "runtime.threads=1"]


@pytest.fixture(autouse=True)
def installed(demo: Path) -> Path:
    return demo


def trained(*arguments: str, capsys: pytest.CaptureFixture[str]) -> dict:
    capsys.readouterr()
    assert main([*TRAIN, *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_it_says_what_it_does_and_how_to_use_the_weights(capsys: pytest.CaptureFixture[str], demo: Path) -> None:
    assert main([*TRAIN, "encoder.width=6"]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("train encoder colours_demo on the training videos of discs, preset mini")
    assert "12 updates of 2 clips of 3 frames; on cpu with 1 thread" in printed.err
    lines = printed.out.splitlines()
    assert lines[0].split() == ["step", "lr", "loss", "dev_loss"]
    assert [line.split()[0] for line in lines[2:5]] == ["4", "8", "12"]
    (path,) = (demo / "encoders").glob("*.safetensors")
    assert lines[-1] == f"encoder=colours_demo encoder.width=6 encoder.weights={path}"
    report = json.loads(path.with_name(f"{path.name}.json").read_text())
    assert path.name == f"colours_demo-{report['id']}.safetensors"
    assert report["command"] == (
        "bench train-encoder --encoder colours_demo --task discs --preset mini --seed 0 encoder.width=6"
    )
    assert report["curve"][-1]["dev_loss"] < report["curve"][1]["dev_loss"]
    assert report["data"]["train"]["videos"] == 6
    assert report["data"]["train"]["frames"] == 10  # not the future
    assert report["config"]["trainer"]["optimizer"] == "adam"  # the task's trainer is for world models
    assert report["seeds"]["encoder"] == 0
    assert report["costs"]["training"]["seconds"] > 0
    assert report["provenance"]["threads"] == 1
    assert {name: list(value.shape) for name, value in load_file(path).items()} == {
        "0.weight": [6, 3],
        "0.bias": [6],
        "2.weight": [3, 6],
        "2.bias": [3],
    }


def test_the_same_command_does_nothing_twice(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "some where" / "colours.safetensors"
    first = trained("--output", str(path), capsys=capsys)
    written = path.stat().st_mtime_ns
    assert main([*TRAIN, "--output", str(path)]) == 0
    printed = capsys.readouterr()
    assert f"this training is done: {path} (--force trains anew)" in printed.err
    assert path.stat().st_mtime_ns == written
    again = trained("--output", str(path), "--force", capsys=capsys)
    assert again["weights"] == first["weights"]  # the same seed gives the same weights
    assert again["created"] >= first["created"]
    assert path.stat().st_mtime_ns > written
    assert trained("--seed", "3", capsys=capsys)["weights"] != first["weights"]
    assert sorted(one.name for one in path.parent.iterdir()) == ["colours.safetensors", "colours.safetensors.json"]


def test_frames_are_kept_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = trained(capsys=capsys)
    assert not first["costs"]["kept_frames.train"]["cached"]
    other = trained("trainer.lr=0.02", capsys=capsys)
    assert other["costs"]["kept_frames.train"]["cached"]
    assert other["weights"] != first["weights"]
    monkeypatch.setattr(kept_frames, "KEPT_VERSION", 99)
    assert not trained("trainer.lr=0.03", capsys=capsys)["costs"]["kept_frames.train"]["cached"]


def test_a_file_of_another_training_is_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    trained("--output", str(path), capsys=capsys)
    kept = path.read_bytes()
    assert main([*TRAIN, "trainer.lr=0.02", "--output", str(path)]) == 2
    assert f"{path} exists and is no result of this training. Choose another --output, or use --force" in (
        capsys.readouterr().err
    )
    assert path.read_bytes() == kept
    trained("trainer.lr=0.02", "--output", str(path), "--force", capsys=capsys)
    assert path.read_bytes() != kept


def test_weights_that_broke_off_while_they_were_written_are_written_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    trained("--output", str(path), capsys=capsys)
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    trained("--output", str(path), capsys=capsys)
    assert path.read_bytes() == whole


def test_an_interrupted_training_ends_as_one_without_a_break(capsys: pytest.CaptureFixture[str], demo: Path) -> None:
    assert main([*TRAIN, "training.fail=stop"]) == 130
    assert "the same command continues" in capsys.readouterr().err
    (saved,) = (demo / "work").rglob("checkpoint.safetensors")
    assert not (demo / "encoders").exists()
    # The same training without the fault has another key; its checkpoint is moved to where it looks.
    whole = trained(capsys=capsys)
    from ocwm.artifacts import digest

    folder = demo / "work" / "encoder.colours_demo" / digest(whole["key"], length=24)
    assert not folder.exists()  # gone once the stage is complete
    folder.mkdir(parents=True)
    saved.rename(folder / saved.name)
    resumed = trained("--force", capsys=capsys)
    assert resumed["weights"] == whole["weights"]
    assert resumed["curve"] == whole["curve"]


def test_a_killed_process_goes_on(demo_environment: dict[str, str], demo: Path, tmp_path: Path) -> None:
    arguments = ["trainer.max_steps=400", "trainer.eval_every=0"]
    command = [sys.executable, "-m", "ocwm.cli", *TRAIN, *arguments, "--output", str(tmp_path / "x.safetensors")]
    process = subprocess.Popen([*command, "trainer.checkpoint_seconds=0"], env=demo_environment)
    while process.poll() is None and not list((demo / "work").rglob("checkpoint.safetensors")):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL  # it had not ended
    assert not (tmp_path / "x.safetensors").exists()
    assert main([*TRAIN, *arguments, "--output", str(tmp_path / "x.safetensors")]) == 0
    whole = tmp_path / "whole.safetensors"
    assert main([*TRAIN, *arguments, "--output", str(whole), "--force"]) == 0
    assert (tmp_path / "x.safetensors").read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--encoder", "colours_dem"], "no encoder 'colours_dem'. Did you mean 'colours_demo'?"),
        (["--encoder", "passthrough"], "the encoder 'passthrough' can't be trained: it is frozen as published"),
        (["--task", "disks"], "no task 'disks'. Did you mean 'discs'?"),
        (["--task", "circles"], "this task has no videos"),
        (
            ["trainer.max_step=3"],
            "unknown key 'trainer.max_step' (trainer has no 'max_step'). Did you mean 'max_steps'",
        ),
        (["training.frame=3"], "Did you mean 'frames'?"),
        (["encoder=state"], "'encoder=state' is no override here. Use --encoder state"),
        (["encoder.weights=x"], "encoder.weights names weights to use"),
        (["--output", "weights.pt"], "Weights are a safetensors file: --output NAME.safetensors"),
        (["task.root=/nowhere"], "the data is absent: task.root=/nowhere"),
        (["training.frames=9"], "the train videos have 10 frames, fewer than a clip of 17"),
        (["task.dev=0"], "there are no dev videos"),
        (["trainer.batch_size=7"], "the training data has 6 items, fewer than one batch of 7"),
        (["trainer.precision=fp16", "runtime.device=cpu"], "trainer.precision=fp16 needs a CUDA device"),
    ],
)
def test_errors_are_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    given = list(TRAIN)
    for name, value in pairwise(arguments):
        if name in given:
            given[given.index(name) + 1] = value
    rest = [] if arguments[0] in TRAIN else arguments
    assert main([*given, *rest]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in line


def test_an_output_that_can_not_be_written_loses_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert main([*TRAIN, "--output", str(tmp_path / "file" / "x.safetensors")]) == 2
    assert "The training is kept" in capsys.readouterr().err
    assert trained("--output", str(tmp_path / "x.safetensors"), capsys=capsys)["costs"]


@pytest.mark.parametrize("name", ["savi", "videosaur", "gated_slots", "patches"])
def test_every_encoder_of_the_project(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-encoder", "--encoder", name, "--task", "discs", "--preset", "tiny", "runtime.threads=1"]) == 0
    overrides = capsys.readouterr().out.splitlines()[-1].split()
    encoder = instantiate(compose(method=None, task="discs", preset="tiny", overrides=overrides).values.encoder)
    from demo_plugin.discs import DiscVideos

    frames = DiscVideos(seed=0, count=1, length=3, size=(32, 48), moving_background=False).frames(0)
    seen = Observations(ids=torch.tensor([0]), pixels=torch.from_numpy(frames.transpose(0, 3, 1, 2).copy())[None])
    latents = encoder.encode(seen)[0].latents
    assert latents.shape == (1, 3, encoder.num_slots, encoder.slot_dim)
    assert encoder.weights


def test_a_moving_background_is_an_error_of_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--encoder", "gated_slots", "--task", "discs", "--preset", "tiny", "task.moving_background=true"]
    assert main(["train-encoder", *arguments]) == 2
    assert "error: the background does not stand still" in capsys.readouterr().err


def test_trainings_are_no_part_of_runs() -> None:
    run = compose(method="linear_demo", task="discs")
    assert "training" not in run.values
    assert "training" not in run.values.encoder
    assert run.values.trainer.max_steps == 999
    training = compose(method=None, task="discs", preset="smoke", seed=4, trains="colours_demo")
    assert (training.values.trainer.max_steps, training.values.trainer.lr) == (4, 0.01)
    assert (training.values.training.frames, training.values.encoder.width) == (2, 5)
    assert (training.seeds.encoder, training.seeds.model) == (4, 0)


FRAMES = np.arange(2 * 20, dtype=np.uint8).reshape(2, 20, 1, 1, 1) * np.ones((1, 1, 3, 2, 2), np.uint8)


def times(clips: Clips, items: list[int]) -> list[list[int]]:
    batch = ClipData(FRAMES, clips).batch(np.array(items), np.random.default_rng(0))
    return batch.frames[:, :, 0, 0, 0].tolist()


def test_every_clip_is_an_item() -> None:
    clips = Clips(frames=3, strides=(2,), pick="every")
    assert len(ClipData(FRAMES, clips)) == 2 * 16
    assert times(clips, [0, 15, 16, 31]) == [[0, 2, 4], [15, 17, 19], [20, 22, 24], [35, 37, 39]]


def test_one_of_the_disjoint_clips_is_drawn() -> None:
    clips = Clips(frames=3, strides=(2,), pick="chunk")
    assert len(ClipData(FRAMES, clips)) == 2
    assert {tuple(one) for one in times(clips, [0] * 50)} == {(0, 2, 4), (6, 8, 10), (12, 14, 16)}


def test_any_clip_is_drawn_at_any_stride() -> None:
    clips = Clips(frames=3, strides=(1, 2), pick="random")
    drawn = np.array(times(clips, [1] * 400))
    assert {int(one) for one in drawn[:, 1] - drawn[:, 0]} == {1, 2}
    assert (drawn.min(), drawn.max()) == (20, 39)


def test_clips_are_mirrored_as_a_whole() -> None:
    frames = np.zeros((1, 8, 3, 2, 4), np.uint8)
    frames[..., 0] = 1
    batch = ClipData(frames, Clips(frames=8, pick="random", flip=0.5)).batch(
        np.zeros(200, np.int64), np.random.default_rng(0)
    )
    left = batch.frames[..., 0].float().mean(dim=(1, 2, 3))
    assert set(left.tolist()) == {0.0, 1.0}
    assert 0.35 < left.mean() < 0.65


def test_impossible_clips_are_named() -> None:
    with pytest.raises(BenchError, match=r"training\.pick=all is not known"):
        Clips(frames=1, pick="all")  # type: ignore[arg-type]
    with pytest.raises(BenchError, match=r"training\.pick=every takes one stride"):
        Clips(frames=2, strides=(1, 2))
    with pytest.raises(BenchError, match=r"training\.frames=0"):
        Clips(frames=0)
