"""Statistical assertions that state how often they fail by chance alone."""

from __future__ import annotations

import math

from scipy import stats


def assert_rate_at_least(successes: int, trials: int, rate: float, false_alarm: float = 1e-6) -> None:
    """Fail when so few successes would be seen with probability below `false_alarm` if the true rate were `rate`."""
    chance = float(stats.binom.cdf(successes, trials, rate))
    assert chance >= false_alarm, (
        f"{successes} of {trials}: a rate of {rate} gives so few with probability {chance:.2g}"
    )


def assert_mean(values, expected: float, false_alarm: float = 1e-6) -> None:
    """Fail when the mean of independent values lies further from `expected` than chance allows (normal limit)."""
    count, mean = len(values), float(values.mean())
    error = float(values.std()) / math.sqrt(count)
    bound = float(stats.norm.isf(false_alarm / 2)) * error
    assert abs(mean - expected) <= bound, f"mean {mean:.6g} ± {error:.2g} against {expected:.6g}"
