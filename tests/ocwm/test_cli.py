from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from ocwm import __version__, store
from ocwm.cli import main

RUN = ["run", "--method", "linear_demo", "--task", "circles", "--preset", "smoke", "runtime.threads=1"]


@pytest.fixture(autouse=True)
def installed(demo: Path) -> Path:
    return demo


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that a failed command printed."""
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = [line for line in printed.err.splitlines() if line]
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"bench {__version__}\n"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    commands = (
        "list",
        "run",
        "show",
        "table",
        "leaderboard",
        "figures",
        "compare",
        "data",
        "import",
        "train-encoder",
        "check",
    )
    for command in commands:
        assert f"\n  {command} " in text
    assert "..." not in text.partition("Commands:")[2]  # no sentence is cut
    assert main([]) == 2
    assert "Commands:" in capsys.readouterr().out


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert "reference: repeats the last latents [demo_plugin]" in text
    assert "presets:\n" in text
    assert main(["list", "tasks"]) == 0
    assert any(line.startswith("circles ") for line in capsys.readouterr().out.splitlines())
    for arguments in (["list", "methods", "--json"], ["list", "--json", "methods"]):
        assert main(arguments) == 0
        listed = json.loads(capsys.readouterr().out)
        assert {
            "kind": "reference",
            "name": "hold_demo",
            "description": "repeats the last latents",
            "package": "demo_plugin",
        } in listed
    assert main(["list", "--json"]) == 0
    assert {"task", "preset", "encoder"} <= {one["kind"] for one in json.loads(capsys.readouterr().out)}


def test_run_prints_the_table_and_says_where_the_record_is(capsys: pytest.CaptureFixture[str], demo: Path) -> None:
    assert main(RUN) == 0
    printed = capsys.readouterr()
    assert "rollout.error.1" in printed.out
    (record,) = store.read_records(demo / "results")
    assert f"record: {record.path}" in printed.err
    assert main(RUN) == 0
    again = capsys.readouterr()
    assert again.out == printed.out
    assert f"this run is done: {record.path} (--force runs it anew)" in again.err
    assert main([*RUN, "--force"]) == 0
    assert [one.repeat for one in store.read_records(demo / "results")] == [1, 2]


def test_run_as_json_prints_the_record(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert json.loads(Path(printed.pop("path")).read_text()) == printed


def test_run_writes_where_it_is_told(tmp_path: Path) -> None:
    assert main([*RUN, "--results", str(tmp_path / "else where")]) == 0
    assert len(store.read_records(tmp_path / "else where")) == 1


def test_references_are_computed_on_request(
    capsys: pytest.CaptureFixture[str], demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from demo_plugin.task import Circles

    original = Circles.run
    monkeypatch.setattr(
        Circles, "run", lambda self, context: replace(original(self, context), notes={"references": ["hold_demo"]})
    )
    assert main(RUN) == 0
    assert "Absent references: hold_demo" in capsys.readouterr().out
    assert main([*RUN, "method.hidden=5", "--references"]) == 0
    assert "hold_demo" in capsys.readouterr().out
    assert {record.method for record in store.read_records(demo / "results")} == {"linear_demo", "hold_demo"}


def test_show(capsys: pytest.CaptureFixture[str], demo: Path) -> None:
    show = ["show", *RUN[1:]]
    assert main(show) == 0
    text = capsys.readouterr().out
    config, _, rest = text.partition("\n\n")
    assert yaml.safe_load(config)["method"]["hidden"] == 4
    assert "no record in" in rest
    assert "stage model: will be computed" in rest
    assert not demo.exists()  # to show is not to do
    assert main(RUN) == 0
    (record,) = store.read_records(demo / "results")
    capsys.readouterr()
    assert main([*show, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["id"] == record.id
    assert facts["records"] == [str(record.path)]
    assert facts["stages"]["model"]["cached"]
    assert Path(facts["stages"]["model"]["path"]).is_dir()


def test_show_without_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["show", *RUN[1:], f"task.root={tmp_path}"]) == 0
    assert "id pending: data absent" in capsys.readouterr().out


def test_table_leaderboard_and_compare(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    results = ["--results", str(tmp_path / "board" / "results")]
    assert main([*RUN, *results]) == 0
    assert main([*RUN, *results, "--seed", "1"]) == 0
    capsys.readouterr()
    assert main(["table", *results]) == 0
    assert "linear_demo" in capsys.readouterr().out
    assert main(["leaderboard", "--check", *results]) == 1
    assert main(["leaderboard", *results]) == 0
    assert (tmp_path / "board" / "leaderboard.md").read_text().startswith("# Leaderboard")
    assert main(["leaderboard", "--check", *results]) == 0
    capsys.readouterr()
    first, second = store.read_records(tmp_path / "board" / "results")
    code = main(["compare", first.id, second.id, *results])
    printed = capsys.readouterr()
    assert code in (0, 2)
    assert "rollout.error.1" in printed.out or printed.err.startswith("error: ")
    assert main(["figures", *results, "--out", str(tmp_path / "drawn")]) == 0
    out = capsys.readouterr().out
    assert "left out: latency (no record with timed plans)" in out
    assert all((tmp_path / "drawn" / Path(line).name).is_file() for line in out.splitlines() if line.endswith(".png"))
    assert main(["table", *results, "--task", "another"]) == 2
    assert "no record to show" in error_of(capsys)


def test_data_commands(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    task = ["--task", "circles", "--preset", "smoke"]
    folder = tmp_path / "data"
    assert main(["data", "make", *task, "--out", str(folder), "task.videos=6"]) == 0
    assert capsys.readouterr().out == f"6 videos in {folder}\n"
    assert main(["data", "make", *task, "--json"]) == 0
    assert Path(json.loads(capsys.readouterr().out)["folder"]).is_dir()
    assert main(["data", "check", *task, f"task.root={folder}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"found": True}
    assert main(["data", "check", *task, f"task.root={tmp_path}"]) == 1
    assert capsys.readouterr().out == "circles.npy is missing\n"
    assert main(["data", "describe", *task]) == 2
    assert "no description" in error_of(capsys)


def test_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--method", "hold_demo"]) == 0
    assert "pass  rollouts have the right shape" in capsys.readouterr().out
    assert main(["check", "--method", "broken_demo", "--json"]) == 1
    assert not all(one["passed"] for one in json.loads(capsys.readouterr().out))
    assert main(["check", "--encoder", "pixels_demo"]) == 1
    assert "FAIL  latents have the declared shape" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--method", "liner_demo", "--task", "circles"], "no method 'liner_demo'. Did you mean 'linear_demo'?"),
        (["run", "--method", "linear_demo", "--task", "circle"], "no task 'circle'. Did you mean 'circles'?"),
        ([*RUN, "encoder=pasthrough"], "no encoder 'pasthrough'. Did you mean 'passthrough'?"),
        ([*RUN, "--preset", "smok"], "no preset 'smok'. Did you mean 'smoke'?"),
        ([*RUN, "method.hiden=3"], "Did you mean 'hidden'?"),
        ([*RUN, "method.hidden=x"], "method.hidden must be a whole number, not 'x'"),
        ([*RUN, "method.hidden=0"], "method.hidden is 0. It must be at least 1."),
        ([*RUN, "task.protocol=other"], "task.protocol is 'other'. It is published or imagined."),
        ([*RUN, "encoder=pixels_demo"], "it reads pixels and this task has none"),
        ([*RUN, "task.root=/nowhere"], "the data is absent: task.root=/nowhere"),
        ([*RUN, "--sed", "1"], "No such option: --sed"),
        ([*RUN, "--seed", "one"], "--seed"),
        (["run", "--task", "circles"], "Missing option '--method'"),
        (["rum"], "No such command 'rum'. Did you mean"),
        (["list", "method"], "No such command 'method'. Did you mean 'methods'?"),
        (["check", "--method", "nothing_like_it"], "no method 'nothing_like_it'"),
        (["check"], "one of --method and --encoder is needed"),
        (["check", "--method", "hold_demo", "--encoder", "passthrough"], "one of --method and --encoder is needed"),
        (["check", "--encoder", "passthrough"], "reads states"),
        (["check", "--encoder", "passthrough", "--task", "circles"], "gives encoders no states"),
        (["compare", "a", "b"], "no record 'a'"),
    ],
)
def test_errors_that_the_user_can_mend(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(arguments) == 2
    assert message in error_of(capsys)


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, "method.hiden=3", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_unexpected_error_names_its_log(capsys: pytest.CaptureFixture[str], demo: Path) -> None:
    assert main([*RUN, "task.fail=bug"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: unexpected ZeroDivisionError: a bug in the task; the traceback is in ")
    (log,) = (demo / "logs").glob("*.log")
    assert str(log) in lines[-1]
    assert "Traceback" in log.read_text()
    assert not (demo / "results").exists()


def test_a_full_disk_outside_of_a_stage(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from demo_plugin.task import Circles

    def full(self: Circles, context: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/some/file")

    monkeypatch.setattr(Circles, "run", full)
    assert main(RUN) == 2
    assert "No space left on device: /some/file" in capsys.readouterr().err.splitlines()[-1]


def test_a_stopped_run_says_so_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, "task.fail=stop"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "stopped; the same command continues"
    assert main([*RUN, "task.fail=stop"]) == 0
    assert "training goes on from step 3" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_process_cleanly(demo_environment: dict[str, str], demo: Path, number: int) -> None:
    arguments = [*RUN, "trainer.max_steps=10000000"]
    with subprocess.Popen(
        [sys.executable, "-m", "ocwm.cli", *arguments], env=demo_environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            deadline = time.monotonic() + 300
            while not list((demo / "cache").glob("model/.*-*")):  # the training has started
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(number)
            _, errors = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "stopped; the same command continues"
    assert list((demo / "cache").glob("model/.*-*")) == []  # nothing half-written is left
    assert not (demo / "results").exists()


def test_piped_output_is_never_cut(demo_environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ocwm.cli", "list", "methods"],
        env={**demo_environment, "COLUMNS": "40"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "reference: repeats the last latents [demo_plugin]" in done.stdout
