"""How well probabilities rank and how honest they are."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata


def area_under_curve(probability: np.ndarray, clicked: np.ndarray) -> float:
    """Probability that a clicked item was ranked above one not clicked, ties counted half; nan without both kinds."""
    positive = clicked > 0
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    return float((rankdata(probability)[positive].sum() - n * (n + 1) / 2) / (n * m))


def groups_by_prediction(probability: np.ndarray, groups: int = 10) -> np.ndarray:
    """int64 [M]: groups of equal size, ordered by prediction.

    Equal predictions fall into one group, so that the result does not depend on the order of rows.
    """
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, groups + 1)[1:-1]))
    return np.searchsorted(edges, probability, side="right")


def expected_calibration_error(probability: np.ndarray, clicked: np.ndarray, groups: int = 10) -> float:
    """Mean distance of predicted and observed rate over groups of equal size, ordered by prediction."""
    group = groups_by_prediction(probability, groups)
    counts = np.bincount(group)
    predicted, observed = np.bincount(group, probability), np.bincount(group, clicked)
    return float(np.abs(predicted - observed).sum() / counts.sum())


def placements(score: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """[M]: of each positive, the share of negatives ranked below it; of each negative, of positives ranked above it."""
    n, m = int(positive.sum()), int((~positive).sum())
    below = rankdata(score)
    place = np.empty(len(score))
    place[positive] = (below[positive] - rankdata(score[positive])) / m
    place[~positive] = 1 - (below[~positive] - rankdata(score[~positive])) / n
    return place


def area_and_error(score: np.ndarray, positive: np.ndarray, cluster: np.ndarray) -> tuple[float, float]:
    """Area under the curve and its standard error, with clusters (int [M]) as the independent units.

    Obuchowski (1997), "Nonparametric analysis of clustered ROC curve data". nan without both kinds.
    """
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan"), float("nan")
    place = placements(score, positive)
    area = float(place[positive].mean())
    parts = np.bincount(cluster, np.where(positive, (place - area) / n, (place - area) / m))
    return area, float(np.sqrt((parts**2).sum()))
