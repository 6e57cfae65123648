"""`bench import` from the command line: what it says, what it refuses, and that nothing is left of a failure."""

from __future__ import annotations

import errno
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from ocwm import whole_files
from ocwm.checkpoint import load
from ocwm.cli import main


@pytest.fixture(autouse=True)
def installed(demo: Path) -> Path:
    return demo


def published() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        "state_dict": {
            "module.linear_in.weight": torch.randn(4, 2, generator=generator),
            "module.linear_in.bias": torch.randn(4, generator=generator),
            "module.linear_out.weight": torch.randn(2, 4, generator=generator),
            "module.linear_out.bias": torch.randn(2, generator=generator),
        },
        "optimizer": {"state": {}},
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "files" / "model.pth"
    path.parent.mkdir()
    torch.save(published(), path)
    return path


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return line.removeprefix("error: ")


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_checkpoint_is_recognised_converted_and_described(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    assert main(["import", str(file)]) == 0
    text = capsys.readouterr().out
    output = file.with_name("model.linear_demo.safetensors")
    for part in ("a linear model, from 'state_dict'", "4 tensors (4 float32), 22 values", "hidden 4", str(output)):
        assert part in text
    assert "left out  optimizer: state of an optimiser" in text
    assert "use       --method linear_demo method.hidden=4" in text
    found = load(output)
    assert torch.equal(found.tensors["net.0.weight"], published()["state_dict"]["module.linear_in.weight"])
    assert found.meta["imported"] == "linear_demo"


def test_json_output_and_a_chosen_place(capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "weights.safetensors"
    assert main(["import", str(file), "--as", "linear_demo", "--output", str(output), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["output"] == str(output)
    assert facts["parameters"] == 22
    assert files(file.parent) == {"model.pth"}
    assert load(output).meta["sizes"] == {"hidden": 4}


def test_an_existing_output_is_kept_unless_forced(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    output = file.with_name("model.linear_demo.safetensors")
    output.write_text("mine")
    for arguments in (["import", str(file)], ["import", str(file), "--output", str(output)]):
        assert main(arguments) == 2
        assert error_of(capsys) == f"{output} exists already. Give another --output, or --force to replace it."
        assert output.read_text() == "mine"
    assert main(["import", str(file), "--force"]) == 0
    assert len(load(output).tensors) == 4
    capsys.readouterr()
    assert main(["import", str(file), "--output", str(file), "--force"]) == 2
    assert "is the published file itself" in error_of(capsys)


def test_the_same_file_under_another_name_becomes_the_same_file(file: Path, tmp_path: Path) -> None:
    written = []
    for number in range(4):  # the place and the moment must not matter either: runs are told apart by the hash
        moved = file.rename(tmp_path / f"{number}.pth")
        assert main(["import", str(moved)]) == 0
        written.append((tmp_path / f"{number}.linear_demo.safetensors").read_bytes())
        file = moved
    assert len(set(written)) == 1


def test_a_full_disk_leaves_nothing(
    capsys: pytest.CaptureFixture[str], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(whole_files.os, "fsync", full)
    assert main(["import", str(file)]) == 2
    assert "the disk is full: could not write" in error_of(capsys)
    assert files(file.parent) == {"model.pth"}


class Harmful:
    def __reduce__(self) -> Any:
        return os.system, ("touch was_run",)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_harmful_file_is_refused_by_name(capsys: pytest.CaptureFixture[str], file: Path, new_format: bool) -> None:
    torch.save({**published(), "extra": Harmful()}, file, _use_new_zipfile_serialization=new_format)
    assert main(["import", str(file)]) == 2
    assert f"{file} holds 'posix.system', which is refused" in error_of(capsys)
    assert not Path("was_run").exists()
    file.write_bytes(pickle.dumps({"train": {"video_00000.mp4": Harmful()}}))
    assert main(["import", str(file)]) == 2
    assert "'posix.system', which is refused" in error_of(capsys)
    assert not Path("was_run").exists()
    assert files(file.parent) == {"model.pth"}


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_file(capsys: pytest.CaptureFixture[str], file: Path, new_format: bool, share: float) -> None:
    torch.save(published(), file, _use_new_zipfile_serialization=new_format)
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    assert main(["import", str(file)]) == 2
    assert "truncated" in error_of(capsys)
    assert files(file.parent) == {"model.pth"}


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/model.pth", "x")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_text("hello"), "is neither a file of torch.save nor a pickle"),
        (lambda path: path.write_bytes(b""), "is neither a file of torch.save nor a pickle"),
        (zipped, "not one that torch wrote. Unpack archives first."),
        (lambda path: path.write_bytes(pickle.dumps([1, 2])), "holds no slots"),
        (lambda path: torch.save([1, 2], path), "holds no weights (a list)"),
        (lambda path: torch.save({"epoch": 3}, path), "holds no weights (a dict with the keys 'epoch')"),
        (lambda path: torch.save(torch.zeros(1).expand(10**12), path), "holds no weights"),
        (
            lambda path: torch.save({"linear_in.weight": torch.zeros(1).expand(10**9, 2)}, path),
            "8.0 GB of tensors, which can't be in it",
        ),
        (lambda path: path.unlink(), "does not exist"),
    ],
)
def test_what_is_no_checkpoint(capsys: pytest.CaptureFixture[str], file: Path, write: Any, message: str) -> None:
    write(file)
    assert main(["import", str(file)]) == 2
    assert message in error_of(capsys)


def test_converted_files_need_no_import(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    assert main(["import", str(file)]) == 0
    capsys.readouterr()
    assert main(["import", str(file.with_name("model.linear_demo.safetensors"))]) == 2
    assert "Converted files need no import" in error_of(capsys)


def test_a_module_that_holds_itself_is_refused(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    module = torch.nn.Linear(2, 2)
    module._modules["again"] = module
    torch.save(module, file)
    assert main(["import", str(file)]) == 2
    assert "holds itself" in error_of(capsys)


def test_values_that_are_not_finite_are_said(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    content = published()
    content["state_dict"]["module.linear_out.bias"][0] = torch.nan
    torch.save(content, file)
    assert main(["import", str(file)]) == 0
    assert "WARNING: net.2.bias hold values that are not finite" in capsys.readouterr().out


def test_importers_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "importers"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"linear_demo", "savi", "videosaur", "slotformer", "ocvp", "dino_wm", "cjepa", "aloe", "slots"} <= set(
        listed
    )
    assert main(["import", "x", "--as", "linear_dem"]) == 2
    assert "Did you mean 'linear_demo'?" in error_of(capsys)
