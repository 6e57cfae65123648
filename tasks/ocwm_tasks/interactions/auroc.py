"""Area under the ROC curve, with an interval that resamples whole videos."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


class Ranking:
    """Scores of P items in order, ready to be weighed again and again.

    Args:
        truth: (P,) bool.
        score: (P,) higher means more likely true; equal scores count half.
    """

    def __init__(self, truth: NDArray[np.bool_], score: NDArray[np.floating]) -> None:
        self._truth = truth
        _, self._place = np.unique(score, return_inverse=True)

    def auroc(self, weights: Float64 | None = None) -> float:
        """Probability that a true item scores higher than another one; nan where there are not both kinds."""
        weights = np.ones(len(self._truth)) if weights is None else weights
        places = int(self._place.max(initial=-1)) + 1
        positive, negative = (
            np.bincount(self._place, weights=weights * kind, minlength=places) for kind in (self._truth, ~self._truth)
        )
        total = positive.sum() * negative.sum()
        if not total:
            return float("nan")
        below = np.cumsum(negative) - negative
        return float((positive * (below + negative / 2)).sum() / total)


def auroc_interval(
    truth: NDArray[np.bool_],
    score: NDArray[np.floating],
    clusters: NDArray[np.int64],
    *,
    rng: np.random.Generator,
    draws: int,
) -> tuple[float, float | None, float | None]:
    """AUROC and its 95 % interval by bootstrap over clusters; None where too few draws have both kinds of items."""
    ranking = Ranking(truth, score)
    value = ranking.auroc()
    _, cluster = np.unique(clusters, return_inverse=True)
    count = int(cluster.max(initial=-1)) + 1
    found = [
        ranking.auroc(np.bincount(rng.integers(count, size=count), minlength=count)[cluster].astype(np.float64))
        for _ in range(draws if count > 1 else 0)
    ]
    known = np.array([one for one in found if np.isfinite(one)])
    if len(known) < max(20, draws // 2):
        return value, None, None
    low, high = np.quantile(known, (0.025, 0.975)).tolist()
    return value, low, high
