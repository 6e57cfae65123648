from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ocwm import run as engine
from ocwm.artifacts import Cache, sha256_of_file
from ocwm.checkpoint import save
from ocwm.config import compose, instantiate
from ocwm.errors import BenchError
from ocwm.run import Cell, Outcome
from ocwm.store import read_items, read_record
from ocwm.types import LatentSpec


@pytest.fixture(autouse=True)
def one_thread(demo: Path) -> None:
    torch.set_num_threads(1)


def prepare(*overrides: str, **options: Any) -> Cell:
    chosen = {"method": "linear_demo", "task": "circles", "preset": "smoke", **options}
    return engine.prepare(compose(**chosen, overrides=("runtime.threads=1", "runtime.device=cpu", *overrides)))


def run(*overrides: str, force: bool = False, rebuild: bool = False, **options: Any) -> Outcome:
    return engine.run(prepare(*overrides, **options), force=force, rebuild=rebuild)


def test_a_run_leaves_a_complete_record(demo: Path) -> None:
    outcome = run(seed=3)
    record = outcome.record
    assert outcome.new
    assert record.path == demo / "results" / "runs" / "circles" / "linear_demo" / f"{record.id}.json"
    assert (record.method, record.kind, record.privileged, record.encoder) == (
        "linear_demo",
        "method",
        "none",
        "passthrough",
    )
    assert record.seeds == {"data": 0, "encoder": 0, "model": 3, "reasoner": 3, "eval": 0}
    assert record.section == {
        "data": "embedded",
        "encoder_reads": "state",
        "preset": "smoke",
        "protocol": "published",
    }
    assert record.identity["versions"] == {"method": 3, "encoder": 2, "task": 5, "trainer": 1, "generator": 1}
    metric = record.metrics["rollout.error.1"]
    assert metric["n"] == 4
    assert metric["unit"] == "latent units"
    assert metric["value"] == pytest.approx(read_items(record)["rollout.error.1"].mean())
    assert record.costs["total"]["parameters"] == 22  # 2 x 4 + 4 and 4 x 2 + 2
    assert record.costs["total"]["tokens_per_frame"] == 3
    assert not record.costs["data"]["cached"]
    assert record.costs["total"]["seconds"] >= record.costs["model"]["seconds"]
    assert record.provenance["packages"]["demo-plugin"] == "0.3.0"
    assert record.provenance["threads"] == 1
    assert "home" not in record.config["runtime"]


def test_a_second_run_of_the_same_finds_the_record() -> None:
    first, second = run(), run()
    assert not second.new
    assert second.record == first.record


def test_another_seed_is_another_run() -> None:
    first, second = run(), run(seed=1)
    assert second.new
    assert second.record.id != first.record.id
    assert second.record.metrics != first.record.metrics
    assert second.record.costs["data"]["cached"]  # the data has a seed of its own
    assert not second.record.costs["model"]["cached"]


def test_the_same_seed_gives_the_same_numbers_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run()
    monkeypatch.setenv("OCWM_HOME", str(tmp_path / "another"))
    second = run()
    assert second.new
    assert second.record.id == first.record.id
    assert second.record.metrics == first.record.metrics
    np.testing.assert_array_equal(
        read_items(second.record)["rollout.error.1"], read_items(first.record)["rollout.error.1"]
    )


def test_force_makes_a_repeat_that_trains_anew() -> None:
    first = run().record
    again = run(force=True)
    assert again.new
    assert (again.record.id, again.record.repeat) == (first.id, 2)
    assert again.record.path is not None
    assert again.record.path.name == f"{first.id}.r2.json"
    assert again.record.costs["data"]["cached"]
    assert not again.record.costs["model"]["cached"]
    assert again.record.metrics == first.metrics  # this method has no randomness left
    assert run(force=True).record.repeat == 3
    assert first.path is not None
    assert read_record(first.path) == first


def test_rebuild_makes_data_and_model_anew() -> None:
    run()
    again = run(rebuild=True).record
    assert again.repeat == 2
    assert not again.costs["data"]["cached"]
    assert not again.costs["model"]["cached"]


def test_runs_share_what_they_can() -> None:
    first = run().record
    second = run("task.protocol=imagined")
    assert second.new
    assert second.record.section["protocol"] == "imagined"
    assert second.record.overrides == ["task.protocol=imagined"]
    assert second.record.id != first.id


def test_cached_costs_are_those_of_the_making() -> None:
    first = run().record
    second = run("trainer.max_steps=6").record
    assert second.costs["data"]["cached"]
    assert second.costs["data"]["seconds"] == pytest.approx(first.costs["data"]["seconds"], abs=1e-3)


