"""SLURM: what the site allows, what has become of jobs, and the submission of arrays through submitit."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path

import submitit

from ocwm.errors import BenchError, suggest
from ocwm.sweeps.resources import Resources
from ocwm.sweeps.work import Work

_ARRAY_LIMIT = 1000  # SLURM's default MaxArraySize is 1001
_MEANING = {
    "pending": ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SUSPENDED", "CONFIGURING", "RESIZING"),
    "running": ("RUNNING", "COMPLETING", "STAGE_OUT", "STOPPED", "SIGNALING"),
    "timed out": ("TIMEOUT", "DEADLINE"),
    "cancelled": ("CANCELLED", "REVOKED"),
    "ended": ("COMPLETED",),
    "failed": ("FAILED", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "PREEMPTED"),
}


def require_slurm() -> None:
    """Check that there is a SLURM here.

    Raises:
        BenchError: there is no `sbatch` on the path.
    """
    if shutil.which("sbatch") is None:
        raise BenchError("there is no sbatch on the path", "Start the sweep on a login node, or use --cluster local.")


def check_fits(resources: Sequence[Resources]) -> None:
    """Check what jobs ask for against the site's partitions.

    Raises:
        BenchError: an unknown partition, or more than any node of it has: such a job would wait for ever.
    """
    text = _run(["sinfo", "--noheader", "--exact", "--format=%R|%l|%c|%m|%G|%D"], "ask SLURM for its partitions")
    partitions: dict[str, list[list[str]]] = {}
    for line in text.splitlines():
        name, *facts = line.strip().split("|")
        partitions.setdefault(name, []).append(facts)
    default = re.findall(r"(\S+)\*", _run(["sinfo", "--noheader", "--format=%P"], "ask SLURM for its partitions"))
    for wanted in resources:
        name = wanted.partition or (default[0] if default else "")
        if not name:
            raise BenchError("SLURM has no default partition", f"Add cluster.partition=NAME: {', '.join(partitions)}.")
        for one in name.split(","):
            if one not in partitions:
                raise BenchError(f"SLURM has no partition '{one}'", suggest(one, partitions))
        nodes = [facts for one in name.split(",") for facts in partitions[one]]
        _fits(wanted, name, nodes)


def _fits(wanted: Resources, partition: str, nodes: Sequence[Sequence[str]]) -> None:
    minutes = max(_minutes(limit) for limit, *_ in nodes)
    if wanted.minutes > minutes:
        raise BenchError(
            f"jobs of {wanted.minutes} minutes never fit into partition {partition}: its limit is {minutes:g} minutes",
            f"Set cluster.minutes={minutes:g}: a run that reaches its limit is started again and goes on.",
        )
    for what, most, asked in (
        ("CPUs", max(_number(cpus) for _, cpus, *_ in nodes), wanted.cpus * wanted.processes),
        ("GB of memory", max(_number(memory) for _, _, memory, *_ in nodes) / 1024, wanted.memory_gb),
        ("GPUs", max(_gpus(gres) for *_, gres, _ in nodes), wanted.gpus),
        ("nodes", sum(_number(count) for *_, count in nodes), wanted.nodes),
    ):
        if asked > most:
            raise BenchError(
                f"jobs of {asked:g} {what} never fit into partition {partition}: it has {most:g}",
                "Ask for less, or choose another cluster.partition.",
            )


def states(ids: Collection[str]) -> dict[str, str]:
    """What has become of jobs: "pending", "running", "timed out", "cancelled", "ended", "failed" or, where neither queue
    nor accounting knows them any more, "lost".
    """
    if not ids:
        return {}
    found: dict[str, str] = {}
    queued = _try(["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T"])
    if (rest := set(ids) - _take(queued, found, ids)) and shutil.which("sacct"):
        arrays = sorted({job.partition("_")[0] for job in rest})
        known = _try(
            [
                "sacct",
                "--noheader",
                "--allocations",
                "--parsable2",
                "--format=JobID,State",
                f"--jobs={','.join(arrays)}",
            ]
        )
        _take(known, found, ids)
    return {job: found.get(job, "lost") for job in ids}


def held(ids: Collection[str]) -> dict[str, str]:
    """Which waiting jobs will not start by themselves, and why, in SLURM's words."""
    found: dict[str, str] = {}
    text = _try(["squeue", "--noheader", "--array", "--states=pending", "--format=%i|%r"]) if ids else ""
    for line in text.splitlines():
        name, _, reason = line.strip().partition("|")
        if "held" in reason.lower():
            found |= dict.fromkeys(set(_expanded(name)) & set(ids), reason)
    return found


