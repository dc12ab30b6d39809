"""Numbers as a report writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from recil.experiment.result import Interval

DASH = "–"


def figure(value: float | None, digits: int = 4) -> str:
    """With so many digits after the point; two digits of what is very small or large, a dash for what is not there."""
    if value is None or math.isnan(value):
        return DASH
    if value != 0 and not 10.0 ** (1 - digits) <= abs(value) < 1e5:
        return f"{value:.2g}"
    return f"{value:.{digits}f}"


def interval(found: Interval | None, digits: int = 4) -> str:
    """value [low, high]"""
    if found is None:
        return DASH
    value, low, high = found
    if math.isnan(low):
        return figure(value, digits)
    return f"{figure(value, digits)} [{figure(low, digits)}, {figure(high, digits)}]"


def signed(found: Interval) -> str:
    """+value [+low, +high]"""
    value, low, high = found
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"


def share(value: float) -> str:
    """A share of one in percent: 100% and 0% are exact."""
    text = f"{value:.0%}" if value >= 0.1 or value == 0 else f"{value:.1%}"
    if text == "100%" and value < 1:
        return ">99%"
    return "<0.1%" if text == "0.0%" and value > 0 else text


def seconds(value: float) -> str:
    """A duration: 0.4 s, 12 s, 3 min 5 s, 2 h 4 min."""
    if value < 9.5:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours} h {minutes} min"


def listed(names: Sequence[str], word: str = "and") -> str:
    """a, b and c"""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}" if names else ""


def spread(values: Sequence[float], said=figure) -> str:
    """The mean over seeds, and in brackets the least and the greatest where they differ."""
    if not len(values):
        return DASH
    mean, least, most = said(sum(values) / len(values)), said(min(values)), said(max(values))
    return mean if least == most else f"{mean} ({least} to {most})"
