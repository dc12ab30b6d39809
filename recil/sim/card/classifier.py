"""A classifier told to tell logged from simulated: where it cannot do better than a coin, nobody like it can."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from recil.random import Streams
from recil.sim.calibration import area_and_error

FOLDS = 2
# On each side. With fewer there is nothing to learn from.
LEAST = 50
PENALTY = 1e-3


def told_apart(
    logged: np.ndarray, simulated: np.ndarray, logged_in: np.ndarray, simulated_in: np.ndarray, streams: Streams
) -> tuple[float, float]:
    """Area under the curve, and its standard error over units, of telling rows `logged` from rows `simulated`.

    Rows [.., F] of features; logged_in, simulated_in: the unit of each. A logistic regression learns on the other
    folds of the units. nan where there are fewer than 50 rows on a side, or a single unit.
    """
    if min(len(logged), len(simulated)) < LEAST:
        return float("nan"), float("nan")
    features = np.concatenate([logged, simulated])
    is_logged = np.arange(len(features)) < len(logged)
    units, unit = np.unique(np.concatenate([logged_in, simulated_in]), return_inverse=True)
    if len(units) < FOLDS:
        return float("nan"), float("nan")
    fold = streams.numpy("folds").permutation(len(units))[unit] % FOLDS
    areas = []
    for number in range(FOLDS):
        inside = fold == number
        score = _learned(features[~inside], is_logged[~inside])(features[inside])
        areas.append(area_and_error(score, is_logged[inside], unit[inside]))
    values, errors = np.array(areas).T
    # Not a root of squares: what one half has by chance misleads in both, so that the two areas err together.
    return float(values.mean()), float(errors.mean())


def _learned(features: np.ndarray, positive: np.ndarray):
    """The score that a logistic regression learns; it weighs both sides alike, however many rows they have."""
    centre, scale = features.mean(0), features.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    weight = np.where(positive, 0.5 / max(positive.sum(), 1), 0.5 / max((~positive).sum(), 1))
    inputs = (features - centre) / scale

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        score = inputs @ weights[1:] + weights[0]
        loss = weight @ (np.logaddexp(0, score) - positive * score) + PENALTY * (weights[1:] ** 2).sum() / 2
        off = weight * (expit(score) - positive)
        return float(loss), np.concatenate([[off.sum()], inputs.T @ off + PENALTY * weights[1:]])

    weights = minimize(objective, np.zeros(features.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return lambda others: (others - centre) / scale @ weights[1:]