def _take(text: str, found: dict[str, str], ids: Collection[str]) -> set[str]:
    wanted = set(ids)
    whole = {}  # arrays of which no task began can have a line of their own, under the array's id
    for line in text.splitlines():
        name, _, state = line.strip().partition("|")
        word = state.split(" ")[0].rstrip("+")
        meaning = next((meaning for meaning, words in _MEANING.items() if word in words), "failed")
        whole[name] = meaning
        for job in _expanded(name):
            if job in wanted and job not in found:
                found[job] = meaning
    for job in wanted - found.keys():
        if (array := job.partition("_")[0]) in whole:
            found[job] = whole[array]
    return set(found)


def _expanded(name: str) -> list[str]:
    """Ids of the jobs that a name such as 7_[0-2,5%3] stands for: tasks of an array that never began share a line."""
    named = re.fullmatch(r"(\d+)_\[([\d,-]+)(?:%\d+)?\]", name)
    if named is None:
        return [name]
    ends = [part.partition("-") for part in named[2].split(",")]
    return [f"{named[1]}_{n}" for low, _, high in ends for n in range(int(low), int(high or low) + 1)]


def cancel(ids: Collection[str]) -> None:
    """Cancel jobs.

    Raises:
        BenchError: SLURM refuses.
    """
    ordered = sorted(ids)
    for low in range(0, len(ordered), 500):  # the kernel limits the length of a command
        _run(["scancel", *ordered[low : low + 500]], "cancel jobs")


def array_limit(resources: Resources) -> int:
    """The longest array that may be submitted."""
    if resources.array_limit:
        return resources.array_limit
    text = _try(["scontrol", "show", "config"])
    if named := re.search(r"^MaxArraySize\s*=\s*(\d+)", text, re.MULTILINE):
        return max(1, int(named[1]) - 1)
    return _ARRAY_LIMIT


def submit(
    works: Sequence[Work], resources: Resources, *, logs: Path, name: str, after: Sequence[str] = ()
) -> list[str]:
    """Submit one array, and return the id of each of its jobs.

    Args:
        works: what is to be done.
        resources: what each job asks for.
        logs: folder for logs; the array gets one of its own in it.
        name: of the jobs.
        after: ids of jobs that must end well first; where one fails, the array is cancelled.

    Raises:
        BenchError: SLURM refuses; what it said is told.
    """
    executor = submitit.SlurmExecutor(folder=logs / "%A", max_num_timeout=resources.timeouts)
    more: dict[str, object] = {"requeue": True, **{key: value or True for key, value in resources.sbatch}}
    if after:
        more |= {"dependency": "afterok:" + ":".join(after), "kill-on-invalid-dep": "yes"}
    # What is "" or 0 is left to the site.
    own = {key: value for key in ("partition", "account", "qos", "constraint") if (value := getattr(resources, key))}
    if resources.memory_gb:
        own["mem"] = f"{round(resources.memory_gb * 1024)}MB"
    if resources.gpus:
        own["gpus_per_node"] = resources.gpus
    executor.update_parameters(
        job_name=name,
        time=resources.minutes,
        nodes=resources.nodes,
        ntasks_per_node=resources.processes,
        cpus_per_task=resources.cpus,
        signal_delay_s=resources.signal_seconds,
        setup=["export PYTHONSAFEPATH=1", *resources.setup],
        array_parallelism=resources.parallel or len(works),
        additional_parameters=more,
        **own,
    )
    try:
        with executor.batch():
            jobs = [executor.submit(work) for work in works]
        return [job.job_id for job in jobs]
    except (submitit.core.utils.FailedJobError, subprocess.CalledProcessError, OSError) as error:
        raise BenchError(
            f"sbatch refused an array of {len(works)} jobs: {_said(str(error))}", "Nothing stays submitted."
        ) from error


def _said(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line.partition("error:")[2].strip() for line in lines if "sbatch: error:" in line]
    return "; ".join(told) or (lines[-1] if lines else "no reason given")


def _run(command: list[str], what: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"can't {what}: {error}", "Is SLURM up (sinfo)?") from error
    if done.returncode:
        raise BenchError(f"can't {what}: {_last(done.stderr)}", "Is SLURM up (sinfo)?")
    return done.stdout


def _try(command: list[str]) -> str:
    """Output of a command, "" where it fails: accounting may be switched off."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _minutes(limit: str) -> float:
    """Minutes of SLURM's [days-]hours:minutes:seconds."""
    if limit.strip() in ("infinite", "UNLIMITED", "n/a"):
        return float("inf")
    days, _, clock = limit.strip().rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    while len(parts) < 3:
        parts.insert(0, 0)
    hours, minutes, seconds = parts
    return int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60


def _number(text: str) -> float:
    return float(re.sub(r"[^0-9.]", "", text) or 0)


def _gpus(gres: str) -> float:
    return float(sum(int(count) for count in re.findall(r"gpu(?::[^:,(]+)?:(\d+)", gres)))
