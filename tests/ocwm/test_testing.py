from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ocwm.errors import BenchError
from ocwm.testing import check_encoder, check_method
from ocwm.types import LatentBatch, Observations

pytestmark = pytest.mark.usefixtures("demo")


def failed(name: str) -> dict[str, str]:
    return {check.name: check.detail for check in check_method(name) if not check.passed}


def broken(monkeypatch: pytest.MonkeyPatch, **methods: Any) -> dict[str, str]:
    """Return what fails when the good method does some things differently."""
    from demo_plugin.model import Linear

    for name, value in methods.items():
        monkeypatch.setattr(Linear, name, value)
    return failed("linear_demo")


def test_a_good_method_and_a_good_reference_pass() -> None:
    names = [check.name for check in check_method("linear_demo")]
    assert len(names) == 15
    assert failed("linear_demo") == {}
    assert failed("hold_demo") == {}


def test_a_method_with_every_mistake() -> None:
    assert {
        "the YAML's keys are the constructor's parameters",
        "rollouts have the right shape for any number of steps",
        "its input is not changed",
        "gradients reach its parameters",
        "the loss falls on one batch in 10 updates",
        "slots in another order give the same rollout (permutation_equivariant)",
    } <= failed("broken_demo").keys()


def test_unknown_methods_have_their_hint() -> None:
    with pytest.raises(BenchError, match="Did you mean 'broken_demo'"):
        list(check_method("broken_dem"))


def test_a_loss_without_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    found = broken(monkeypatch, loss=lambda self, batch: {"total": batch.latents.mean()})
    assert found["the loss is a finite number under 'loss'"] == "there is no 'loss' among total"


def test_a_loss_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    found = broken(monkeypatch, loss=lambda self, batch: {"loss": self.net(batch.latents).mean() * float("nan")})
    assert "no finite number" in found["the loss is a finite number under 'loss'"]


def test_a_loss_that_never_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(self: Any, batch: LatentBatch) -> dict[str, Tensor]:
        value = self.net(batch.latents).square().mean()
        return {"loss": 2 * value.detach() - value}  # the gradient points the wrong way

    found = broken(monkeypatch, loss=loss)
    assert list(found) == ["the loss falls on one batch in 10 updates"]


def test_a_rollout_that_depends_on_the_order_of_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    def rollout(self: Any, history: LatentBatch, *, steps: int) -> LatentBatch:
        last_BND = history.latents[:, -1] + torch.arange(history.latents.shape[2]).view(1, -1, 1)
        return LatentBatch(last_BND[:, None].expand(-1, steps, -1, -1))

    assert list(broken(monkeypatch, rollout=rollout)) == [
        "slots in another order give the same rollout (permutation_equivariant)"
    ]


def test_a_rollout_of_one_number_of_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    def rollout(self: Any, history: LatentBatch, *, steps: int) -> LatentBatch:
        assert history.latents.shape[2] == self.spec.num_slots, "fixed"
        return LatentBatch(history.latents[:, -1:].expand(-1, steps, -1, -1))

    found = broken(monkeypatch, rollout=rollout)
    assert found == {"any number of slots (variable_slots)": "AssertionError: fixed"}


def test_state_that_is_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    from demo_plugin.model import Linear

    original = Linear.__init__

    def init(self: Linear, spec: Any, *, hidden: int, gain: float, layers: dict[str, int]) -> None:
        original(self, spec, hidden=hidden, gain=gain, layers=layers)
        self.gain = float(torch.rand(()))  # neither a parameter nor a buffer

    assert list(broken(monkeypatch, __init__=init)) == ["a saved and loaded model gives the same numbers"]


def test_unknown_capabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    found = broken(monkeypatch, capabilities=frozenset({"telepathy"}))
    assert "unknown: telepathy" in found["its capabilities are known ones"]


def test_a_class_that_can_not_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(self: Any, spec: Any, *, hidden: int, gain: float, layers: dict[str, int]) -> None:
        raise RuntimeError("no")

    assert broken(monkeypatch, __init__=init) == {"it can be built": "RuntimeError: no"}


def test_a_rollout_that_mixes_the_videos_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def rollout(self: Any, history: LatentBatch, *, steps: int) -> LatentBatch:
        mixed = history.latents[:, -1:] - history.latents.mean(dim=0, keepdim=True)[:, -1:]
        return LatentBatch(mixed.expand(-1, steps, -1, -1))

    assert list(broken(monkeypatch, rollout=rollout)) == [
        "a video's rollout does not depend on the others of its batch"
    ]


def test_a_rollout_that_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    def rollout(self: Any, history: LatentBatch, *, steps: int) -> LatentBatch:
        self.seen = getattr(self, "seen", 0) + 1
        return LatentBatch(history.latents[:, -1:].expand(-1, steps, -1, -1) + self.seen)

    assert "a rollout depends on nothing that was rolled out before" in broken(monkeypatch, rollout=rollout)


@pytest.mark.parametrize(
    ("capability", "named"),
    [
        ("actions", "an action has no effect before it is due (actions)"),
        ("proprio", "no proprioception past the history is read (proprio)"),
    ],
)
def test_a_rollout_that_reads_the_future(monkeypatch: pytest.MonkeyPatch, capability: str, named: str) -> None:
    def rollout(self: Any, history: LatentBatch, *, steps: int) -> LatentBatch:
        told = getattr(history, capability).mean(dim=(1, 2))[:, None, None, None]
        return LatentBatch((history.latents[:, -1:] + told).expand(-1, steps, -1, -1))

    assert list(broken(monkeypatch, rollout=rollout, capabilities=frozenset({capability}))) == [named]


