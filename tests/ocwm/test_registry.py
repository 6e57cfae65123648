from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ocwm import registry
from ocwm.errors import BenchError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, install: Callable[[str], None]) -> Callable[..., Path]:
    """Return what makes and installs a package out of its configuration files."""
    folder = tmp_path / "packages"

    def make(name: str, files: dict[str, str]) -> Path:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise RuntimeError('a listing must not import this')")
        for path, text in files.items():
            place = folder / name / "conf" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        monkeypatch.syspath_prepend(str(folder))
        install(name)
        return folder / name

    return make


def yaml(description: str = "something") -> str:
    return f"_target_: some.module.Class\ndescription: {description}\n"


def test_a_third_party_is_found_by_its_entry_point(demo: Path) -> None:
    plugin = registry.find("method", "linear_demo")
    assert (plugin.kind, plugin.package, plugin.target) == ("method", "demo_plugin", "demo_plugin.model.Linear")
    assert plugin.description == "a linear world model"
    assert registry.find("method", "hold_demo").kind == "reference"
    assert registry.distributions()["demo_plugin"] == "demo-plugin"
    assert {"tiny", "smoke", "mini", "standard", "paper"} <= registry.plugins("preset").keys()


def test_listing_imports_no_plugin(package: Callable[..., Path]) -> None:
    package("explosive", {"method/boom.yaml": yaml()})
    assert registry.find("method", "boom").package == "explosive"


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        ("method", "liner_demo", "Did you mean 'linear_demo'?"),
        ("method", "hold_dem", "Did you mean 'hold_demo'?"),
        ("encoder", "pasthrough", "Did you mean 'passthrough'?"),
        ("task", "circle", "Did you mean 'circles'?"),
        ("preset", "smok", "Did you mean 'smoke'?"),
        ("preset", "xxxxxxxxx", "Known: mini, paper, smoke, standard, tiny."),
    ],
)
def test_unknown_names_come_with_the_nearest(demo: Path, kind: str, name: str, hint: str) -> None:
    with pytest.raises(BenchError, match=f"no {kind} '{name}'") as caught:
        registry.find(kind, name)
    assert hint in caught.value.hint


@pytest.mark.parametrize("second", ["method", "reference"])
def test_a_name_can_be_taken_once(package: Callable[..., Path], second: str) -> None:
    package("first_party", {"method/twin.yaml": yaml()})
    package("second_party", {f"{second}/twin.yaml": yaml()})
    with pytest.raises(BenchError, match="'twin' is registered twice") as caught:
        registry.find("method", "twin")
    assert "first_party" in str(caught.value)
    assert "second_party" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("_target_: some.module.Class\n", "lacks its description"),
        ("description: what\n", "must name its class"),
        ("a: [1,\n", "malformed YAML"),
        ("- 1\n", "must hold a mapping"),
    ],
)
def test_malformed_plugin_files_are_named(package: Callable[..., Path], text: str, message: str) -> None:
    package("careless", {"encoder/odd.yaml": text})
    with pytest.raises(BenchError, match=message) as caught:
        registry.plugins("encoder")
    assert "odd.yaml" in str(caught.value)


def test_a_package_that_is_gone_is_named(install: Callable[[str], None]) -> None:
    install("never_there")
    with pytest.raises(BenchError, match=r"'never_there'.*can't be found"):
        registry.plugins("task")


def test_a_package_without_a_tree_is_named(package: Callable[..., Path]) -> None:
    package("treeless", {})
    with pytest.raises(BenchError, match="'treeless' has no conf folder"):
        registry.plugins("task")


def test_list_and_help_import_neither_torch_nor_anything_slow(demo_environment: dict[str, str]) -> None:
    program = """
import json, sys
from ocwm.cli import main
code = main(sys.argv[1:])
slow = ("torch", "numpy", "pandas", "hydra", "omegaconf", "pydantic", "rich", "demo_plugin", "ocwm_methods")
print(json.dumps([code, [name for name in slow if name in sys.modules]]), file=sys.stderr)
"""
    for arguments in (["list"], ["list", "methods", "--json"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env=demo_environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stderr) == [0, []]
        assert "linear_demo" in done.stdout
    done = subprocess.run(
        [sys.executable, "-c", program, "--help"], env=demo_environment, capture_output=True, text=True, check=True
    )
    assert "leaderboard" in done.stdout
    assert "torch" not in json.loads(done.stderr)[1]
