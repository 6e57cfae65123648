"""What the site allows and what has become of jobs, with commands that answer as SLURM does."""

from __future__ import annotations

import pytest

from ocwm.cli import main
from ocwm.errors import BenchError
from ocwm.sweeps import slurm
from ocwm.sweeps.jobs import SweepFolder
from ocwm.sweeps.resources import Resources

SINFO = """case "$*" in
*%P*) echo "cpu*"; echo gpu;;
*) echo "cpu|1-00:00:00|64|250000|(null)|10"; echo "gpu|infinite|32|500000|gpu:a100:4(S:0-1)|2";;
esac"""


def test_without_slurm_it_says_so(suite, linear, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["sweep", "--suite", suite(linear), "--cluster", "slurm"]) == 2
    assert "there is no sbatch on the path. Start the sweep on a login node" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"partition": "gpus"}, "no partition 'gpus'. Did you mean 'gpu'"),
        ({"minutes": 1441}, "never fit into partition cpu: its limit is 1440 minutes"),
        ({"partition": "gpu", "gpus": 5}, "jobs of 5 GPUs never fit into partition gpu: it has 4"),
        ({"gpus": 1}, "jobs of 1 GPUs never fit into partition cpu: it has 0"),
        ({"memory_gb": 300.0}, "GB of memory never fit into partition cpu"),
        ({"cpus": 65}, "jobs of 65 CPUs never fit"),
        ({"nodes": 11}, "jobs of 11 nodes never fit"),
    ],
)
def test_what_never_fits_is_refused(fake_slurm, asked, message):
    fake_slurm(sinfo=SINFO)
    slurm.check_fits([Resources(), Resources(partition="gpu", gpus=4, minutes=9999)])
    with pytest.raises(BenchError, match=message):
        slurm.check_fits([Resources(**asked)])


def test_states_come_from_the_queue_then_from_accounting(fake_slurm):
    fake_slurm(
        squeue='echo "6|CANCELLED"; echo "7_0|RUNNING"; echo "7_1|PENDING"; echo "7_2|COMPLETING"; echo "9|FAILED"',
        sacct='echo "7_3|TIMEOUT"; echo "7_4|CANCELLED by 0"; echo "7_5|OUT_OF_MEMORY"; echo "7_6|COMPLETED"; '
        'echo "8_[0-1,4%2]|CANCELLED by 0"',
    )
    assert slurm.states(["8_0", "8_1", "8_3", "8_4"]) == {
        **dict.fromkeys(["8_0", "8_1", "8_4"], "cancelled"),
        "8_3": "lost",
    }
    assert slurm.states(["6_0", "6_7"]) == {"6_0": "cancelled", "6_7": "cancelled"}
    found = slurm.states([f"7_{n}" for n in range(8)] + ["9"])
    assert list(found.values()) == [
        *("running", "pending", "running", "timed out", "cancelled", "failed", "ended", "lost", "failed")
    ]


def test_accounting_may_be_off(fake_slurm):
    fake_slurm(squeue='echo "7|RUNNING"', sacct='echo "Slurm accounting storage is disabled" >&2; exit 1')
    assert slurm.states(["7", "8"]) == {"7": "running", "8": "lost"}


def test_jobs_that_will_not_start_by_themselves_say_why(fake_slurm):
    fake_slurm(squeue='echo "7|launch failed requeued held"; echo "8_[0-1]|JobHeldUser"; echo "9|Priority"')
    assert slurm.held(["7", "8_1", "9"]) == {"7": "launch failed requeued held", "8_1": "JobHeldUser"}


def test_the_longest_array_is_the_sites(fake_slurm):
    fake_slurm(scontrol='echo "MaxArraySize            = 51"')
    assert slurm.array_limit(Resources()) == 50
    assert slurm.array_limit(Resources(array_limit=7)) == 7


def test_where_sbatch_refuses_nothing_stays_submitted(fake_slurm, suite, linear, demo, capsys, tmp_path):
    cancelled = tmp_path / "cancelled"
    count = tmp_path / "count"
    fake_slurm(
        sinfo=SINFO,
        squeue="true",
        sacct="true",
        scontrol='echo "MaxArraySize = 1001"',
        scancel=f'echo "$@" > {cancelled}',
        # The first array is taken, the second hits a quota.
        sbatch=f'if [ -e {count} ]; then echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1; fi; '
        f'touch {count}; echo "Submitted batch job 41"',
    )
    path = suite({**linear, "seeds": [0, 1]})
    assert main(["sweep", "--suite", path, "--cluster", "slurm"]) == 2
    assert "sbatch refused an array of 2 jobs: QOSMaxSubmitJobPerUserLimit" in capsys.readouterr().err
    assert cancelled.read_text().split() == ["41_0"] or cancelled.read_text().split() == ["41"]
    assert SweepFolder(demo, "demo").jobs() == {}


def test_arrays_share_their_resources_wait_for_what_they_share_and_are_split(fake_slurm, suite, linear, demo, tmp_path):
    log = tmp_path / "sbatch.log"
    log.write_text("")
    fake_slurm(
        sinfo=SINFO,
        squeue="true",
        sacct="true",
        scontrol='echo "MaxArraySize = 3"',
        sbatch=f'n=$(wc -l < {log}); echo "$@" >> {log}; cp "$(echo "$@" | tr " " "\\n" | tail -1)" {tmp_path}/$n.sh; '
        'echo "Submitted batch job $((50 + n))"',
    )
    path = suite(
        {**linear, "seeds": [0, 1, 2]}, resources=[{"partition": "cpu", "memory_gb": 2, "sbatch": {"comment": "hi"}}]
    )
    arguments = ["sweep", "--suite", path, "--cluster", "slurm", "cluster.parallel=1", "cluster.minutes=30"]
    assert main(arguments) == 0
    shared, first, second = [(tmp_path / f"{n}.sh").read_text() for n in range(3)]
    assert "--dependency" not in shared
    assert "#SBATCH --array=0-1%1" in first
    assert "--array" not in second
    for text in (first, second):
        assert "#SBATCH --dependency=afterok:50" in text
        assert "#SBATCH --kill-on-invalid-dep=yes" in text
        for line in ("--partition=cpu", "--mem=2048MB", "--comment=hi", "--time=30", "--requeue"):
            assert f"#SBATCH {line}" in text
    jobs = SweepFolder(demo, "demo").jobs()
    assert sorted(job.job for job in jobs.values() if job.command) == ["51_0", "51_1", "52"]
