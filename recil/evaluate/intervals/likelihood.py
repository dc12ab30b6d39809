"""Likelihood without a model: intervals that follow the skewness of the values and stay within their range.

The empirical likelihood of a mean μ is the largest probability of the sample under weights q on its values with
Σ q (x - μ) = 0 (Owen 1988); twice its log deficit is a χ² of one degree. Importance weights are known to average 1,
which is one more constraint and takes noise out (Karampatziakis, Langford & Mineiro 2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import optimize, stats

from recil.errors import InputError
from recil.evaluate.bootstrap import check_confidence
from recil.evaluate.intervals.delta import influences
from recil.evaluate.intervals.sample import Bounds, Numbers, sample_of

_ROUNDS = 60


def likelihood_interval(values: Numbers, confidence: float = 0.95, weights: Numbers | None = None) -> Bounds:
    """Empirical likelihood for a mean of values [n]; with `weights` [n], whose mean is known to be 1, tilted by them.

    Returns the most likely mean (with `weights` not x̄) and the bounds; both nan where all values are equal.
    """
    check_confidence(confidence)
    sample = sample_of(values)
    control = None if weights is None else _control(weights, len(sample))
    least_value, extent = float(sample.min()), float(np.ptp(sample))
    if len(sample) < 2 or extent == 0:
        return _most_likely(sample, control), math.nan, math.nan
    # In units of its range: squares of the smallest numbers would be 0, and the search would not move.
    found = _unit_interval((sample - least_value) / extent, control, confidence)
    value, low, high = (min(least_value + extent * part, float(sample.max())) for part in found)
    return value, low, high


def _unit_interval(sample: np.ndarray, control: np.ndarray | None, confidence: float) -> Bounds:
    """Of values from 0 to 1, both of which are among them."""
    value = _most_likely(sample, control)
    # The F quantile in place of χ² corrects for small n (Owen 2001, section 2.6).
    limit = float(stats.f.ppf(confidence, 1, len(sample) - 1))
    least = 0.0 if control is None else _deficit(control[:, None])

    def beyond(mean: float) -> float:
        centred = (sample - mean)[:, None]
        constraints = centred if control is None else np.column_stack([centred, control])
        return _deficit(constraints) - least - limit

    step = math.sqrt(limit / len(sample)) * float(sample.std())
    low, high = (_crossing(beyond, value, end, step) for end in (0.0, 1.0))
    return value, low, high


def euclidean_interval(numerator: Numbers, denominator: Numbers | None = None, confidence: float = 0.95) -> Bounds:
    """The Cressie-Read member of order -2 (Euclidean likelihood) for Σ a / Σ b, in closed form; b = 1 when None.

    All V with n (ā - V b̄)² <= χ² var(a - V b): for a ratio these are Fieller's bounds. Infinite where b̄ itself cannot
    be told from 0.
    """
    check_confidence(confidence)
    above = sample_of(numerator, "numerator")
    below = np.ones_like(above) if denominator is None else sample_of(denominator, "denominator")
    value, _ = influences(above, below)
    count = len(above)
    if count < 2 or math.isnan(value):
        return value, math.nan, math.nan
    limit = float(stats.f.ppf(confidence, 1, count - 1)) / count
    (aa, ab), (_, bb) = np.cov(above, below).tolist()
    mean_a, mean_b = float(above.mean()), float(below.mean())
    square, cross, plain = mean_b**2 - limit * bb, mean_a * mean_b - limit * ab, mean_a**2 - limit * aa
    if square <= 0:
        return value, -math.inf, math.inf
    root = math.sqrt(max(0.0, cross**2 - square * plain))
    return value, (cross - root) / square, (cross + root) / square


def _control(weights: Numbers, count: int) -> np.ndarray:
    control = sample_of(weights, "weights") - 1.0
    if len(control) != count:
        raise InputError("weights", f"{len(control)} for {count} values", "give one per value")
    if not control.min() < 0.0 < control.max():
        raise InputError("weights", "they lie on one side of 1 and cannot average 1", "leave weights out")
    return control


def _most_likely(sample: np.ndarray, control: np.ndarray | None) -> float:
    if control is None:
        return float(sample.mean())
    share = 1.0 / (1.0 + _tilts(control[:, None]))
    return float((share * sample).sum() / share.sum())


def _deficit(constraints: np.ndarray) -> float:
    """-2 log of the largest likelihood ratio under Σ q z = 0, z [n, m]; large where there is no such q."""
    return 2.0 * float(_log(1.0 + _tilts(constraints), len(constraints))[0].sum())


def _tilts(constraints: np.ndarray) -> np.ndarray:
    """λᵀz [n] for the λ that maximises Σ log(1 + λᵀz), by Newton steps, halved where they would not ascend."""
    scale = np.maximum(np.abs(constraints).max(0), 1e-300)
    moments = constraints / scale
    count = len(moments)
    found = np.zeros(moments.shape[1])
    height = 0.0
    for _ in range(_ROUNDS):
        _, slope, bend = _log(1.0 + moments @ found, count)
        gradient = moments.T @ slope
        hessian = (moments * bend[:, None]).T @ moments
        step = np.linalg.lstsq(-hessian, gradient, rcond=None)[0]
        gain = float(gradient @ step)
        if gain < 1e-12 * count:
            break
        while (higher := float(_log(1.0 + moments @ (found + step), count)[0].sum())) < height and gain > 1e-14:
            step, gain = step / 2.0, gain / 2.0
        found, height = found + step, higher
    return moments @ found


def _log(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log and its two derivatives; below 1/n a parabola that touches it there, so that no step leaves the domain."""
    edge = 1.0 / count
    inside = values >= edge
    safe = np.where(inside, values, edge)
    far = values - edge
    height = np.where(inside, np.log(safe), math.log(edge) + far / edge - far**2 / (2.0 * edge**2))
    slope = np.where(inside, 1.0 / safe, 1.0 / edge - far / edge**2)
    return height, slope, np.where(inside, -1.0 / safe**2, -1.0 / edge**2)


def _crossing(beyond: Callable[[float], float], inside: float, outermost: float, step: float) -> float:
    """Where `beyond` turns positive between the most likely value and the outermost of the sample.

    It is sought from the normal bound, `step` away, outwards: far out the multipliers are slow to find.
    """
    direction = 1.0 if outermost > inside else -1.0
    while step < abs(outermost - inside):
        outer = inside + direction * step
        if beyond(outer) > 0:
            return float(optimize.brentq(beyond, inside, outer, xtol=1e-9 * step))
        step *= 1.3
    if outermost == inside or beyond(outermost) <= 0:
        return outermost
    return float(optimize.brentq(beyond, inside, outermost, xtol=1e-9 * abs(outermost - inside)))
