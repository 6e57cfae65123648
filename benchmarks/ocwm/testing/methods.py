"""Conformance of methods and references: losses, rollouts, weights, capabilities.

Shape letters: B batch, T time, H history frames, K predicted frames, N slots, D slot dimension, A action dimension.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from omegaconf import DictConfig
from safetensors.torch import load, save
from torch import Tensor

from ocwm import registry
from ocwm.config import import_class, instantiate
from ocwm.interfaces import CAPABILITIES, Reference, RolloutReference, WorldModel
from ocwm.registry import Plugin
from ocwm.testing.checks import Check, PromiseError, apart, attempt, described, own_node, same_keys, unchanged
from ocwm.types import LatentBatch, LatentSpec

_B, _N, _D, _A, _P = 4, 6, 32, 2, 4
_STEPS = (1, 3, 11)
_UPDATES = 10


def check_method(name: str, *, node: DictConfig | None = None, latents: Tensor | None = None) -> Iterator[Check]:
    """Check a method or a reference by name, one promise after the other, as far as its class can be built.

    Args:
        name: of the method or reference.
        node: its configuration, where it is not the YAML's.
        latents: (B, T, N, D) of at least two videos and enough frames for a clip and a rollout of 11 more, to try it on
            without actions and proprioception, as a task without them does; default: slots on straight lines, with
            actions and proprioception where it takes them.

    Raises:
        BenchError: there is none of that name.
    """
    plugin = registry.find("method", name)
    node = own_node(plugin) if node is None else node
    yield attempt("the YAML names a description and the class a version", lambda: described(plugin, node))
    yield attempt("the YAML's keys are the constructor's parameters", lambda: same_keys(plugin, node, positional=1))
    built = attempt("it can be built", lambda: _built(plugin, node, latents))
    yield built
    if not built.passed:
        return
    subject = _Subject(node, latents)
    if isinstance(subject.model, Reference) and not _rolls_on(subject.model):
        return
    yield attempt("rollouts have the right shape for any number of steps", subject.shapes)
    yield attempt("the same seed gives the same numbers", subject.repeatable)
    yield attempt("a rollout depends on nothing that was rolled out before", subject.nothing_kept)
    yield attempt("a video's rollout does not depend on the others of its batch", subject.alone)
    yield attempt("its input is not changed", subject.input_kept)
    if plugin.kind == "reference":
        return
    yield attempt("the loss is a finite number under 'loss'", subject.finite_loss)
    yield attempt("gradients reach its parameters", subject.gradients)
    yield attempt(f"the loss falls on one batch in {_UPDATES} updates", subject.learns)
    yield attempt("a saved and loaded model gives the same numbers", subject.saved)
    yield attempt("its capabilities are known ones", subject.capabilities_known)
    capabilities = import_class(node).capabilities
    if "variable_slots" in capabilities:
        yield attempt("any number of slots (variable_slots)", subject.any_slots)
    if "permutation_equivariant" in capabilities:
        yield attempt("slots in another order give the same rollout (permutation_equivariant)", subject.equivariant)
    if subject.spec.action_dim:
        yield attempt("rollouts are differentiable in the actions (actions)", subject.action_gradients)
        yield attempt("an action has no effect before it is due (actions)", subject.actions_due)
    if subject.spec.proprio_dim:
        yield attempt("no proprioception past the history is read (proprio)", subject.proprio_past)


def _rolls_on(model: Reference) -> bool:
    """Say whether a reference has rollouts to check."""
    return isinstance(model, RolloutReference) and model.sees_rollout


def _built(plugin: Plugin, node: DictConfig, latents: Tensor | None) -> str:
    subject = _Subject(node, latents)
    base = WorldModel if plugin.kind == "method" else Reference
    if not isinstance(subject.model, base):
        raise PromiseError(f"it is no {base.__name__}")
    if isinstance(subject.model, WorldModel):
        parameters = sum(p.numel() for p in subject.model.parameters())
        return f"{parameters:,} parameters for {subject.spec.num_slots} slots of {subject.spec.slot_dim}"
    return ""


class _Subject:
    """A built method with batches to try it on."""

    def __init__(self, node: DictConfig, latents: Tensor | None = None) -> None:
        self.node = node
        self.latents = latents
        capabilities: frozenset[str] = getattr(import_class(node), "capabilities", frozenset())
        self.spec = LatentSpec(_N, _D) if latents is None else LatentSpec(latents.shape[2], latents.shape[3])
        if latents is None:
            self.spec = replace(
                self.spec,
                action_dim=_A if "actions" in capabilities else 0,
                proprio_dim=_P if "proprio" in capabilities else 0,
            )
        self.videos = _B if latents is None else len(latents)
        self.model = self.build()

    def build(self) -> Any:
        torch.manual_seed(0)
        return instantiate(self.node, self.spec)

    def batch(self, frames: int, *, slots: int | None = None) -> LatentBatch:
        """Return B videos, the same ones at every call."""
        generator = torch.Generator().manual_seed(1)
        slots = self.spec.num_slots if slots is None else slots
        stride = self.model.clip.stride
        return LatentBatch(
            self._moving(frames, slots, generator) if self.latents is None else self._given(frames, slots),
            present=torch.ones(self.videos, slots, dtype=torch.bool),
            frames=torch.arange(0, frames * stride, stride).expand(self.videos, -1),
            actions=torch.randn(self.videos, frames, _A, generator=generator) if self.spec.action_dim else None,
            proprio=torch.randn(self.videos, frames, _P, generator=generator) if self.spec.proprio_dim else None,
        )

    def _moving(self, frames: int, slots: int, generator: torch.Generator) -> Tensor:
        """Slots on straight lines (B, T, N, D)."""
        start_B1ND = torch.randn(_B, 1, slots, _D, generator=generator)
        step_B1ND = 0.1 * torch.randn(_B, 1, slots, _D, generator=generator)
        return start_B1ND + step_B1ND * torch.arange(frames).view(1, -1, 1, 1)

    def _given(self, frames: int, slots: int) -> Tensor:
        """The given latents; slots that are wanted on top are the first ones again."""
        assert self.latents is not None
        return self.latents[:, :frames, torch.arange(slots) % self.spec.num_slots].clone()

    def clips(self) -> LatentBatch:
        return self.batch(self.model.clip.length)

    def rollout(self, history: LatentBatch, steps: int, *, model: Any = None) -> Tensor:
        model = self.model if model is None else model
        if isinstance(model, WorldModel):
            model.eval()
        torch.manual_seed(2)
        truth = {}
        if getattr(model, "privileged", "none") in ("future", "stored_rollout"):
            truth["truth"] = torch.zeros_like(history.latents[:, :1]).expand(-1, steps, -1, -1)
        latents_BKND: Tensor = model.rollout(history, steps=steps, **truth).latents
        return latents_BKND

    def history(self, *, slots: int | None = None, steps: int = 0) -> LatentBatch:
        """Return a history; actions and proprioception reach over the `steps` to come."""
        length = self.model.clip.history
        batch = self.batch(length + steps, slots=slots)
        frames = None if batch.frames is None else batch.frames[:, :length]
        return replace(batch, latents=batch.latents[:, :length], frames=frames)

    def shapes(self) -> None:
        for steps in _STEPS:
            with torch.no_grad():
                latents_BKND = self.rollout(self.history(steps=steps), steps)
            wanted = (self.videos, steps, self.spec.num_slots, self.spec.slot_dim)
            if tuple(latents_BKND.shape) != wanted:
                raise PromiseError(f"{steps} steps give {tuple(latents_BKND.shape)} instead of {wanted}")
            if not bool(latents_BKND.isfinite().all()):
                raise PromiseError(f"a rollout of {steps} steps is not finite")

    def repeatable(self) -> None:
        history = self.history(steps=3)
        with torch.no_grad():
            first, second = (self.rollout(history, 3, model=self.build()) for _ in range(2))
        if not torch.equal(first, second):
            raise PromiseError("two rollouts of two models with the same seed differ")
        if isinstance(self.model, WorldModel):
            losses = [_loss(self.build().train(), self.clips(), seed=3).item() for _ in range(2)]
            if losses[0] != losses[1]:
                raise PromiseError(f"two losses with the same seed differ: {losses[0]} and {losses[1]}")

    def nothing_kept(self) -> None:
        history = self.history(steps=3)
        other = replace(history, latents=history.latents.flip(0) + 1.0)
        with torch.no_grad():
            first, _, again = (self.rollout(batch, 3) for batch in (history, other, history))
        if not torch.equal(first, again):
            raise PromiseError("a rollout between two others with the same seed changes the second one")

    def alone(self) -> None:
        history = self.history(steps=3)
        with torch.no_grad():
            whole = self.rollout(history, 3)
            one = self.rollout(_first_video(history), 3)
        if gap := apart(whole[:1], one):
            raise PromiseError(f"alone it differs by up to {gap:.2g}")

    def input_kept(self) -> None:
        history, before = self.history(steps=3), self.history(steps=3)
        with torch.no_grad():
            self.rollout(history, 3)
        unchanged(history, before, "rollout")
        if isinstance(self.model, WorldModel):
            clips = self.clips()
            _loss(self.model, clips, seed=3)
            unchanged(clips, self.clips(), "loss")

    def finite_loss(self) -> str:
        return f"{_loss(self.model.train(), self.clips(), seed=3).item():.4g}"

    def gradients(self) -> str:
        model = self.build().train()
        _loss(model, self.clips(), seed=3).backward()  # type: ignore[no-untyped-call]
        named = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
        if bad := [name for name, grad in named.items() if grad is not None and not bool(grad.isfinite().all())]:
            raise PromiseError(f"the gradient of {bad[0]} is not finite")
        if not any(grad is not None and bool(grad.any()) for grad in named.values()):
            raise PromiseError("no parameter has a gradient")
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
            raise PromiseError(f"{losses[0]:.4g} before, {losses[-1]:.4g} after")
        return f"{losses[0]:.4g} -> {losses[-1]:.4g}"

    def saved(self) -> None:
        stored = save({name: tensor.contiguous() for name, tensor in self.model.state_dict().items()})
        torch.manual_seed(4)
        other = instantiate(self.node, self.spec)
        other.load_state_dict(load(stored))
        with torch.no_grad():
            first, second = (self.rollout(self.history(steps=3), 3, model=model) for model in (self.model, other))
        if not torch.equal(first, second):
            raise PromiseError(f"rollouts differ by up to {float((first - second).abs().max()):.2g}")

    def capabilities_known(self) -> str:
        declared = import_class(self.node).capabilities
        if unknown := declared - CAPABILITIES:
            raise PromiseError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(sorted(CAPABILITIES))}")
        return ", ".join(sorted(declared)) or "none"

    def any_slots(self) -> None:
        for slots in (1, max(1, self.spec.num_slots - 1), self.spec.num_slots + 2):
            with torch.no_grad():
                shape = tuple(self.rollout(self.history(slots=slots, steps=2), 2).shape)
            wanted = (self.videos, 2, slots, self.spec.slot_dim)
            if shape != wanted:
                raise PromiseError(f"{slots} slots give {shape} instead of {wanted}")

    def equivariant(self) -> None:
        history, order = self.history(steps=3), torch.arange(self.spec.num_slots).roll(1)
        with torch.no_grad():
            plain = self.rollout(history, 3)
            shuffled = self.rollout(replace(history, latents=history.latents[:, :, order]), 3)
        if gap := apart(plain[:, :, order], shuffled):
            raise PromiseError(f"rollouts differ by up to {gap:.2g}")

    def action_gradients(self) -> None:
        history = self.history(steps=3)
        assert history.actions is not None
        actions_BTA = history.actions.requires_grad_()
        self.rollout(replace(history, actions=actions_BTA), 3).sum().backward()  # type: ignore[no-untyped-call]
        if actions_BTA.grad is None or not bool(actions_BTA.grad.any()):
            raise PromiseError("the rollout does not depend on the actions")

    def actions_due(self) -> None:
        history = self.history(steps=3)
        assert history.actions is not None
        last = history.latents.shape[1] - 1
        for ahead in (1, 3):  # the action of the first predicted frame, and the one that leads beyond the rollout
            actions_BTA = history.actions.clone()
            actions_BTA[:, last + ahead :] += 1.0
            with torch.no_grad():
                before, after = (self.rollout(replace(history, actions=a), 3) for a in (history.actions, actions_BTA))
            if not torch.equal(before[:, :ahead], after[:, :ahead]):
                raise PromiseError(f"actions from predicted frame {ahead} on change frames up to it")

    def proprio_past(self) -> None:
        history = self.history(steps=3)
        assert history.proprio is not None
        proprio_BTP = history.proprio.clone()
        proprio_BTP[:, history.latents.shape[1] :] += 1.0
        with torch.no_grad():
            before, after = (self.rollout(replace(history, proprio=p), 3) for p in (history.proprio, proprio_BTP))
        if not torch.equal(before, after):
            raise PromiseError("the proprioception of the future changes the rollout")


def _loss(model: WorldModel, clips: LatentBatch, *, seed: int) -> Tensor:
    torch.manual_seed(seed)
    parts = model.loss(clips)
    if "loss" not in parts:
        raise PromiseError(f"there is no 'loss' among {', '.join(sorted(parts)) or 'nothing'}")
    loss = parts["loss"]
    if loss.ndim != 0 or not math.isfinite(float(loss.detach())):
        raise PromiseError(f"the loss is {loss.detach()}, no finite number")
    return loss


def _first_video(batch: LatentBatch) -> LatentBatch:
    return replace(batch, **{name: value[:1] for name, value in vars(batch).items() if isinstance(value, Tensor)})
