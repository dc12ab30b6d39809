"""Student's t interval for a mean, over sessions, seeds or pairs of them."""

from __future__ import annotations

import math

from scipy import stats

from recil.evaluate.bootstrap import check_confidence
from recil.evaluate.intervals.sample import Bounds, Numbers, sample_of


def student_interval(values: Numbers, confidence: float = 0.95) -> Bounds:
    """Mean and x̄ ± t_{1 - α/2, n-1} s / √n of independent values [n]; a single value has no interval (nan)."""
    check_confidence(confidence)
    sample = sample_of(values)
    mean = float(sample.mean())
    if sample.size < 2:
        return mean, math.nan, math.nan
    half = quantile(confidence, sample.size) * float(sample.std(ddof=1)) / math.sqrt(sample.size)
    return mean, mean - half, mean + half


def quantile(confidence: float, count: int) -> float:
    """t_{1 - α/2, n-1} for a two-sided interval from n values."""
    return float(stats.t.ppf(0.5 + confidence / 2.0, count - 1))
