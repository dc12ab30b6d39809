"""Student's t interval for a mean, over sessions, seeds or pairs of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from recil.errors import InputError
from recil.evaluate.bootstrap import check_confidence


def student_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and x̄ ± t_{1 - α/2, n-1} s / √n of independent values [n]; a single value has no interval (nan)."""
    check_confidence(confidence)
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not sample.size:
        raise InputError("values", f"shape {sample.shape}", "give a list of at least one number")
    mean = float(sample.mean())
    if sample.size < 2:
        return mean, math.nan, math.nan
    error = float(sample.std(ddof=1)) / math.sqrt(sample.size)
    half = float(stats.t.ppf(0.5 + confidence / 2.0, sample.size - 1)) * error
    return mean, mean - half, mean + half