def test_given_latents_are_what_a_method_is_tried_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from demo_plugin.model import Linear

    seen = set()
    rollout = Linear.rollout

    def spy(self: Linear, history: LatentBatch, *, steps: int) -> LatentBatch:
        seen.add((*history.latents.shape[::3], bool(history.latents.any())))
        return rollout(self, history, steps=steps)

    monkeypatch.setattr(Linear, "rollout", spy)
    checks = list(check_method("linear_demo", latents=torch.zeros(2, 14, 3, 5)))
    assert {(width, anything) for _, width, anything in seen} == {(5, False), (5, True)}  # True: one check shifts them
    assert {count for count, *_ in seen} == {1, 2}
    assert "3 slots of 5" in checks[2].detail


def states() -> Observations:
    drawn = torch.randn(2, 6, 3, 2, generator=torch.Generator().manual_seed(0))
    return Observations(ids=torch.tensor([4, 2]), state=drawn)


def failed_encoder(monkeypatch: pytest.MonkeyPatch, **methods: Any) -> dict[str, str]:
    """Return what fails when the good encoder does some things differently."""
    from demo_plugin.encoder import Passthrough

    for name, value in methods.items():
        monkeypatch.setattr(Passthrough, name, value)
    return {check.name: check.detail for check in check_encoder("passthrough", states=states()) if not check.passed}


def encoding(change: Any) -> Any:
    """An `encode` whose latents are a function of the states and ids."""

    def encode(self: Any, observations: Observations, carry: Any = None) -> tuple[LatentBatch, Any]:
        return LatentBatch(change(observations.state, observations.ids)), None

    return encode


def test_a_good_encoder_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failed_encoder(monkeypatch) == {}
    assert len(list(check_encoder("passthrough", states=states()))) == 11


def test_frames_are_drawn_for_an_encoder_that_reads_pixels() -> None:
    checks = list(check_encoder("pixels_demo"))
    assert [check.name for check in checks if not check.passed] == ["latents have the declared shape"]
    assert "AssertionError" in checks[-1].detail  # the demo only says that it reads them


def test_states_must_be_given() -> None:
    with pytest.raises(BenchError, match=r"reads states.*--task"):
        list(check_encoder("passthrough"))


NO_FUTURE = "the last frame can be seen in its own latents and in no earlier ones"
CHUNKS = "a video in chunks gives the latents of one pass"
ALONE = "a video's latents do not depend on the others of its batch"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state, ids: state[:, :, :2], {"latents have the declared shape"}),
        (lambda state, ids: state.double(), {"latents have the declared shape"}),
        (lambda state, ids: state * float("nan"), {"latents have the declared shape"}),
        (lambda state, ids: state.mul_(0.5), {"its input is not changed"}),
        (
            lambda state, ids: state + torch.rand(1),
            {"it leaves torch's generator alone", "the same seed gives the same"},
        ),
        (lambda state, ids: state - state.mean(dim=1, keepdim=True), {NO_FUTURE, CHUNKS}),
        (lambda state, ids: torch.ones_like(state), {NO_FUTURE}),
        (lambda state, ids: state.cumsum(dim=1), {CHUNKS}),  # would need a carry
        (lambda state, ids: state - state.mean(dim=0), {ALONE}),
        (lambda state, ids: state + torch.arange(len(ids))[:, None, None, None], {ALONE}),
    ],
)
def test_an_encoder_that_breaks_a_promise(monkeypatch: pytest.MonkeyPatch, change: Any, named: set[str]) -> None:
    found = failed_encoder(monkeypatch, encode=encoding(change))
    for wanted in named:
        assert any(name.startswith(wanted) for name in found), (wanted, found)


def test_an_encoder_whose_objects_share_a_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    found = failed_encoder(monkeypatch, slot_of=lambda self, ids: torch.tensor([[0, 1, 1], [2, 1, 0]]))
    assert found == {"an object is in one slot (slot_of)": "two objects of a video share a slot"}
    found = failed_encoder(monkeypatch, slot_of=lambda self, ids: torch.tensor([[0, 1, 3], [2, 1, 0]]))
    assert "from 0 to 2" in found["an object is in one slot (slot_of)"]


@pytest.mark.parametrize(
    ("masks", "detail"),
    [
        (torch.full((2, 6, 3, 4, 5), 0.3), None),
        (torch.full((2, 6, 3, 4, 5), 0.4), "sum to at most 1"),
        (torch.full((2, 6, 3, 4, 5), -0.1), "must be 0 or more"),
        (torch.full((2, 6, 20), 0.3), "instead of"),
    ],
)
def test_masks_of_an_encoder(monkeypatch: pytest.MonkeyPatch, masks: torch.Tensor, detail: str | None) -> None:
    def segment(self: Any, observations: Observations, carry: Any = None) -> tuple[LatentBatch, torch.Tensor, Any]:
        return LatentBatch(observations.state), masks, None

    found = failed_encoder(monkeypatch, segments=True, segment=segment)
    assert (detail is None and not found) or detail in found["masks belong to the slots (segment)"]
