from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ocwm.errors import BenchError
from ocwm.testing import check_method
from ocwm.types import LatentBatch

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
    assert len(names) == 13
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
