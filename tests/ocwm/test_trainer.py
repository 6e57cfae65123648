"""The training loop: learns, resumes exactly, stops cleanly, and says what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ocwm import checkpoint
from ocwm.errors import BenchError
from ocwm.flops import count_flops
from ocwm.random_state import DataOrder, batch_generator
from ocwm.trainer import FitReport, Interrupted, TrainerConfig, fit

CPU = torch.device("cpu")
CONFIG = TrainerConfig(max_steps=40, batch_size=8, lr=1e-2, log_every=10, checkpoint_seconds=1000.0)


@dataclass(frozen=True)
class Pair:
    inputs: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> Pair:
        return Pair(self.inputs.to(device), self.targets.to(device))


class Pairs:
    """50 items; `at_step` runs before the batch of a given update number."""

    def __init__(self, at_step: dict[int, Callable[[], None]] | None = None, *, poison: int | None = None) -> None:
        self.inputs = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32))
        self.at_step = at_step or {}
        self.poison = poison
        self.calls = 0
        self.seen: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, indices: np.ndarray, generator: np.random.Generator) -> Pair:
        self.at_step.get(self.calls, lambda: None)()
        inputs = self.inputs[indices]
        targets = inputs.sum(dim=1, keepdim=True) + float(generator.normal(scale=0.01))
        if self.calls == self.poison:
            targets = targets * float("nan")
        self.calls += 1
        self.seen.append(indices.tolist())
        return Pair(inputs, targets)


class Regressor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.layers = nn.ModuleList([nn.Linear(4, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 1)])
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(std=0.3, generator=generator)

    def loss(self, batch: Pair) -> dict[str, Tensor]:
        read = batch.inputs
        for layer in self.layers:
            read = layer(read)
        error = read - batch.targets
        return {"loss": error.square().mean(), "absolute": error.abs().mean()}


def train(folder: Path, config: TrainerConfig = CONFIG, **more: Any) -> tuple[Regressor, FitReport]:
    model = Regressor()
    arguments: dict[str, Any] = {"data": Pairs(), "seed": 5, "folder": folder, "device": CPU} | more
    return model, fit(model, arguments.pop("data"), config, **arguments)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


def test_it_learns_and_reports(tmp_path: Path) -> None:
    bar: list[int] = []

    class Bar:
        def update(self, n: int = 1) -> None:
            bar.append(n)

    _, report = train(tmp_path, progress=Bar())
    assert [point["step"] for point in report.curve] == [10, 20, 30, 40]
    assert set(report.curve[0]) == {"step", "lr", "loss", "absolute"}
    assert report.curve[-1]["loss"] < 0.5 * report.curve[0]["loss"]
    assert (report.steps, report.resumed_from, sum(bar)) == (40, 0, 40)
    assert report.steps_per_second > 0
    assert report.seconds > 0


def test_same_seed_gives_the_same_bits_and_another_seed_does_not(tmp_path: Path) -> None:
    first, report = train(tmp_path / "a")
    torch.rand(3)  # what the caller drew before does not matter
    again, repeated = train(tmp_path / "b")
    other, _ = train(tmp_path / "c", seed=6)
    assert same_weights(first, again)
    assert report.curve == repeated.curve
    assert not same_weights(first, other)


def test_the_callers_random_state_is_left_alone(tmp_path: Path) -> None:
    model = Regressor()
    before = torch.get_rng_state()
    config = replace(CONFIG, eval_every=10)
    validate = lambda model: {"dev": float(torch.rand(()))}  # noqa: E731
    fit(model, Pairs(), config, seed=5, folder=tmp_path, device=CPU, validate=validate)
    assert torch.equal(before, torch.get_rng_state())


def test_curve_points_are_means_over_their_window(tmp_path: Path) -> None:
    _, fine = train(tmp_path / "fine", replace(CONFIG, log_every=1))
    _, coarse = train(tmp_path / "coarse", replace(CONFIG, log_every=16))
    losses = [point["loss"] for point in fine.curve]
    assert [point["step"] for point in coarse.curve] == [16, 32, 40]
    for point, start in zip(coarse.curve, (0, 16, 32), strict=True):
        assert point["loss"] == pytest.approx(np.mean(losses[start : int(point["step"])]), rel=1e-12)


def test_validation_is_merged_and_cannot_change_the_training(tmp_path: Path) -> None:
    modes = []

    def validate(model: Regressor) -> dict[str, float]:
        modes.append((model.training, torch.is_grad_enabled()))
        return {"dev": float(torch.rand(()))}

    model, report = train(tmp_path / "with", replace(CONFIG, eval_every=15), validate=validate)
    plain, _ = train(tmp_path / "without")
    assert [point["step"] for point in report.curve if "dev" in point] == [15, 30, 40]
    assert modes == [(False, False)] * 3
    assert model.training
    assert same_weights(model, plain)


@pytest.mark.parametrize(
    ("schedule", "expected"), [("constant", [0.01, 0.01]), ("cosine", [0.01, 0.0025]), ("warmup_cosine", [0, 0.01])]
)
def test_the_schedule_reaches_the_optimiser(tmp_path: Path, schedule: str, expected: list[float]) -> None:
    config = replace(CONFIG, schedule=schedule, warmup_fraction=2 / 3, min_lr_ratio=0.0, max_steps=3, log_every=1)
    _, report = train(tmp_path, config)
    assert [report.curve[0]["lr"], report.curve[2]["lr"]] == pytest.approx(expected, abs=1e-12)


def test_parameter_groups_of_the_model_are_used_and_scaled(tmp_path: Path) -> None:
    class Grouped(Regressor):
        def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
            return [
                {"params": self.layers[0].parameters(), "lr": 0.0, "weight_decay": 0.0},
                {"params": list(self.layers[3].parameters()), "lr": 2 * lr},
            ]

    model, start = Grouped(), Grouped()
    fit(model, Pairs(), replace(CONFIG, schedule="cosine"), seed=5, folder=tmp_path, device=CPU)
    assert same_weights(model.layers[0], start.layers[0])
    assert not same_weights(model.layers[3], start.layers[3])


def test_gradient_clipping_bounds_the_update(tmp_path: Path) -> None:
    class Steep(Regressor):
        def loss(self, batch: Pair) -> dict[str, Tensor]:
            return {"loss": 1e6 * super().loss(batch)["loss"]}

    moves = []
    for clip in (0.0, 1e-12):  # far below Adam's epsilon of 1e-8, so the update all but vanishes
        model, start = Steep(), Steep()
        config = replace(CONFIG, max_steps=1, grad_clip=clip, weight_decay=0.0)
        fit(model, Pairs(), config, seed=5, folder=tmp_path / str(clip), device=CPU)
        moves.append(
            max(
                float((a - b).detach().abs().max()) for a, b in zip(model.parameters(), start.parameters(), strict=True)
            )
        )
    assert moves[0] == pytest.approx(CONFIG.lr, rel=1e-3)
    assert moves[1] < 1e-3 * CONFIG.lr


def test_frozen_parameters_stay(tmp_path: Path) -> None:
    model, start = Regressor(), Regressor()
    model.layers[0].requires_grad_(False)
    fit(model, Pairs(), CONFIG, seed=5, folder=tmp_path, device=CPU)
    assert same_weights(model.layers[0], start.layers[0])
    with pytest.raises(BenchError, match="no trainable parameters"):
        fit(start.requires_grad_(False), Pairs(), CONFIG, seed=5, folder=tmp_path / "none", device=CPU)


def test_bf16_on_a_cpu_trains_and_fp16_is_refused(tmp_path: Path) -> None:
    _, full = train(tmp_path / "fp32")
    _, half = train(tmp_path / "bf16", replace(CONFIG, precision="bf16"))
    assert half.curve[-1]["loss"] == pytest.approx(full.curve[-1]["loss"], rel=0.3)
    assert half.curve != full.curve
    with pytest.raises(BenchError, match=r"fp16 needs a CUDA device.*bf16"):
        train(tmp_path / "fp16", replace(CONFIG, precision="fp16"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_cuda_trains_resumes_and_finds_the_update_that_failed(tmp_path: Path, precision: str) -> None:
    device = torch.device("cuda")
    config = replace(CONFIG, precision=precision, grad_clip=1.0)
    _, report = train(tmp_path / "whole", config, device=device)
    assert report.curve[-1]["loss"] < 0.5 * report.curve[0]["loss"]
    data = Pairs({15: lambda: os.kill(os.getpid(), signal.SIGTERM)})
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", config, device=device, data=data)
    _, resumed = train(tmp_path / "parts", config, device=device)
    assert resumed.resumed_from == 16
    assert resumed.curve[-1]["loss"] == pytest.approx(report.curve[-1]["loss"], rel=1e-2)
    with pytest.raises(BenchError, match="at update 14 of 40"):
        train(tmp_path / "nan", config, device=device, data=Pairs(poison=13))


def test_data_order_visits_every_item_once_an_epoch_and_drops_the_rest() -> None:
    order = DataOrder(50, batch_size=8, seed=5)
    epochs = [np.concatenate([order.indices(6 * epoch + i) for i in range(6)]) for epoch in range(3)]
    for items in epochs:
        assert len(set(items.tolist())) == 48
    assert not np.array_equal(epochs[0], epochs[1])
    assert np.array_equal(DataOrder(50, batch_size=8, seed=5).indices(7), order.indices(7))
    assert not np.array_equal(DataOrder(50, batch_size=8, seed=6).indices(7), order.indices(7))
    draws = {batch_generator(5, step).random() for step in range(20)} | {np.random.default_rng(5).random()}
    assert len(draws) == 21


def test_killed_at_random_points_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).parent / "killed_training.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout)
    assert codes.count(-signal.SIGKILL) >= 2  # a late one may find the training complete
    assert codes.count(128 + signal.SIGINT) >= 2
    whole, killed = (checkpoint.load(tmp_path / name / "final.safetensors") for name in ("whole", "killed"))
    assert killed.meta == whole.meta
    assert killed.tensors.keys() == whole.tensors.keys()
    for name, value in whole.tensors.items():
        assert torch.equal(value, killed.tensors[name]), name
    left = {path.name for path in (tmp_path / "killed").iterdir()}
    assert left == {"checkpoint.safetensors", "final.safetensors"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [0, 13, 39])
def test_a_signal_stops_after_the_update_and_the_next_start_continues(
    tmp_path: Path, number: signal.Signals, at: int
) -> None:
    handlers = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    data = Pairs({at: lambda: os.kill(os.getpid(), number)})
    with pytest.raises(Interrupted, match=f"stopped after {at + 1} of 40 updates") as stop:
        train(tmp_path / "parts", data=data)
    assert isinstance(stop.value, KeyboardInterrupt)
    assert stop.value.signal_number == number
    assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)] == handlers
    rest = Pairs()
    model, report = train(tmp_path / "parts", data=rest)
    whole, expected = train(tmp_path / "whole")
    assert report.resumed_from == at + 1
    assert rest.calls == 40 - (at + 1)
    assert report.curve == expected.curve
    assert same_weights(model, whole)


@pytest.mark.parametrize("at", [0, 13])
def test_muon_goes_on_with_the_same_bits(tmp_path: Path, at: int) -> None:
    config = replace(CONFIG, optimizer="muon")
    data = Pairs({at: lambda: signal.raise_signal(signal.SIGINT)})
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", config, data=data)
    resumed, report = train(tmp_path / "parts", config)
    whole, expected = train(tmp_path / "whole", config)
    assert report.resumed_from == at + 1
    assert report.curve == expected.curve
    assert same_weights(resumed, whole)


def test_muon_is_adamw_for_a_model_without_blocks(tmp_path: Path) -> None:
    class Plain(Regressor):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*self.layers)

    plain, blocks = {}, {}
    for name in ("muon", "adamw"):
        config = replace(CONFIG, optimizer=name)
        plain[name] = Plain()
        fit(plain[name], Pairs(), config, seed=5, folder=tmp_path / "plain" / name, device=CPU)
        blocks[name], _ = train(tmp_path / "blocks" / name, config)
    assert same_weights(plain["muon"], plain["adamw"])
    assert not same_weights(blocks["muon"], blocks["adamw"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_muon_under_fp16(tmp_path: Path) -> None:
    model, report = train(tmp_path, replace(CONFIG, optimizer="muon", precision="fp16"), device=torch.device("cuda"))
    assert report.curve[-1]["loss"] < report.curve[0]["loss"]
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_second_ctrl_c_aborts_at_once(tmp_path: Path) -> None:
    data = Pairs({13: lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)] and None})
    with pytest.raises(KeyboardInterrupt) as stop:
        train(tmp_path, data=data)
    assert not isinstance(stop.value, Interrupted)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_outside_the_main_thread_handlers_are_not_touched(tmp_path: Path) -> None:
    reports: list[FitReport] = []
    thread = threading.Thread(target=lambda: reports.append(train(tmp_path)[1]))
    thread.start()
    thread.join()
    assert reports[0].steps == 40


def test_a_finished_training_is_taken_over(tmp_path: Path) -> None:
    model, report = train(tmp_path)
    data = Pairs()
    again, taken = train(tmp_path, data=data)
    assert data.calls == 0
    assert (taken.steps, taken.resumed_from, taken.steps_per_second) == (40, 40, 0.0)
    assert taken.curve == report.curve
    assert same_weights(model, again)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(BenchError, match=r"checkpoint\.safetensors was made with lr 0\.01, not 0\.02.*--rebuild"):
        train(tmp_path, replace(CONFIG, lr=0.02))
    with pytest.raises(BenchError, match="made with seed 5, not 6"):
        train(tmp_path, seed=6)
    train(tmp_path, replace(CONFIG, checkpoint_seconds=1.0))  # cannot change a number


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    train(tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BenchError, match=r"damaged checkpoint .*checkpoint\.safetensors.*--rebuild"):
        train(tmp_path)


def test_a_loss_that_is_not_finite_stops_with_the_facts(tmp_path: Path) -> None:
    config = replace(CONFIG, checkpoint_seconds=0.0)
    with pytest.raises(BenchError) as error:
        train(tmp_path, config, data=Pairs(poison=13))
    text = str(error.value)
    assert "the loss is nan at update 14 of 40" in text
    assert "learning rate 0.01" in text
    assert "Lower trainer.lr, set trainer.grad_clip=1.0" in text
    _, whole = train(tmp_path / "whole", replace(config, log_every=1))
    assert f"the last finite loss was {whole.curve[12]['loss']:g}" in text
    saved = checkpoint.load(tmp_path / "checkpoint.safetensors")
    assert saved.meta["step"] == 13
    assert all(bool(value.isfinite().all()) for value in saved.group("model.").values())


def test_weights_that_an_update_spoiled_are_never_saved(tmp_path: Path) -> None:
    class Spoiled(Regressor):
        def loss(self, batch: Pair) -> dict[str, Tensor]:
            zero = self.layers[3].bias - self.layers[3].bias.detach()
            return {"loss": super().loss(batch)["loss"] + zero.square().sum().sqrt()}  # 0, with a gradient of 0/0

    with pytest.raises(BenchError, match=r"the weight 'layers\.3\.bias' is not finite at update 1 of 40"):
        fit(Spoiled(), Pairs(), replace(CONFIG, checkpoint_seconds=0.0), seed=5, folder=tmp_path, device=CPU)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_wrong_losses_and_sizes_are_explained(tmp_path: Path) -> None:
    class Changing(Regressor):
        calls = 0

        def loss(self, batch: Pair) -> dict[str, Tensor]:
            self.calls += 1
            parts = super().loss(batch)
            return parts if self.calls < 3 else {"loss": parts["loss"]}

    with pytest.raises(BenchError, match="changed its parts at update 3"):
        fit(Changing(), Pairs(), CONFIG, seed=5, folder=tmp_path, device=CPU)
    with pytest.raises(BenchError, match="Linear has no method loss"):
        fit(nn.Linear(2, 2), Pairs(), CONFIG, seed=5, folder=tmp_path, device=CPU)
    with pytest.raises(BenchError, match="of Regressor has no 'loss'"):
        train(tmp_path, loss=lambda model, batch: {"error": model.loss(batch)["loss"]})
    with pytest.raises(BenchError, match=r"50 items, fewer than one batch of 64.*at most 50"):
        train(tmp_path, replace(CONFIG, batch_size=64))
    with pytest.raises(BenchError, match="'absolute' has the name of a loss"):
        train(tmp_path, replace(CONFIG, eval_every=5), validate=lambda model: {"absolute": 1.0})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adamm"}, "unknown trainer.optimizer 'adamm'. Did you mean 'adam'?"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'?"),
        ({"precision": "fp8"}, "trainer.precision 'fp8'"),
        ({"max_steps": 0}, "trainer.max_steps is 0. It must be at least 1."),
        ({"lr": 0.0}, "trainer.lr is 0.0"),
        ({"grad_clip": -1.0}, "trainer.grad_clip is -1.0"),
        ({"warmup_fraction": 1.5}, "trainer.warmup_fraction is 1.5"),
        ({"weight_decay": float("nan")}, "trainer.weight_decay is nan"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError) as error:
        TrainerConfig(**settings)
    assert message in str(error.value)


def test_flops_of_a_matrix_product() -> None:
    left, right = torch.ones(3, 5), torch.ones(5, 7)
    assert count_flops(lambda: left @ right) == 2 * 3 * 5 * 7
