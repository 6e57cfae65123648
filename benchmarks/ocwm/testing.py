"""The conformance suite for plugin authors: does a method keep the promises of its interface?

Shape letters: B batch, T time, H history frames, K predicted frames, N slots, D slot dimension, A action dimension.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load, save
from torch import Tensor

from ocwm import registry
from ocwm.config import NOT_FOR_CLASS, import_class, instantiate
from ocwm.interfaces import CAPABILITIES, Reference, WorldModel
from ocwm.registry import Plugin
from ocwm.schemas import Seeds
from ocwm.types import LatentBatch, LatentSpec

_B, _N, _D, _A, _P = 4, 6, 32, 2, 4
_STEPS = (1, 3, 11)
_UPDATES = 10
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Check:
    """One line of the list: what was checked, whether it holds, and what was seen."""

    name: str
    passed: bool
    detail: str = ""


class _PromiseError(Exception):
    """A promise that is not kept."""


def check_method(name: str) -> Iterator[Check]:
    """Check a method or a reference by name, one promise after the other, as far as its class can be built.

    Raises:
        BenchError: there is none of that name.
    """
    plugin = registry.find("method", name)
    node = _node(plugin)
    yield _try("the YAML names a description and the class a version", lambda: _described(plugin, node))
    yield _try("the YAML's keys are the constructor's parameters", lambda: _same_keys(plugin, node))
    built = _try("it can be built", lambda: _built(plugin, node))
    yield built
    if not built.passed:
        return
    subject = _Subject(node)
    yield _try("rollouts have the right shape for any number of steps", subject.shapes)
    yield _try("the same seed gives the same numbers", subject.repeatable)
    yield _try("its input is not changed", subject.input_kept)
    if plugin.kind == "reference":
        return
    yield _try("the loss is a finite number under 'loss'", subject.finite_loss)
    yield _try("gradients reach its parameters", subject.gradients)
    yield _try(f"the loss falls on one batch in {_UPDATES} updates", subject.learns)
    yield _try("a saved and loaded model gives the same numbers", subject.saved)
    yield _try("its capabilities are known ones", subject.capabilities_known)
    capabilities = import_class(node).capabilities
    if "variable_slots" in capabilities:
        yield _try("any number of slots (variable_slots)", subject.any_slots)
    if "permutation_equivariant" in capabilities:
        yield _try("slots in another order give the same rollout (permutation_equivariant)", subject.equivariant)
    if "actions" in capabilities:
        yield _try("rollouts are differentiable in the actions (actions)", subject.action_gradients)


def _try(name: str, check: Callable[[], str | None]) -> Check:
    try:
        return Check(name, passed=True, detail=check() or "")
    except _PromiseError as broken:
        return Check(name, passed=False, detail=str(broken))
    except Exception as error:  # whatever the author's code raises is what the author wants to see
        return Check(name, passed=False, detail=f"{type(error).__name__}: {error}".splitlines()[0])


def _node(plugin: Plugin) -> DictConfig:
    """Return the method's own configuration, without a task and without presets."""
    own = OmegaConf.load(plugin.path)
    assert isinstance(own, DictConfig)
    root = OmegaConf.create({"seeds": vars(Seeds()), "method": own})
    root.method.pop("presets", None)
    root.method.pop("description", None)
    OmegaConf.resolve(root)
    node: DictConfig = root.method
    return node


def _described(plugin: Plugin, node: DictConfig) -> str:
    version = import_class(node).__dict__.get("version", import_class(node).version)
    if not isinstance(version, int) or version < 1:
        raise _PromiseError(f"version is {version!r}; it must be a whole number from 1")
    return f"{plugin.description} (version {version})"


def _same_keys(plugin: Plugin, node: DictConfig) -> str:
    parameters = list(inspect.signature(import_class(node)).parameters.values())[1:]  # the first one is the spec
    if loose := [p.name for p in parameters if p.kind is p.VAR_KEYWORD]:
        raise _PromiseError(f"the constructor takes **{loose[0]}, which hides misspelt keys")
    wanted, have = {p.name for p in parameters}, {str(key) for key in node} - set(NOT_FOR_CLASS)
    if wanted != have:
        missing, surplus = ", ".join(sorted(wanted - have)), ", ".join(sorted(have - wanted))
        raise _PromiseError(f"{plugin.path}: missing: {missing or 'none'}; surplus: {surplus or 'none'}")
    return ", ".join(sorted(have))


