"""SLOPE: how much to shrink, told by the intervals alone. Su, Srinath & Krishnamurthy 2020.

Of estimates that trade bias for width, the widest is the least biased. Going from the widest to the narrowest, the
intervals of twice the half width have a point in common for as long as bias is not larger than noise; the last one
that shares it with all before has, up to a constant, the least error of all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from recil.errors import InputError
from recil.evaluate.estimates import Estimate
from recil.evaluate.estimators import KNOBS
from recil.evaluate.on_log import evaluate
from recil.logs.session_log import SessionLog
from recil.policies.protocol import Policy

# From no shrinking at all to hardly any weight left.
_CAPS = (math.inf, *(2.0**power for power in range(10, -1, -1)))
_USUAL: Mapping[str, Sequence[float]] = MappingProxyType(
    {
        "cips": _CAPS,
        "switch_dr": (*_CAPS, 0.0),
        "dros": (*(4.0 * cap**2 for cap in _CAPS), 0.0),
        "subgaussian": tuple(1.0 / cap for cap in _CAPS),
    }
)


def slope(estimates: Iterable[Estimate]) -> Estimate:
    """Of estimates of one value, in any order, the one whose shrinkage is right for this log.

    Raises InputError where none has an interval. A refused one takes part: that it is refused says that it is wide.
    """
    rows = [row for row in estimates if row.raw.low <= row.raw.value <= row.raw.high]
    if not rows:
        raise InputError("slope", "no estimate has an interval", "give estimates that are defined on this log")
    rows.sort(key=lambda row: row.raw.low - row.raw.high)
    chosen, low, high = rows[0], -math.inf, math.inf
    for row in rows:
        value, lower, upper = row.raw
        low, high = max(low, value - 2 * (value - lower)), min(high, value + 2 * (upper - value))
        if low > high:
            break
        chosen = row
    return chosen


def tuned(
    policy: Policy, log: SessionLog, estimator: str = "cips", knobs: Sequence[float] | None = None, **options: Any
) -> Estimate:
    """The policy's value by an estimator of KNOBS, its knob chosen by `slope`; "cips(16)" tells which.

    knobs    to choose among; None: from no shrinking to nearly all, by factors of 2
    options  those of `evaluate`
    The interval is that of the knob chosen: it has the noise of the estimate, and what the choice adds is within the
    constant of SLOPE. Raises InputError as `evaluate`, and for an estimator without a knob.
    """
    if estimator not in KNOBS:
        raise InputError("estimator", f"{estimator!r} has no knob", f"choose among {', '.join(KNOBS)}")
    if "estimators" in options:
        raise InputError("estimators", "are what is chosen among", "give estimator= and knobs=")
    values = _USUAL[estimator] if knobs is None else knobs
    return slope(evaluate(policy, log, estimators=[KNOBS[estimator](knob) for knob in values], **options))
