from __future__ import annotations

import re
from pathlib import Path

import pytest

from ocwm.errors import BenchError
from ocwm.sweeps.resources import Resources, read_cluster
from ocwm.sweeps.suite import read_suite


def test_the_command_counts_more_than_the_suite_and_the_suite_more_than_the_site(suite, linear):
    Path("site.yaml").write_text(
        "kind: slurm\npartition: a\nminutes: 10\nsbatch: {comment: hello}\n"
        "resources:\n  - {when: {task: circles}, cpus: 3, minutes: 20}\n  - {when: {task: other}, cpus: 9}\n"
    )
    blocks = [{"when": {"method": ["linear_demo"]}, "minutes": 30, "memory_gb": 4}]
    content = read_suite(suite(linear, resources=blocks))
    cluster = read_cluster("site.yaml", suite=content.resources, overrides=["cluster.memory_gb=5", "cluster.qos=high"])
    assert cluster.kind == "slurm"
    assert cluster.resources(content.variants[0]) == Resources(
        partition="a", minutes=30, cpus=3, memory_gb=5.0, qos="high", sbatch=(("comment", "hello"),)
    )


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("slurn", [], "the cluster 'slurn' is not known. Did you mean 'slurm'?"),
        ("nowhere.yaml", [], "there is no cluster file nowhere.yaml"),
        ("local", ["cluster.cpu=3"], "unknown key 'cpu'. Did you mean 'cpus'?"),
        ("local", ["cluster.cpus=many"], "cluster.cpus must be a whole number, not 'many'"),
        ("local", ["cluster.minutes=0"], "cluster.minutes=0 is too small"),
        ("local", ["cluster=3"], "is no setting of a cluster"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(name, overrides, message):
    with pytest.raises(BenchError, match=re.escape(message)):
        read_cluster(name, overrides=overrides)