def _built(plugin: Plugin, node: DictConfig) -> str:
    model = _Subject(node).model
    base = WorldModel if plugin.kind == "method" else Reference
    if not isinstance(model, base):
        raise _PromiseError(f"it is no {base.__name__}")
    if isinstance(model, WorldModel):
        return f"{sum(p.numel() for p in model.parameters()):,} parameters for {_N} slots of {_D}"
    return ""


class _Subject:
    """A built method with batches to try it on."""

    def __init__(self, node: DictConfig) -> None:
        self.node = node
        capabilities: frozenset[str] = getattr(import_class(node), "capabilities", frozenset())
        self.spec = LatentSpec(
            num_slots=_N,
            slot_dim=_D,
            action_dim=_A if "actions" in capabilities else 0,
            proprio_dim=_P if "proprio" in capabilities else 0,
        )
        self.model = self.build()

    def build(self) -> Any:
        torch.manual_seed(0)
        return instantiate(self.node, self.spec)

    def batch(self, frames: int, *, slots: int = _N) -> LatentBatch:
        """Return B videos of slots that move along straight lines; the same ones at every call."""
        generator = torch.Generator().manual_seed(1)
        start_B1ND = torch.randn(_B, 1, slots, _D, generator=generator)
        step_B1ND = 0.1 * torch.randn(_B, 1, slots, _D, generator=generator)
        stride = self.model.clip.stride
        return LatentBatch(
            start_B1ND + step_B1ND * torch.arange(frames).view(1, -1, 1, 1),
            present=torch.ones(_B, slots, dtype=torch.bool),
            frames=torch.arange(0, frames * stride, stride).expand(_B, -1),
            actions=torch.randn(_B, frames, _A, generator=generator) if self.spec.action_dim else None,
            proprio=torch.randn(_B, frames, _P, generator=generator) if self.spec.proprio_dim else None,
        )

    def clips(self) -> LatentBatch:
        return self.batch(self.model.clip.length)

    def rollout(self, history: LatentBatch, steps: int, *, model: Any = None) -> Tensor:
        model = self.model if model is None else model
        if isinstance(model, WorldModel):
            model.eval()
        torch.manual_seed(2)
        truth = {}
        if getattr(model, "privileged", "none") in ("future", "stored_rollout"):
            truth["truth"] = torch.zeros(_B, steps, history.latents.shape[2], _D)
        latents_BKND: Tensor = model.rollout(history, steps=steps, **truth).latents
        return latents_BKND

    def history(self, *, slots: int = _N, steps: int = 0) -> LatentBatch:
        """Return a history; actions and proprioception reach over the `steps` to come."""
        length = self.model.clip.history
        batch = self.batch(length + steps, slots=slots)
        frames = None if batch.frames is None else batch.frames[:, :length]
        return replace(batch, latents=batch.latents[:, :length], frames=frames)

    def shapes(self) -> None:
        for steps in _STEPS:
            with torch.no_grad():
                latents_BKND = self.rollout(self.history(steps=steps), steps)
            if tuple(latents_BKND.shape) != (_B, steps, _N, _D):
                raise _PromiseError(f"{steps} steps give {tuple(latents_BKND.shape)} instead of {(_B, steps, _N, _D)}")
            if not bool(latents_BKND.isfinite().all()):
                raise _PromiseError(f"a rollout of {steps} steps is not finite")

    def repeatable(self) -> None:
        history = self.history(steps=3)
        with torch.no_grad():
            first, second = (self.rollout(history, 3, model=self.build()) for _ in range(2))
        if not torch.equal(first, second):
            raise _PromiseError("two rollouts of two models with the same seed differ")
        if isinstance(self.model, WorldModel):
            losses = [_loss(self.build().train(), self.clips(), seed=3).item() for _ in range(2)]
            if losses[0] != losses[1]:
                raise _PromiseError(f"two losses with the same seed differ: {losses[0]} and {losses[1]}")

    def input_kept(self) -> None:
        history, before = self.history(steps=3), self.history(steps=3)
        with torch.no_grad():
            self.rollout(history, 3)
        _same_batch(history, before, "rollout")
        if isinstance(self.model, WorldModel):
            clips = self.clips()
            _loss(self.model, clips, seed=3)
            _same_batch(clips, self.clips(), "loss")

    def finite_loss(self) -> str:
        return f"{_loss(self.model.train(), self.clips(), seed=3).item():.4g}"

    def gradients(self) -> str:
        model = self.build().train()
        _loss(model, self.clips(), seed=3).backward()  # type: ignore[no-untyped-call]
        named = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
        if bad := [name for name, grad in named.items() if grad is not None and not bool(grad.isfinite().all())]:
            raise _PromiseError(f"the gradient of {bad[0]} is not finite")
        if not any(grad is not None and bool(grad.any()) for grad in named.values()):
            raise _PromiseError("no parameter has a gradient")
        unused = [name for name, grad in named.items() if grad is None]
        return f"none for {', '.join(unused)}" if unused else ""

    def learns(self) -> str:
        model = self.build().train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        losses = []
        for _ in range(_UPDATES):
            loss = _loss(model, self.clips(), seed=3)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        if not losses[-1] < losses[0]:
            raise _PromiseError(f"{losses[0]:.4g} before, {losses[-1]:.4g} after")
        return f"{losses[0]:.4g} -> {losses[-1]:.4g}"

    def saved(self) -> None:
        stored = save({name: tensor.contiguous() for name, tensor in self.model.state_dict().items()})
        torch.manual_seed(4)
        other = instantiate(self.node, self.spec)
        other.load_state_dict(load(stored))
        with torch.no_grad():
            first, second = (self.rollout(self.history(steps=3), 3, model=model) for model in (self.model, other))
        if not torch.equal(first, second):
            raise _PromiseError(f"rollouts differ by up to {float((first - second).abs().max()):.2g}")

    def capabilities_known(self) -> str:
        declared = import_class(self.node).capabilities
        if unknown := declared - CAPABILITIES:
            raise _PromiseError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(sorted(CAPABILITIES))}")
        return ", ".join(sorted(declared)) or "none"

    def any_slots(self) -> None:
        for slots in (1, _N - 1, _N + 2):
            with torch.no_grad():
                shape = tuple(self.rollout(self.history(slots=slots, steps=2), 2).shape)
            if shape != (_B, 2, slots, _D):
                raise _PromiseError(f"{slots} slots give {shape} instead of {(_B, 2, slots, _D)}")

    def equivariant(self) -> None:
        history, order = self.history(steps=3), torch.tensor([3, 0, 5, 1, 4, 2])
        with torch.no_grad():
            plain = self.rollout(history, 3)
            shuffled = self.rollout(replace(history, latents=history.latents[:, :, order]), 3)
        difference = float((plain[:, :, order] - shuffled).abs().max())
        if not difference <= _TOLERANCE * max(1.0, float(plain.abs().max())):
            raise _PromiseError(f"rollouts differ by up to {difference:.2g}")

    def action_gradients(self) -> None:
        history = self.history(steps=3)
        assert history.actions is not None
        actions_BTA = history.actions.requires_grad_()
        self.rollout(replace(history, actions=actions_BTA), 3).sum().backward()  # type: ignore[no-untyped-call]
        if actions_BTA.grad is None or not bool(actions_BTA.grad.any()):
            raise _PromiseError("the rollout does not depend on the actions")


def _loss(model: WorldModel, clips: LatentBatch, *, seed: int) -> Tensor:
    torch.manual_seed(seed)
    parts = model.loss(clips)
    if "loss" not in parts:
        raise _PromiseError(f"there is no 'loss' among {', '.join(sorted(parts)) or 'nothing'}")
    loss = parts["loss"]
    if loss.ndim != 0 or not math.isfinite(float(loss.detach())):
        raise _PromiseError(f"the loss is {loss.detach()}, no finite number")
    return loss


def _same_batch(batch: LatentBatch, before: LatentBatch, what: str) -> None:
    for name, value in vars(before).items():
        if isinstance(value, Tensor) and not torch.equal(getattr(batch, name), value):
            raise _PromiseError(f"{what} changes the {name} that it is given")
