"""What intervals are made from: independent numbers, one per session (or seed, or pair of them)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from recil.errors import InputError

# Mean or ratio, low end, high end.
Bounds = tuple[float, float, float]
Numbers = Sequence[float] | np.ndarray


def sample_of(values: Numbers, place: str = "values") -> np.ndarray:
    """float64 [n], n at least 1, all finite."""
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not sample.size:
        raise InputError(place, f"shape {sample.shape}", "give a list of at least one number")
    if not np.isfinite(sample).all():
        raise InputError(place, f"{int((~np.isfinite(sample)).sum())} are not finite", "give numbers")
    return sample


def lower_bound(interval: Callable[[float], Bounds], confidence: float = 0.95) -> float:
    """What the value exceeds with this confidence: the low end of the interval that leaves as much on either side.

    interval: confidence -> bounds, for instance lambda level: student_interval(scores, level). "Ship it" where the
    bound lies above the mark to beat.
    """
    if not 0.5 < confidence < 1.0:
        raise InputError("confidence", f"{confidence} is no one-sided confidence", "give .95, or another above .5")
    return interval(2.0 * confidence - 1.0)[1]
