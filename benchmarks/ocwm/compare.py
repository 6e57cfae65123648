"""Two runs on the items that both answered: paired differences, for these checkpoints only.

Per-item outcomes lie beside a record as npz. For a metric K: `K` (n,) the outcomes (bool, or figures in the metric's
unit), `K@item` (n,) what identifies an item, `K@cluster` (n,) the video or episode that it belongs to, and where the
metric is a weighted mean `K@weight` (n,).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm.errors import BenchError
from ocwm.figures import decimals_of, figure
from ocwm.markup import Block, Lines, grid, render
from ocwm.stats import clusters_to_separate, mcnemar, paired_cluster_bootstrap, weighted_mean
from ocwm.store import Record, read_items, read_record

Array = NDArray[Any]


@dataclass(frozen=True)
class Difference:
    """A paired difference a - b on common items, in the metric's unit.

    Attributes:
        a, b: means over the common items.
        low, high: 95 % bootstrap interval of the difference, drawn by cluster; None with fewer than two clusters.
        items, clusters: how many are common.
        clusters_needed: how many clusters would separate the two; None where separated, or nothing differs.
        only_a, only_b: items that only one run got right; None where outcomes are figures or weighted.
        p_value: McNemar's exact p of these; it takes items as independent, the interval does not.
    """

    metric: str
    unit: str
    higher_is_better: bool
    a: float
    b: float
    difference: float
    low: float | None
    high: float | None
    items: int
    clusters: int
    clusters_needed: int | None
    only_a: int | None = None
    only_b: int | None = None
    p_value: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def find_run(records: Sequence[Record], name: str) -> Record:
    """Return the record that an id, the start of one ("3fa2"), an id with repeat ("3fa2….r2") or a path names.

    Raises:
        BenchError: there is none, or several.
    """
    if name.endswith(".json") or "/" in name:
        return read_record(Path(name))
    wanted, _, repeat = name.partition(".r")
    found = [r for r in records if r.id.startswith(wanted) and str(r.repeat) == (repeat or "1")]
    if len(found) == 1:
        return found[0]
    if not found:
        raise BenchError(
            f"no record '{name}'", "Ids stand in the last column of bench table --format csv; a path works too."
        )
    raise BenchError(f"'{name}' names {len(found)} records: {', '.join(r.id for r in found)}", "Give more of the id.")


def compare_runs(a: Record, b: Record, *, draws: int = 2000) -> list[Difference]:
    """Return the paired difference in every metric that has per-item outcomes in both runs.

    Raises:
        BenchError: the runs were measured on different tasks, data or splits, or there are no outcomes to compare.
    """
    for what in ("task", "data", "split"):
        first, second = getattr(a, what), getattr(b, what)
        if first != second:
            raise BenchError(
                f"{a.id} and {b.id} were not measured on the same {what}: {_short(first)} and {_short(second)}",
                "Paired differences need common items.",
            )
    items_a, items_b = read_items(a), read_items(b)
    keys = [key for key in a.metrics if key in b.metrics and key in items_a and key in items_b]
    found = [_difference(key, a, items_a, items_b, draws=draws) for key in keys]
    if not any(found):
        raise BenchError(f"{a.id} and {b.id} have no metric with per-item outcomes in common")
    return [difference for difference in found if difference is not None]


def comparison(a: Record, b: Record, differences: Sequence[Difference], *, form: str = "plain") -> str:
    """Return the differences as a table, with what they may be read as."""
    names = [f"A = {r.method}, encoder {r.encoder}, model seed {r.seeds['model']} ({r.id}.r{r.repeat})" for r in (a, b)]
    names[1] = "B" + names[1][1:]
    body = []
    for d in differences:
        decimals = decimals_of((d.a, d.b), d.unit)
        low, high = ("–" if end is None else figure(end, decimals=decimals) for end in (d.low, d.high))
        apart = d.low is not None and d.high is not None and not d.low <= 0 <= d.high
        more = None if d.clusters_needed is None else max(1, d.clusters_needed - d.clusters)
        needed = "separated" if apart else "–" if more is None else f"{more:,} more"
        body.append(
            [
                d.metric,
                ("↑" if d.higher_is_better else "↓") + (f" {d.unit}" if d.unit else ""),
                *(figure(value, decimals=decimals) for value in (d.a, d.b, d.difference)),
                f"[{low}, {high}]",
                f"{d.items:,}",
                f"{d.clusters:,}",
                "–" if d.p_value is None else f"{d.only_a:,} / {d.only_b:,}",
                "–" if d.p_value is None else f"{d.p_value:.2g}",
                needed,
            ]
        )
    header = ["metric", "unit", "A", "B", "A − B", "95 % interval", "common items", "videos or episodes"]
    header += ["only A / only B right", "McNemar p", "to separate"]
    notes = [
        "These checkpoints only: another training seed may turn any of these differences round.",
        "Intervals: paired bootstrap over the videos or episodes of the common items, not corrected for the number of "
        "metrics. To separate: how many more videos or episodes would do (80 % power).",
        "McNemar: exact, items taken as independent; where several share a video it is too small, so read the interval.",
    ]
    if a.section != b.section:
        apart_in = [key for key in a.section if a.section[key] != b.section.get(key)]
        notes.append(f"The runs belong to different sections ({', '.join(apart_in)}): they answer different problems.")
    blocks: list[Block] = [Lines(tuple(names), points=False), grid(header, body, words=2), Lines(tuple(notes))]
    return render(blocks, form)


def _difference(
    key: str, record: Record, a: Mapping[str, Array], b: Mapping[str, Array], *, draws: int
) -> Difference | None:
    metric = record.metrics[key]
    (ids_a, clusters, values_a, weights_a), (ids_b, _, values_b, weights_b) = (
        _outcomes(key, items, metric["unit"]) for items in (a, b)
    )
    common, first, second = np.intersect1d(ids_a, ids_b, assume_unique=True, return_indices=True)
    if not common.size:
        return None
    x, y, wx, wy = values_a[first], values_b[second], weights_a[first], weights_b[second]
    groups = clusters[first]
    means = weighted_mean(x, wx), weighted_mean(y, wy)
    # A fixed stream for each metric: the same two runs always give the same interval.
    rng = np.random.default_rng(0)
    low, high = paired_cluster_bootstrap(x, y, groups, rng=rng, draws=draws, weights=wx, weights_b=wy)
    difference, count = means[0] - means[1], len(np.unique(groups))
    needed = None
    if low is not None and high is not None and low <= 0 <= high:
        needed = clusters_to_separate(difference, (low, high), count)
    tested = None
    if a[key].dtype == b[key].dtype == np.bool_ and (wx == 1).all() and (wy == 1).all():
        tested = mcnemar(x > 0, y > 0)
    return Difference(
        metric=key,
        unit=metric["unit"],
        higher_is_better=metric["higher_is_better"],
        a=means[0],
        b=means[1],
        difference=difference,
        low=low,
        high=high,
        items=int(common.size),
        clusters=count,
        clusters_needed=needed,
        only_a=tested and tested.only_a,
        only_b=tested and tested.only_b,
        p_value=tested and tested.p_value,
    )


def _outcomes(key: str, items: Mapping[str, Array], unit: str) -> tuple[Array, Array, Array, Array]:
    """Return item ids, clusters, values (in the metric's unit) and weights of a metric, each (n,).

    Raises:
        BenchError: ids or clusters are missing, lengths differ, or an item stands there twice.
    """
    values = items[key]
    parts = {name: items.get(f"{key}@{name}") for name in ("item", "cluster")}
    weights = items.get(f"{key}@weight", np.ones(values.shape))
    for name, part in (*parts.items(), ("weight", weights)):
        if part is None or part.shape != values.shape or values.ndim != 1:
            raise BenchError(f"the per-item outcomes of '{key}' lack '{key}@{name}' of the same length")
    ids, clusters = parts["item"], parts["cluster"]
    assert ids is not None
    assert clusters is not None
    if len(np.unique(ids)) != len(ids):
        raise BenchError(f"the per-item outcomes of '{key}' hold an item twice")
    scale = 100.0 if values.dtype == np.bool_ and unit.startswith("%") else 1.0
    return ids, clusters, values.astype(np.float64) * scale, weights


def _short(value: Any) -> str:
    return "/".join(map(str, value.values())) if isinstance(value, Mapping) else str(value)
