"""What changes while a model trains, and its checkpoint: weights, optimiser, loss scale, learning curve, generators."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from ocwm import checkpoint
from ocwm.distributed import team
from ocwm.errors import BenchError
from ocwm.muon import Muon, matrices
from ocwm.random_state import capture_torch, restore_torch
from ocwm.schedules import learning_rate
from ocwm.trainer_config import TRAINER_VERSION, TrainerConfig
from ocwm.whole_files import remove_partial

_ANEW = "Delete it, or run again with --rebuild, to train anew."


class TrainingState:
    """The state of one training after `step` updates.

    Several processes that train together have the same state: gradients and losses are averaged over them.

    Losses stay on the device in a window of `log_every` rows and are read once a window, so that a GPU never waits for
    Python. On a CPU, where reading costs nothing, every loss is looked at before its update.

    Attributes:
        step: updates made.
        saved_step: updates made at the last checkpoint.
        seconds: wall time up to the checkpoint that was resumed.
        curve: the learning curve so far.
    """

    def __init__(
        self, model: nn.Module, config: TrainerConfig, *, path: Path, device: torch.device, seed: int, items: int
    ) -> None:
        self.step = self.saved_step = 0
        self.seconds = 0.0
        self.curve: list[dict[str, float]] = []
        self._model = model
        self._config = config
        self._path = path
        self._device = device
        self._identity = {
            "trainer": TRAINER_VERSION,
            **config.scientific(),
            "seed": seed,
            "items": items,
            "device": device.type,
        }
        self._optimizer = _build_optimizer(model, config)
        self._base_rates = [float(group["lr"]) for group in self._optimizer.param_groups]
        self._parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self._names: tuple[str, ...] = ()
        self._window = torch.empty(0)
        self._filled = 0
        self._last_loss: float | None = None

    def update(self, parts: Mapping[str, Tensor]) -> None:
        """Make one update from the loss's parts (scalars; "loss" is minimised).

        Raises:
            BenchError: when the loss is not finite (found at the next `log` or `save` on a GPU).
        """
        self._record(parts)
        if self._device.type == "cpu":
            self._require_finite(self._filled - 1)
        self._set_rates()
        self._scaler.scale(parts["loss"]).backward()  # type: ignore[no-untyped-call]
        if self._config.grad_clip > 0:
            self._scaler.unscale_(self._optimizer)
            clip_grad_norm_(self._parameters, self._config.grad_clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def log(self, figures: Mapping[str, float]) -> None:
        """Add a point to the learning curve: means of the updates since the last point, and `figures`."""
        self._require_finite(0)
        point: dict[str, float] = {"step": self.step, "lr": self._rate(self.step - 1, self._config.lr)}
        means = self._window[: self._filled].double().mean(dim=0).tolist()
        point.update(zip(self._names, means, strict=True))
        if both := point.keys() & figures.keys():
            raise BenchError(f"the validation figure '{min(both)}' has the name of a loss", "Give it another name.")
        self.curve.append({**point, **figures})
        self._filled = 0

    def save(self, *, seconds: float) -> None:
        """Write the checkpoint; `seconds` is the wall time so far."""
        self._require_finite(0)
        self._require_finite_weights()
        slots: dict[int, dict[str, Tensor]] = self._optimizer.state_dict()["state"]
        tensors = {f"model.{name}": value for name, value in self._model.state_dict().items()}
        tensors |= {f"optimizer.{i}.{key}": value for i, slot in slots.items() for key, value in slot.items()}
        tensors |= {f"random.{name}": value for name, value in capture_torch(self._device).items()}
        tensors["window"] = self._window[: self._filled]
        meta = {
            "identity": self._identity,
            "step": self.step,
            "seconds": seconds,
            "curve": self.curve,
            "names": self._names,
            "last_loss": self._last_loss,
            "scaler": self._scaler.state_dict(),
        }
        checkpoint.save(self._path, tensors, meta)
        self.saved_step = self.step

    def resume(self) -> int:
        """Take over the checkpoint when there is one; return the number of updates it had made.

        Raises:
            BenchError: when it is damaged, or of a training with other settings, data, device or model.
        """
        remove_partial(self._path)
        if not self._path.exists():
            return 0
        saved = checkpoint.load(self._path)
        meta = saved.meta
        for key, value in self._identity.items():
            if (before := meta["identity"].get(key)) != value:
                raise BenchError(f"the checkpoint {self._path} was made with {key} {before}, not {value}", _ANEW)
        checkpoint.load_weights(self._model, saved.group("model."), source=self._path)
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in saved.group("optimizer.").items():
            index, key = name.split(".", 1)
            slots.setdefault(int(index), {})[key] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": slots, "param_groups": groups})
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(meta["scaler"])
        restore_torch(saved.group("random."), self._device)
        self.step = self.saved_step = meta["step"]
        self.seconds, self.curve = meta["seconds"], meta["curve"]
        self._names, self._last_loss = tuple(meta["names"]), meta["last_loss"]
        self._filled = len(saved.tensors["window"])
        self._window = torch.empty(self._config.log_every, len(self._names), device=self._device)
        self._window[: self._filled] = saved.tensors["window"].to(self._device)
        return self.step

    def _record(self, parts: Mapping[str, Tensor]) -> None:
        if not self._names:
            if "loss" not in parts:
                raise BenchError(f"the loss of {type(self._model).__name__} has no 'loss'", f"It has {sorted(parts)}.")
            self._names = ("loss", *(name for name in parts if name != "loss"))
            self._window = torch.empty(self._config.log_every, len(self._names), device=self._device)
        if parts.keys() != set(self._names):
            raise BenchError(
                f"the loss of {type(self._model).__name__} changed its parts at update {self.step + 1}: "
                f"{sorted(parts)} instead of {sorted(self._names)}",
                "A loss must return the same names each time.",
            )
        row = [parts[name].detach().to(self._device, torch.float32) for name in self._names]
        torch.stack(row, out=self._window[self._filled])
        team().average(self._window[self._filled])
        self._filled += 1

    def _require_finite(self, first: int) -> None:
        """Look at the window's losses from row `first` on."""
        if not self._filled:
            return
        logged = int(self.curve[-1]["step"]) if self.curve else 0
        for row, loss in enumerate(self._window[first : self._filled, 0].tolist(), start=first):
            if not math.isfinite(loss):
                self._raise_not_finite(f"the loss is {loss}", update=logged + row + 1)
            self._last_loss = loss

    def _require_finite_weights(self) -> None:
        """Keep weights that the last update spoiled out of the checkpoint; its loss came before it."""
        for name, parameter in self._model.named_parameters():
            if not torch.isfinite(parameter).all():
                self._raise_not_finite(f"the weight '{name}' is not finite", update=self.step)

    def _raise_not_finite(self, what: str, *, update: int) -> NoReturn:
        team().reported = True  # all processes come here together
        rate = self._rate(update - 1, self._config.lr)
        last = (
            "no loss was finite before" if self._last_loss is None else f"the last finite loss was {self._last_loss:g}"
        )
        clip = "" if self._config.grad_clip > 0 else ", set trainer.grad_clip=1.0"
        wide = "" if self._config.precision == "fp32" else ", use trainer.precision=fp32"
        raise BenchError(
            f"{what} at update {update} of {self._config.max_steps} ({last}, learning rate {rate:g})",
            f"Lower trainer.lr{clip}{wide}, or check the training data for values that are not finite.",
        )

    def _rate(self, step: int, lr: float) -> float:
        config = self._config
        return learning_rate(
            step,
            total=config.max_steps,
            lr=lr,
            schedule=config.schedule,
            min_lr_ratio=config.min_lr_ratio,
            warmup=config.warmup_fraction * config.max_steps,
        )

    def _set_rates(self) -> None:
        for group, lr in zip(self._optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = self._rate(self.step, lr)


def _build_optimizer(model: nn.Module, config: TrainerConfig) -> torch.optim.Optimizer:
    """Return the fused optimiser (one kernel for all parameters; also the fastest on a CPU)."""
    own: Callable[[float], list[dict[str, Any]]] | None = getattr(model, "parameter_groups", None)
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": trainable}] if own is None else own(config.lr)
    groups = [{**group, "params": list(group["params"])} for group in groups]
    if not any(group["params"] for group in groups):
        raise BenchError(f"{type(model).__name__} has no trainable parameters", "It cannot be trained.")
    if config.optimizer == "muon":
        return Muon(groups, matrices(model), lr=config.lr, weight_decay=config.weight_decay)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True)