def test_a_reference_runs_the_same_way() -> None:
    record = run(method="hold_demo").record
    assert (record.kind, record.method) == ("reference", "hold_demo")
    assert "trainer" not in record.identity["versions"]
    assert "trainer" not in record.identity["config"]
    assert "parameters" not in record.costs["total"]


def test_a_pair_that_can_not_work_is_refused_before_anything_is_computed(demo: Path) -> None:
    with pytest.raises(BenchError, match="linear_demo with encoder pixels_demo can't run on circles: it reads pixels"):
        prepare("encoder=pixels_demo")
    assert not demo.exists()


def test_a_missing_capability_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from demo_plugin.task import Circles

    monkeypatch.setattr(Circles, "needs", frozenset({"actions", "variable_slots"}))
    with pytest.raises(BenchError, match="lacks the capability actions"):
        prepare()
    assert prepare(method="hold_demo").id is not None  # what a reference can do, it says otherwise


def test_absent_data_leaves_the_id_pending(tmp_path: Path) -> None:
    cell = prepare(f"task.root={tmp_path}")
    assert cell.id is None
    with pytest.raises(BenchError, match=f"the data is absent: task.root={tmp_path}"):
        engine.run(cell)


def test_a_moved_folder_keeps_its_results(tmp_path: Path) -> None:
    for name in ("here_it_was", "here_it_is"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "circles.npy", np.zeros((4, 4, 3, 2), dtype=np.float32))
    assert run(f"task.root={tmp_path / 'here_it_was'}").new
    assert not run(f"task.root={tmp_path / 'here_it_is'}").new
    np.save(tmp_path / "here_it_is" / "circles.npy", np.zeros((5, 4, 3, 2), dtype=np.float32))
    assert run(f"task.root={tmp_path / 'here_it_is'}").new


def test_exactly_the_declared_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    from demo_plugin.task import Circles

    original = Circles.run

    def surplus(self: Circles, context: engine.RunContext) -> engine.Evaluation:
        found = original(self, context)
        return replace(found, metrics={**found.metrics, "another": found.metrics["rollout.error.1"]})

    monkeypatch.setattr(Circles, "run", surplus)
    with pytest.raises(BenchError, match="exactly the metrics that it declares: another"):
        run()


@pytest.mark.parametrize(("items", "accepted"), [(0, True), (3, False)])
def test_metrics_without_a_number(monkeypatch: pytest.MonkeyPatch, items: int, accepted: bool) -> None:
    from demo_plugin.task import Circles

    from ocwm.types import MetricValue

    original = Circles.run

    def empty(self: Circles, context: engine.RunContext) -> engine.Evaluation:
        return replace(original(self, context), metrics={"rollout.error.1": MetricValue(float("nan"), items)})

    monkeypatch.setattr(Circles, "run", empty)
    if accepted:  # nothing to measure: not in the record, and said so
        record = run().record
        assert record.metrics == {}
        assert record.notes["not_measured"] == ["rollout.error.1"]
    else:
        with pytest.raises(BenchError, match=r"rollout.error.1 is nan over 3 items"):
            run()


def test_an_interrupted_run_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        run("task.fail=stop")
    outcome = run("task.fail=stop")
    assert "training goes on from step 3" in capsys.readouterr().err
    assert outcome.new
    # `fail` has no part in the training, so the numbers are those of a run that was never stopped.
    assert outcome.record.metrics == run().record.metrics


def test_a_damaged_stage_is_named_and_rebuilt_on_request(demo: Path) -> None:
    first = run().record
    (file,) = (demo / "cache" / "model").glob("*/model.pt")
    file.write_bytes(b"broken")
    with pytest.raises(BenchError, match=r"model.pt has 6 bytes.*Run again with --rebuild"):
        run("seeds.eval=1")  # another run that shares the trained model
    assert run("seeds.eval=1", rebuild=True).record.metrics == first.metrics


def test_the_model_does_not_depend_on_what_ran_before() -> None:
    torch.manual_seed(123)
    first = run().record
    torch.manual_seed(456)
    torch.rand(10)
    assert run(force=True).record.metrics == first.metrics


def test_an_impossible_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BenchError, match=r"runtime.device is 'cuda' .* it has no CUDA device"):
        prepare("runtime.device=cuda")
    with pytest.raises(BenchError, match="unknown device 'gpu'"):
        prepare("runtime.device=gpu")
    with pytest.raises(BenchError, match=r"runtime.threads is -1"):
        run("runtime.threads=-1")


