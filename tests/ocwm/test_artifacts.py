from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ocwm.artifacts import Cache
from ocwm.errors import BenchError

KEY = {"seed": 0, "config": {"size": 3}}


def build(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "a.txt").write_text("first")
    (folder / "b.bin").write_bytes(b"12345")


def never(folder: Path) -> None:
    raise AssertionError("this is cached")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "home")


def leftovers(cache: Cache) -> list[str]:
    return [path.name for path in cache.home.rglob(".*") if not path.name.endswith(".lock")]


def test_a_stage_is_built_once(cache: Cache) -> None:
    path = cache.stage("data", KEY, build)
    assert (path / "inner" / "a.txt").read_text() == "first"
    assert cache.stage("data", {"config": {"size": 3}, "seed": 0}, never) == path
    assert cache.has("data", KEY)
    assert not cache.has("data", {**KEY, "seed": 1})
    assert not cache.has("slots", KEY)
    assert leftovers(cache) == []


def test_the_entry_says_what_it_is(cache: Cache) -> None:
    path = cache.stage("data", KEY, build, notes={"seconds": 2.5})
    manifest = json.loads((path / "stage.json").read_text())
    assert manifest["key"] == KEY
    assert manifest["files"]["b.bin"] == {
        "size": 5,
        "sha256": "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5",
    }
    assert cache.notes(path) == {"seconds": 2.5}


def test_rebuild_replaces_it(cache: Cache) -> None:
    path = cache.stage("data", KEY, build)
    again = cache.stage("data", KEY, lambda folder: (folder / "b.bin").write_bytes(b"new") and None, rebuild=True)
    assert again == path
    assert sorted(file.name for file in path.iterdir()) == ["b.bin", "stage.json"]
    assert leftovers(cache) == []


def test_a_failed_build_leaves_nothing(cache: Cache) -> None:
    def fail(folder: Path) -> None:
        build(folder)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache.stage("data", KEY, fail)
    assert not cache.has("data", KEY)
    assert leftovers(cache) == []
    assert cache.stage("data", KEY, build).is_dir()


def test_a_failed_rebuild_keeps_the_old_one(cache: Cache) -> None:
    path = cache.stage("data", KEY, build)
    with pytest.raises(AssertionError):
        cache.stage("data", KEY, never, rebuild=True)
    assert (path / "b.bin").read_bytes() == b"12345"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_and_leaves_nothing(cache: Cache, number: int) -> None:
    def fill(folder: Path) -> None:
        build(folder)
        raise OSError(number, os.strerror(number))

    with pytest.raises(BenchError, match=r"disk of .* is full: stage 'data'") as caught:
        cache.stage("data", KEY, fill)
    assert "OCWM_HOME" in caught.value.hint
    assert leftovers(cache) == []
    assert not cache.has("data", KEY)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_really_full(cache: Cache) -> None:
    def fill(folder: Path) -> None:
        with Path("/dev/full").open("w") as file:
            file.write("x" * 100_000)

    with pytest.raises(BenchError, match="is full"):
        cache.stage("data", KEY, fill)


def test_other_system_errors_are_not_called_a_full_disk(cache: Cache) -> None:
    def fail(folder: Path) -> None:
        (folder / "missing").read_text()

    with pytest.raises(FileNotFoundError):
        cache.stage("data", KEY, fail)


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (lambda path: (path / "b.bin").unlink(), "b.bin is missing"),
        (lambda path: (path / "inner" / "a.txt").write_text("fir"), "a.txt has 3 bytes instead of 5"),
        (lambda path: (path / "stage.json").unlink(), "stage.json can't be read"),
        (lambda path: (path / "stage.json").write_text("{"), "stage.json can't be read"),
        (lambda path: (path / "stage.json").write_text("{}"), "stage.json is incomplete"),
    ],
)
def test_a_damaged_entry_is_named_and_rebuilt_on_request(cache: Cache, harm: object, what: str) -> None:
    path = cache.stage("data", KEY, build)
    harm(path)  # type: ignore[operator]
    with pytest.raises(BenchError, match=what) as caught:
        cache.stage("data", KEY, never)
    assert str(path) in caught.value.message
    assert "--rebuild" in caught.value.hint
    cache.stage("data", KEY, build, rebuild=True)
    assert cache.stage("data", KEY, never, verify=True) == path


def test_changed_content_of_the_same_size_is_seen_on_verification(cache: Cache) -> None:
    path = cache.stage("data", KEY, build)
    (path / "b.bin").write_bytes(b"54321")
    assert cache.stage("data", KEY, never) == path
    with pytest.raises(BenchError, match=r"b.bin has another content"):
        cache.stage("data", KEY, never, verify=True)


def test_work_survives_until_the_stage_is_complete(cache: Cache) -> None:
    (cache.work("model", KEY) / "checkpoint").write_text("step 100")
    assert (cache.work("model", KEY) / "checkpoint").read_text() == "step 100"
    with pytest.raises(KeyboardInterrupt):
        cache.stage("model", KEY, lambda folder: (_ for _ in ()).throw(KeyboardInterrupt))
    assert (cache.work("model", KEY) / "checkpoint").exists()
    folder = cache.work("model", KEY)
    cache.stage("model", KEY, build)
    assert not folder.exists()


def test_two_builders_of_one_key_build_it_once(cache: Cache) -> None:
    built = []

    def slow(folder: Path) -> None:
        built.append(folder)
        time.sleep(0.3)
        build(folder)

    threads = [threading.Thread(target=cache.stage, args=("data", KEY, slow)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_a_killed_builder_leaves_no_lock_and_no_half_entry(cache: Cache) -> None:
    program = f"""
import os, signal
from pathlib import Path
from ocwm.artifacts import Cache
def die(folder):
    (folder / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
Cache(Path({str(cache.home)!r})).stage("data", {KEY!r}, die)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert not cache.has("data", KEY)
    assert leftovers(cache) != []
    path = cache.stage("data", KEY, build)
    assert not (path / "half").exists()
    assert leftovers(cache) == []


def test_many_files_are_flushed_too(cache: Cache) -> None:
    def many(folder: Path) -> None:
        for index in range(70):
            (folder / f"{index}.txt").write_text(str(index))

    path = cache.stage("data", KEY, many)
    assert len(json.loads((path / "stage.json").read_text())["files"]) == 70
