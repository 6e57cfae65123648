"""Conformance of encoders: shapes, chunks, randomness, and that no latent knows a later frame.

Shape letters: B batch, T time, H height, W width, N slots, D slot dimension, n objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from ocwm import registry
from ocwm.config import import_class, instantiate
from ocwm.errors import BenchError
from ocwm.interfaces import Encoder
from ocwm.testing.checks import Check, PromiseError, apart, attempt, described, own_node, same_keys, unchanged
from ocwm.types import LatentBatch, Observations

_B, _T, _H, _W = 3, 7, 20, 30
_CUTS = (0, 1, 4, _T)


def check_encoder(
    name: str, *, preset: str | None = "tiny", states: Observations | None = None, node: DictConfig | None = None
) -> Iterator[Check]:
    """Check an encoder by name, one promise after the other, as far as its class can be built.

    Args:
        name: of the encoder.
        preset: whose sizes it is built with, where its YAML has such.
        states: at least 2 videos of at least 2 frames, for an encoder that reads states, which look different in every
            task; pixels are drawn here, whatever is given.
        node: its configuration, where it is not the YAML's.

    Raises:
        BenchError: there is none of that name, or it reads states and none are given.
    """
    plugin = registry.find("encoder", name)
    node = own_node(plugin, preset=preset) if node is None else node
    reads = getattr(import_class(node), "reads", "")
    if reads == "state" and states is None:
        raise BenchError(f"the encoder {name} reads states, which look different in every task", "Add --task NAME.")
    states = states if reads == "state" else None
    yield attempt("the YAML names a description and the class a version", lambda: described(plugin, node))
    yield attempt("the YAML's keys are the constructor's parameters", lambda: same_keys(plugin, node, positional=0))
    built = attempt("it can be built", lambda: _built(node))
    yield built
    if not built.passed:
        return
    encoder: Encoder = instantiate(node)
    subject = _Subject(node, pixels() if states is None else states)
    encodes = attempt("latents have the declared shape", subject.shapes)
    yield encodes
    if not encodes.passed:
        return
    yield attempt("its input is not changed", subject.input_kept)
    yield attempt("it leaves torch's generator alone", subject.generator_kept)
    yield attempt("the last frame can be seen in its own latents and in no earlier ones", subject.no_future)
    if encoder.deterministic:
        yield attempt("the same seed gives the same latents, whatever was encoded before", subject.repeatable)
        yield attempt("a video in chunks gives the latents of one pass", subject.chunks)
        yield attempt("a video's latents do not depend on the others of its batch", subject.alone)
    yield attempt("an object is in one slot (slot_of)", subject.one_slot_each)
    if encoder.segments:
        yield attempt("masks belong to the slots (segment)", subject.masks)


def pixels(*, videos: int = _B, frames: int = _T) -> Observations:
    """Random frames (B, T, 3, H, W); the ids of the videos are in no order."""
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randint(0, 256, (videos, frames, 3, _H, _W), dtype=torch.uint8, generator=generator)
    return Observations(ids=10007 * torch.arange(1, videos + 1) % 101, pixels=drawn)


def _built(node: DictConfig) -> str:
    encoder = instantiate(node)
    if not isinstance(encoder, Encoder):
        raise PromiseError("it is no Encoder")
    if encoder.reads not in ("state", "pixels"):
        raise PromiseError(f"it reads {encoder.reads!r}; it must be 'state' or 'pixels'")
    if encoder.num_slots < 1 or encoder.slot_dim < 1:
        raise PromiseError(f"it has {encoder.num_slots} slots of width {encoder.slot_dim}")
    return f"{encoder.num_slots} slots of {encoder.slot_dim}, reads {encoder.reads}"


class _Subject:
    """A built encoder with observations to try it on."""

    def __init__(self, node: DictConfig, seen: Observations) -> None:
        self.node = node
        self.seen = seen
        self.encoder: Encoder = instantiate(node)

    @property
    def frames(self) -> int:
        seen = self.seen.pixels if self.seen.pixels is not None else self.seen.state
        assert seen is not None
        return seen.shape[1]

    def encode(self, seen: Observations, *, encoder: Encoder | None = None) -> Tensor:
        return (self.encoder if encoder is None else encoder).encode(seen)[0].latents

    def part(self, low: int, high: int) -> Observations:
        """Return some frames of all videos."""
        return _each(self.seen, lambda value: value[:, low:high])

    def shapes(self) -> str:
        batch, _ = self.encoder.encode(self.seen)
        wanted = (len(self.seen.ids), self.frames, self.encoder.num_slots, self.encoder.slot_dim)
        _fits(batch, wanted)
        return " x ".join(map(str, wanted))

    def input_kept(self) -> None:
        before = _each(self.seen, Tensor.clone)
        self.encode(self.seen)
        unchanged(self.seen, before, "encoding")

    def generator_kept(self) -> None:
        before = torch.get_rng_state()
        self.encode(self.seen, encoder=instantiate(self.node))
        if not torch.equal(torch.get_rng_state(), before):
            raise PromiseError("building or encoding draws from it, so that latents depend on what else draws")

    def no_future(self) -> None:
        if not self.encoder.deterministic:  # then two passes can't be compared, but the first frames alone must do
            self.encode(self.part(0, self.frames - 1))
            return
        before, after = self.encode(self.seen), self.encode(self.changed())
        if gap := apart(before[:, :-1], after[:, :-1]):
            raise PromiseError(f"a change in the last frame changes earlier latents by up to {gap:.2g}")
        if not apart(before[:, -1], after[:, -1]):
            raise PromiseError("a change in the last frame changes nothing at all")

    def changed(self) -> Observations:
        """Return the observations with another last frame."""

        def change(value: Tensor) -> Tensor:
            if value.dtype is torch.bool:
                return value
            other = value.clone()
            other[:, -1] = 255 - value[:, -1] if value.dtype is torch.uint8 else value[:, -1] + 1.5
            return other

        return _each(self.seen, change)

    def repeatable(self) -> None:
        torch.manual_seed(5)
        first = self.encode(self.seen)
        self.encode(self.changed())
        torch.manual_seed(6)
        for encoder in (self.encoder, instantiate(self.node)):
            if not torch.equal(self.encode(self.seen, encoder=encoder), first):
                raise PromiseError("two passes with the same seed differ")

    def chunks(self) -> None:
        carry: Any = None
        parts = []
        cuts = [cut for cut in _CUTS if cut < self.frames]
        for low, high in zip(cuts, [*cuts[1:], self.frames], strict=True):
            batch, carry = self.encoder.encode(self.part(low, high), carry)
            parts.append(batch.latents)
        if gap := apart(self.encode(self.seen), torch.cat(parts, dim=1)):
            raise PromiseError(f"they differ by up to {gap:.2g}")

    def alone(self) -> str:
        whole = self.encode(self.seen)
        for row in range(len(self.seen.ids)):
            one = _each(self.seen, lambda value, row=row: value[row : row + 1], ids=True)
            if gap := apart(whole[row : row + 1], self.encode(one)):
                raise PromiseError(f"alone they differ by up to {gap:.2g}")
        others = self.encode(replace(self.seen, ids=self.seen.ids + 1))
        return "they depend on its id" if apart(whole, others) else "they do not depend on its id either"

    def one_slot_each(self) -> str:
        slot_of = self.encoder.slot_of(self.seen.ids)
        if slot_of is None:
            return "not known"
        if int(slot_of.min()) < 0 or int(slot_of.max()) >= self.encoder.num_slots:
            raise PromiseError(f"slots are counted from 0 to {self.encoder.num_slots - 1}, not to {int(slot_of.max())}")
        if any(len(row.unique()) != len(row) for row in slot_of):
            raise PromiseError("two objects of a video share a slot")
        return "known"

    def masks(self) -> str:
        batch, masks, _ = self.encoder.segment(self.seen)
        slots = (len(self.seen.ids), self.frames, self.encoder.num_slots)
        _fits(batch, (*slots, self.encoder.slot_dim))
        if masks.ndim != 5 or tuple(masks.shape[:3]) != slots:
            raise PromiseError(f"masks have the shape {tuple(masks.shape)} instead of {(*slots, 'h', 'w')}")
        if not bool((masks >= 0).all()) or not bool((masks.sum(dim=2) <= 1 + 1e-4).all()):
            raise PromiseError("masks must be 0 or more, and over the slots they sum to at most 1")
        if self.encoder.deterministic and apart(batch.latents, self.encode(self.seen)):
            raise PromiseError("segment and encode give different latents")
        return f"{masks.shape[3]} x {masks.shape[4]}"


def _fits(batch: LatentBatch, wanted: tuple[int, ...]) -> None:
    latents, present = batch.latents, batch.present
    if tuple(latents.shape) != wanted:
        raise PromiseError(f"latents have the shape {tuple(latents.shape)} instead of {wanted}")
    if latents.dtype is not torch.float32 or not bool(latents.isfinite().all()):
        raise PromiseError(f"latents must be finite float32, and are {latents.dtype}")
    if latents.requires_grad:
        raise PromiseError("latents have gradients; an encoder is frozen")
    if present is not None and (tuple(present.shape) != (wanted[0], wanted[2]) or present.dtype is not torch.bool):
        raise PromiseError(
            f"present is {present.dtype} {tuple(present.shape)} instead of bool {(wanted[0], wanted[2])}"
        )


def _each(seen: Observations, change: Any, *, ids: bool = False) -> Observations:
    """Return observations with every tensor changed by a function, the ids only where it says so."""
    return replace(
        seen,
        ids=change(seen.ids) if ids else seen.ids,
        **{
            name: change(value)
            for name in ("pixels", "state", "visible")
            if isinstance(value := getattr(seen, name), Tensor)
        },
    )
