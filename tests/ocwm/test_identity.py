from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from ocwm import identity
from ocwm.artifacts import digest
from ocwm.config import compose
from ocwm.errors import BenchError

pytestmark = pytest.mark.usefixtures("demo")

VERSIONS = {"method": 3, "encoder": 2, "task": 5, "trainer": 1, "generator": 1}
DATA = {"kind": "embedded", "name": "circles", "manifest": "0123456789ab"}


def make_id(*overrides: str, versions: dict[str, Any] = VERSIONS, data: dict[str, str] = DATA, **options: Any) -> str:
    config = compose(**{"method": "linear_demo", "task": "circles", **options}, overrides=overrides)
    return identity.run_id(config.values, versions=versions, data=data)


def test_golden_ids() -> None:
    """Ids of records that exist must not change: a new key needs its neutral value in identity_neutral.yaml."""
    assert make_id() == "fd000e19eff5"
    assert make_id(method="hold_demo", preset="smoke", seed=3) == "917f6a08d346"


@pytest.mark.parametrize(
    "override",
    [
        "runtime.threads=1",
        "runtime.device=cpu",
        "runtime.workers=7",
        "runtime.home=/elsewhere",
        "task.root=/data",
        "trainer.checkpoint_seconds=1",
        "method.gain=1",  # an int where the default is the same float
        "encoder=passthrough",  # what it is anyway
    ],
)
def test_what_can_not_change_the_numbers_does_not_change_the_id(override: str) -> None:
    assert make_id(override) == make_id()


@pytest.mark.parametrize(
    "override",
    [
        "method.hidden=9",
        "method.layers.extra=2",
        "task.protocol=imagined",
        "encoder.width=4",
        "trainer.max_steps=21",
        "trainer.precision=bf16",
        "seeds.data=1",
        "seeds.eval=1",
    ],
)
def test_what_can_change_the_numbers_changes_the_id(override: str) -> None:
    assert make_id(override) != make_id()


def test_versions_data_preset_and_names_are_part_of_the_id() -> None:
    ids = [
        make_id(),
        make_id(versions={**VERSIONS, "generator": 2}),
        make_id(data={**DATA, "manifest": "another"}),
        make_id(preset="standard"),
        make_id(method="hold_demo"),
    ]
    assert len(set(ids)) == len(ids)


def test_a_reference_has_nothing_to_train() -> None:
    assert make_id("trainer.max_steps=21", method="hold_demo") == make_id(method="hold_demo")


def neutral(monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]) -> None:
    monkeypatch.setattr(identity, "neutral_values", lambda: values)


def test_a_key_with_its_neutral_value_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_id()
    neutral(monkeypatch, {"method.linear_demo.gain": 1.0, "trainer.eval_every": 0, "versions.generator": 1})
    old = make_id()
    assert old != before
    assert make_id("method.gain=2.0") != old  # not neutral: in the hash
    assert make_id(versions={name: v for name, v in VERSIONS.items() if name != "generator"}) == old


def test_a_key_that_is_neutral_at_any_value(monkeypatch: pytest.MonkeyPatch) -> None:
    neutral(monkeypatch, {"encoder.passthrough.width": "*", "trainer.eval_every": "*"})
    assert make_id("encoder.width=4", "trainer.eval_every=3") == make_id()
    config = compose(method="linear_demo", task="circles", overrides=["encoder.width=4", "method.hidden=3"])
    assert config.overrides == ("method.hidden=3",)
    assert "width" not in identity.identity_part(config.values, "encoder", versions=VERSIONS, data=DATA)["config"]
    other = compose(method="linear_demo", task="circles", overrides=["encoder=pixels_demo", "encoder.width=4"])
    assert other.overrides == ("encoder=pixels_demo", "encoder.width=4")  # another plugin's key


def test_neutral_values_hold_for_their_plugin_only(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_id()
    neutral(monkeypatch, {"method.another.gain": 1.0, "task.circles.deep.key": 3, "encoder.passthrough.seed": False})
    assert make_id() == before  # also: False is not 0


def test_nested_neutral_values(monkeypatch: pytest.MonkeyPatch) -> None:
    neutral(monkeypatch, {"method.linear_demo.layers.extra": 1})
    config = compose(method="linear_demo", task="circles")
    assert identity.scientific(config.values)["method"]["layers"] == {}


def test_neutral_values_come_from_every_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "identity_neutral.yaml").write_text(f"method.{name}.key: 5\n")
    folders = {name: tmp_path / name for name in ("one", "two")}
    monkeypatch.setattr("ocwm.registry.conf_folders", lambda: folders)
    identity.neutral_values.cache_clear()
    assert identity.neutral_values() == {"method.one.key": 5, "method.two.key": 5}
    (tmp_path / "two" / "identity_neutral.yaml").write_text("method.one.key: 6\n")
    identity.neutral_values.cache_clear()
    with pytest.raises(BenchError, match=r"'method.one.key' has a neutral value already"):
        identity.neutral_values()


def test_parts_of_an_identity() -> None:
    values = compose(method="linear_demo", task="circles", seed=4).values

    def part(name: str) -> Any:
        return identity.identity_part(values, name, versions=VERSIONS, data=DATA)

    assert part("encoder") == {"config": {"name": "passthrough", "slots": 3, "width": 2, "seed": 0}, "version": 2}
    assert part("task.videos") == 8
    assert part("seeds.model") == 4
    assert part("data") == DATA
    assert "root" not in part("task")["config"]


def test_weights_enter_by_their_hash_and_not_by_their_place() -> None:
    def part_and_id(place: str, sha256: str) -> tuple[Any, str]:
        values = compose(method="linear_demo", task="circles").values.copy()
        OmegaConf.set_readonly(values, False)
        OmegaConf.update(values, "encoder.weights", place, force_add=True)
        versions = VERSIONS | ({"weights": sha256} if sha256 else {})
        part = identity.identity_part(values, "encoder", versions=versions, data=DATA)
        return part, identity.run_id(values, versions=versions, data=DATA)

    here = part_and_id("/a/one.safetensors", "ab12")
    assert here[0]["weights"] == "ab12"
    assert part_and_id("/b/two.safetensors", "ab12") == here
    for other in (part_and_id("/a/one.safetensors", "cd34"), part_and_id("random", "")):
        assert other[0] != here[0]
        assert other[1] != here[1]


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"a": float("nan")})
