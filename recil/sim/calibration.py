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