def test_records_of_small_presets_never_go_to_a_checkout(tmp_path: Path, demo: Path) -> None:
    here = Path.cwd()
    (here / "pyproject.toml").write_text('[project]\nname = "ocwm-bench"\n')
    assert prepare(preset="mini").results == here / "results"
    assert prepare(preset="smoke").results == demo / "results"
    with pytest.raises(BenchError, match="never go to"):
        prepare("runtime.results=results", preset="smoke")
    assert prepare("runtime.results=others", preset="smoke").results == here / "others"
    (here / "pyproject.toml").write_text('[project]\nname = "another"\n')
    assert prepare(preset="mini").results == demo / "results"


def test_what_will_happen_is_said_first(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == (
        f"run {outcome.record.id}: linear_demo on circles, encoder passthrough, preset smoke (no result), seed 0"
    )
    assert lines[1].startswith("expected to take at most 60 seconds on two CPU cores")
    assert lines[2] == "stages: data, model"
    run("trainer.max_steps=6")
    assert capsys.readouterr().err.splitlines()[2] == "stages: data (cached), model"


def test_records_are_plain_json() -> None:
    record = run().record
    assert json.loads(json.dumps(record.to_json())) == record.to_json()


def test_a_run_starts_from_given_weights(demo: Path, tmp_path: Path) -> None:
    cell = prepare()
    model = instantiate(cell.config.values.method, LatentSpec(num_slots=3, slot_dim=2))
    for parameter in model.parameters():
        parameter.data.zero_()
    file = tmp_path / "zero.safetensors"
    save(file, model.state_dict(), {})
    record = run(f"trainer.init={file}", "trainer.max_steps=0").record
    # A model of zeros predicts that nothing moves: the error is that of the last frame.
    still = run(method="hold_demo").record
    assert record.metrics["rollout.error.1"]["value"] == pytest.approx(still.metrics["rollout.error.1"]["value"])
    assert record.identity["versions"]["init"] == sha256_of_file(file)
    assert "init" not in record.identity["config"]["trainer"]
    assert "trainer.init=zero.safetensors" in record.overrides  # its folder is of this machine only
    moved = file.rename(tmp_path / "moved.safetensors")
    assert prepare(f"trainer.init={moved}", "trainer.max_steps=0").id == record.id
    save(moved, {name: tensor + 1 for name, tensor in model.state_dict().items()}, {})
    assert prepare(f"trainer.init={moved}", "trainer.max_steps=0").id != record.id
    trained = run(f"trainer.init={moved}").record
    assert trained.metrics["rollout.error.1"]["value"] != run().record.metrics["rollout.error.1"]["value"]
    with pytest.raises(BenchError, match=r"moved\.safetensors.*'net\.0\.bias' is \(4,\), not \(5,\)"):
        run(f"trainer.init={moved}", "method.hidden=5")
    with pytest.raises(BenchError, match=r"no weights at trainer\.init="):
        prepare(f"trainer.init={file}")
    with pytest.raises(BenchError, match="the reference hold_demo has no weights"):
        prepare(f"trainer.init={moved}", method="hold_demo")
    with pytest.raises(BenchError, match=r"trainer\.max_steps is 0\. It must be at least 1"):
        prepare("trainer.max_steps=0")


def test_the_weights_that_a_training_starts_from_are_part_of_its_stages(demo: Path, tmp_path: Path) -> None:
    def part(value: float) -> Any:
        save(tmp_path / "init.safetensors", {"x": torch.tensor(value)}, {})
        cell = prepare(f"trainer.init={tmp_path / 'init.safetensors'}")
        space = engine.workspace(cell.config, versions=cell.versions, data=cell.data)
        return space.part("trainer")["trainer"]

    assert part(1.0) == part(1.0)
    assert part(1.0) != part(2.0)
    assert "init" not in prepare().versions


def test_the_time_of_interrupted_sessions_counts(tmp_path: Path) -> None:
    def space() -> engine.Workspace:
        cell = prepare()
        return replace(engine.workspace(cell.config, versions={}, data=None), cache=Cache(tmp_path))

    making = space()
    making.stage("model", {"a": 1}, lambda folder: making.count_before(100.0))
    assert 100 <= making.costs.stages["model"]["seconds"] < 160
    later = space()
    later.stage("model", {"a": 1}, lambda folder: pytest.fail("it is there"))
    assert later.costs.stages["model"]["seconds"] == pytest.approx(making.costs.stages["model"]["seconds"], abs=0.01)
