"""How much of an item's appeal its columns tell, and how much is its own: the start of a fit, and its priors' scales.

Clicks of item i are counted as binomial with log-odds b + x_i β + a_i, where x_i are the item's columns, β of each
column has a Gaussian prior of one scale, and a_i, what is the item's own, of another. The scales are those of highest
marginal likelihood, by expectation-maximisation around the mode (Laplace; Breslow & Clayton 1993, "Approximate
inference in generalized linear mixed models"). So items that were never shown are known by their columns, as far as
columns have told of others, and many items with few clicks share what they say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, diags, hstack
from scipy.special import expit
from torch import Tensor

from recil.errors import InputError
from recil.policies.inputs import Feature

# Scales outside of this, in log-odds, are not told apart from its ends by any log.
LEAST, MOST = 0.1, 3.0
START, ROUNDS, STEPS = 0.5, 30, 4
# Columns of more categories than this are left to the gradient: their matrix would be too large to invert.
CATEGORIES = 1500
# So many items at a time are dense.
ROWS = 20_000


@dataclass(frozen=True)
class ItemAppeal:
    """base: log-odds of a click; own [A], by item; tables: for each column [C] or [1], and scales: own, each column."""

    base: float
    own: np.ndarray
    tables: tuple[np.ndarray, ...]
    own_scale: float
    scales: tuple[float, ...]


def item_appeal(
    clicks: np.ndarray,
    shown: np.ndarray,
    features: tuple[Feature, ...],
    columns: Mapping[str, Tensor],
    own_scale: float | None = None,
    scales_given: tuple[float, ...] | None = None,
) -> ItemAppeal:
    """clicks, shown: float64 [A], by item; columns: name -> [A] or [A, M].

    own_scale, scales_given (one for each column): None for those of highest marginal likelihood.
    Raises InputError where there are more or fewer scales than columns.
    """
    if scales_given is not None and len(scales_given) != len(features):
        problem = f"{len(scales_given)} scales for {len(features)} columns of items"
        raise InputError("users.item_scales", problem, "give one for each, in the order of names")
    parts = [_design(feature, columns) for feature in features]
    widths = [part.shape[1] for part in parts]
    parts = [part if part.shape[1] <= CATEGORIES else part[:, :0] for part in parts]
    sizes = [part.shape[1] for part in parts]
    design = hstack([csr_matrix(np.ones((len(clicks), 1))), *parts], format="csr")
    owner = np.repeat(np.arange(len(sizes)), sizes)
    scales = np.full(len(sizes), START) if scales_given is None else np.array(scales_given, dtype=np.float64)
    own = own_scale or START
    rate = np.clip(clicks.sum() / max(shown.sum(), 1), 1e-6, 1 - 1e-6)
    weights, appeal = np.zeros(design.shape[1]), np.zeros(len(clicks))
    weights[0] = np.log(rate / (1 - rate))
    for _ in range(ROUNDS):
        prior = np.concatenate([[1e-6], scales[owner] ** -2.0])
        weights, appeal, spread, own_spread = _mode(clicks, shown, design, prior, own, weights, appeal)
        before = np.append(scales, own)
        square = weights[1:] ** 2 + spread[1:]
        for place, part in enumerate(parts):
            if part.nnz and scales_given is None:
                scales[place] = np.clip(np.sqrt(square[owner == place].mean()), LEAST, MOST)
        own = own_scale or float(np.clip(np.sqrt((appeal**2 + own_spread).mean()), LEAST, MOST))
        if np.allclose(np.append(scales, own), before, rtol=0.01):
            break
    found = np.split(weights[1:], np.cumsum(sizes)[:-1]) if sizes else []
    tables = tuple(table if len(table) else np.zeros(width) for table, width in zip(found, widths, strict=True))
    return ItemAppeal(float(weights[0]), appeal, tables, own, tuple(scales.tolist()))


def _design(feature: Feature, columns: Mapping[str, Tensor]) -> csr_matrix:
    """[A, C]: what each entry of the column's table is multiplied with, as `recil.sim.features.Effects` does it."""
    values = columns[feature.name].numpy()
    if feature.categories is None:
        known = np.nan_to_num((values.astype(np.float64) - feature.mean) / feature.scale, nan=0.0, posinf=0, neginf=0)
        return csr_matrix(known[:, None])
    codes = values.reshape(len(values), -1)
    there = codes >= 0
    share = there / np.maximum(there.sum(1, keepdims=True), 1)
    row = np.broadcast_to(np.arange(len(codes))[:, None], codes.shape)
    return csr_matrix((share[there], (row[there], codes[there])), shape=(len(codes), feature.categories))


def _mode(
    clicks: np.ndarray,
    shown: np.ndarray,
    design: csr_matrix,
    prior: np.ndarray,
    own: float,
    weights: np.ndarray,
    appeal: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A few Newton steps to the mode; weights [P], appeal [A], and their posterior variances.

    Items' own appeals are eliminated one by one, so that a step costs one system of P unknowns.
    """
    tight = own**-2.0
    for _ in range(STEPS):
        rate = expit(design @ weights + appeal)
        curve = np.maximum(shown * rate * (1 - rate), 1e-9)
        off = clicks - shown * rate
        left = curve * tight / (curve + tight)  # curvature that own appeals do not take up
        # The gradient after each item's own appeal has gone to where it would, given the step in weights.
        own_slope = off - tight * appeal
        slope = design.T @ (off - curve / (curve + tight) * own_slope) - prior * weights
        system = (design.T @ diags(left) @ design).toarray() + np.diag(prior)
        step = np.linalg.solve(system, slope)
        step *= min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        weights = weights + step
        appeal = appeal + np.clip((own_slope - curve * (design @ step)) / (curve + tight), -2, 2)
    covariance = np.linalg.inv(system)
    reach = np.concatenate([_reach(design[first : first + ROWS], covariance) for first in range(0, len(clicks), ROWS)])
    reach = reach * (curve / (curve + tight)) ** 2
    return weights, appeal, np.diag(covariance), 1 / (curve + tight) + reach


def _reach(design: csr_matrix, covariance: np.ndarray) -> np.ndarray:
    """The variance of each row's sum of weights."""
    return np.asarray(design.multiply(design @ covariance).sum(1)).ravel()
