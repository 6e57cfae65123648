from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import ReadonlyConfigError

from ocwm import registry
from ocwm.config import Config, compose, import_class, instantiate
from ocwm.errors import BenchError
from ocwm.trainer_config import TrainerConfig
from ocwm.types import LatentSpec

pytestmark = pytest.mark.usefixtures("demo")


def demo_config(*overrides: str, **options: Any) -> Config:
    return compose(**{"method": "linear_demo", "task": "circles", **options}, overrides=overrides)


def test_groups_are_composed_and_presets_merged() -> None:
    values = demo_config().values
    assert list(values) == ["method", "task", "encoder", "preset", "trainer", "seeds", "runtime"]
    assert values.method.name == "linear_demo"
    assert values.method.hidden == 8
    assert values.method.layers.extra == 1  # the method's block for this task
    assert values.encoder.name == "passthrough"  # named by the task, under every preset
    assert (values.trainer.max_steps, values.trainer.lr) == (20, 0.01)
    assert "presets" not in values.method


def test_the_method_has_the_last_word_before_the_user() -> None:
    assert demo_config(preset="smoke").values.trainer.max_steps == 5  # the task says 20
    assert demo_config("trainer.max_steps=7", preset="smoke").values.trainer.max_steps == 7
    assert demo_config(preset="smoke").values.task.videos == 4


def test_a_reference_stands_in_the_method_group() -> None:
    values = demo_config(method="hold_demo").values
    assert (values.method.name, values.method.kind) == ("hold_demo", "reference")


def test_the_task_alone_can_be_composed() -> None:
    values = demo_config(method=None, preset="smoke").values
    assert "method" not in values
    assert values.task.videos == 4


def test_seed_sets_model_and_reasoner() -> None:
    seeds = demo_config(seed=7).seeds
    assert (seeds.data, seeds.encoder, seeds.model, seeds.reasoner, seeds.eval) == (0, 0, 7, 7, 0)
    assert demo_config("seeds.reasoner=2", seed=7).seeds.reasoner == 2


def test_references_between_keys_see_the_overrides() -> None:
    assert demo_config("seeds.encoder=4").values.encoder.seed == 4


def test_the_result_can_not_be_changed() -> None:
    with pytest.raises(ReadonlyConfigError):
        demo_config().values.method.hidden = 1


def test_the_user_can_choose_another_encoder() -> None:
    values = demo_config("encoder=pixels_demo", "encoder.width=5", preset="smoke").values
    assert (values.encoder.name, values.encoder.width) == ("pixels_demo", 5)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("method.gain=2", 2.0),
        ("method.hidden=16", 16),
        ("task.root=/some/where", "/some/where"),
        ("task.root='a folder'", "a folder"),
        ("task.protocol=imagined", "imagined"),
        ("trainer.lr=1e-4", 1e-4),
        ("runtime.device=cpu", "cpu"),
        ("method.layers.extra=3", 3),
    ],
)
def test_overrides(override: str, value: Any) -> None:
    found = OmegaConf.select(demo_config(override).values, override.partition("=")[0])
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method.hiden=3", "unknown key 'method.hiden'.*Did you mean 'hidden'"),
        ("method.layers.extr=3", "unknown key 'method.layers.extr'.*Did you mean 'extra'"),
        ("trainer.max_step=3", "Did you mean 'max_steps'"),
        ("metod.hidden=3", "unknown key 'metod.hidden'. Did you mean 'method'"),
        ("max_steps=3", "unknown key 'max_steps'. Did you mean 'trainer.max_steps'"),
        ("encodr=passthrough", "unknown key 'encodr'. Did you mean 'encoder'"),
        ("encoder=passthroug", "no encoder 'passthroug'. Did you mean 'passthrough'"),
        ("trainer=defalt", "no trainer 'defalt'. Did you mean 'default'"),
        ("method.hidden=many", "method.hidden must be a whole number, not 'many'"),
        ("trainer.max_steps=1e3", "trainer.max_steps must be a whole number, not 1000.0"),
        ("trainer.max_steps=true", "must be a whole number, not True"),
        ("trainer.lr=fast", "trainer.lr must be a number, not 'fast'"),
        ("task.protocol=3", "task.protocol must be a word, not 3"),
        ("seeds.model=null", "must be a whole number, not None"),
        ("method.layers=3", "method.layers is a group of keys. Set one of them"),
        ("method.hidden.deep=3", "unknown key 'method.hidden.deep'"),
        ("method.name=x", "unknown key 'method.name'"),
        ("method._target_=os.system", "unknown key 'method._target_'"),
        ("trainer.optimizer=adamx", "unknown trainer.optimizer 'adamx'. Did you mean 'adam'"),
        ("trainer.max_steps=0", "trainer.max_steps is 0"),
        ("method=cjepa", "Use --method cjepa"),
        ("task=circles", "Use --task circles"),
        ("preset=mini", "Use --preset mini"),
        ("+method.new=3", "no plain override"),
        ("~method.hidden", "can't read"),
        ("method.hidden=1,2", "no plain override"),
        ("a b=3", "can't read the override"),
        ("hidden", "has the form group.key=value"),
        ("runtime.threads=[1]", "runtime.threads must be a whole number"),
    ],
)
def test_bad_overrides_are_refused_in_one_line(override: str, message: str) -> None:
    with pytest.raises(BenchError, match=message) as caught:
        demo_config(override)
    assert "\n" not in str(caught.value)


