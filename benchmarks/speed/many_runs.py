"""Plans ten thousand runs, tabulates ten thousand records, and lets two hundred processes write records at once.

    python benchmarks/speed/many_runs.py [--runs 10000] [--writers 200]

Targets: planning under 10 s and 500 MB, tables under 10 s, no record lost. What limits planning is the hash of each run's
identity and the check of its overrides; what limits tables is reading JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import yaml

from ocwm.artifacts import digest
from ocwm.store import Record, read_record, read_records, write_record
from ocwm.sweeps.plan import plan
from ocwm.sweeps.suite import read_suite
from ocwm.tables import render_tables

METHODS = ("cjepa", "ocjepa", "slotformer", "ocvp_seq")
SEEDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--writers", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure_planning(folder, arguments.runs)
        example = an_example()
        measure_tables(folder / "many", example, arguments.runs)
        measure_racing(folder / "racing", example, arguments.writers)


def measure_planning(folder: Path, runs: int) -> None:
    levels = max(1, runs // (len(METHODS) * SEEDS))
    ablations = {f"lr {i}": [f"trainer.lr={1e-4 + 1e-7 * i:.7f}"] for i in range(levels)}
    block = {"methods": list(METHODS), "tasks": ["clevrer"], "seeds": list(range(SEEDS)), "ablations": ablations}
    file = folder / "many.yaml"
    file.write_text(yaml.safe_dump({"description": "many", "preset": "mini", "blocks": [block]}))
    start = time.process_time()
    found = plan(read_suite(str(file)), home=folder, results=folder / "none")
    seconds = time.process_time() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"planned {len(found.of('todo')):,} runs of {levels:,} configurations in {seconds:.1f} s, peak {memory:.0f} MiB"
    )


def an_example() -> Record:
    """A record of the checkout's results."""
    folder = Path(__file__).parents[2] / "results" / "runs" / "clevrer" / "cjepa"
    return read_record(sorted(folder.glob("*.json"))[0])


def changed(record: Record, number: int) -> Record:
    """Another run's record: a learning rate and a seed of its own."""
    config = json.loads(json.dumps(record.config))
    seeds = {**record.seeds, "model": number % SEEDS}
    lr = 1e-4 + 1e-6 * (number // SEEDS)
    config["trainer"]["lr"] = lr
    return replace(
        record,
        id=digest(number, length=12),
        seeds=seeds,
        config={**config, "seeds": seeds},
        identity={
            **record.identity,
            "config": {**record.identity["config"], "seeds": seeds, "trainer": config["trainer"]},
        },
        overrides=[f"trainer.lr={lr}"],
        path=None,
    )


def measure_tables(folder: Path, example: Record, runs: int) -> None:
    for number in range(runs):
        record = changed(example, number)
        path = folder / "runs" / record.task / record.method / f"{record.id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record.to_json()))
    start = time.process_time()
    records = read_records(folder)
    read = time.process_time() - start
    text = render_tables(records, task=None, presets=(), form="plain")
    seconds = time.process_time() - start
    print(f"{len(records):,} records read in {read:.1f} s, as tables of {len(text):,} characters in {seconds:.1f} s")


def write_one(folder: Path, example: Record, number: int) -> None:
    write_record(folder, changed(example, number))


def measure_racing(folder: Path, example: Record, writers: int) -> None:
    processes = [multiprocessing.Process(target=write_one, args=(folder, example, n)) for n in range(writers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    there = {record.id for record in read_records(folder)}
    lost = [n for n in range(writers) if changed(example, n).id not in there]
    print(f"{writers} processes wrote at once: {len(there)} records, {len(lost)} lost")
    assert not lost


if __name__ == "__main__":
    main()