def test_only_what_can_change_numbers_counts_as_an_override() -> None:
    config = demo_config("runtime.threads=1", "task.root=/x", "method.hidden=3", "encoder=passthrough")
    assert config.overrides == ("method.hidden=3", "encoder=passthrough")


def changed_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **keys: Any) -> None:
    """Let the demo method's YAML have other keys."""
    plugin = registry.find("method", "linear_demo")
    folder = tmp_path / "changed"
    (folder / "method").mkdir(parents=True)
    content = {**yaml.safe_load(plugin.path.read_text()), **keys}
    (folder / "method" / "linear_demo.yaml").write_text(yaml.safe_dump(content))
    for kind in ("task", "encoder", "reference"):
        (folder / kind).symlink_to(plugin.path.parents[1] / kind)
    folders = {**registry.conf_folders(), "demo_plugin": folder}
    monkeypatch.setattr(registry, "conf_folders", lambda: folders)
    registry.plugins.cache_clear()


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"method": {"hiden": 3}}, "method.hiden is set by a preset but does not exist. Did you mean 'hidden'"),
        ({"method": {"hidden": "x"}}, "method.hidden must be a whole number"),
        ({"runtime": {"threads": 3}}, "a preset can't set 'runtime'"),
        (["mini"], "must hold groups with their keys"),
    ],
)
def test_bad_presets_name_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: Any, message: str) -> None:
    changed_plugin(tmp_path, monkeypatch, presets={"mini": block})
    with pytest.raises(BenchError, match=message) as caught:
        demo_config()
    assert "linear_demo.yaml" in str(caught.value)


def test_a_method_can_bring_its_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed_plugin(tmp_path, monkeypatch, presets={"all": {"encoder": "pixels_demo"}})
    assert demo_config().values.encoder.name == "pixels_demo"  # the task says passthrough
    assert demo_config("encoder=passthrough").values.encoder.name == "passthrough"


def test_a_value_that_must_be_given_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed_plugin(tmp_path, monkeypatch, hidden="???")
    with pytest.raises(BenchError, match=r"method.hidden has no value. Add method.hidden=VALUE"):
        demo_config()
    assert demo_config("method.hidden=3").values.method.hidden == 3


def test_keys_that_the_constructor_does_not_know_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed_plugin(tmp_path, monkeypatch, surplus=1)
    with pytest.raises(
        BenchError, match=r"the keys of 'linear_demo' are not the parameters of demo_plugin.model.Linear"
    ):
        instantiate(demo_config().values.method, LatentSpec(3, 2))


@pytest.mark.parametrize("target", ["demo_plugin.nowhere.Linear", "demo_plugin.model.Nobody"])
def test_a_class_that_does_not_exist_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    changed_plugin(tmp_path, monkeypatch, _target_=target)
    with pytest.raises(BenchError, match=target.rpartition(".")[0]):
        import_class(demo_config().values.method)


def test_instantiate_hands_over_plain_values() -> None:
    model = instantiate(demo_config("method.hidden=3").values.method, LatentSpec(3, 2))
    assert model.net[0].out_features == 3


def test_every_key_of_the_trainer_is_in_its_yaml() -> None:
    keys = registry.read_yaml(registry.find("trainer", "default").path).keys() - {"description"}
    assert keys == TrainerConfig.__dataclass_fields__.keys()
