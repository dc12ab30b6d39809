"""What comes out of holding policies against each other: differences, rows, and a ranking with ties."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recil.errors import InputError
from recil.evaluate.estimates import WIDTH, Interval, number, reasons_below
from recil.evaluate.verdict import VERDICTS, Verdict

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Difference:
    """value of `better` minus value of `worse`, as named, with its paired interval.

    rounding: what single-precision propensities can make of a difference that is 0
    """

    better: str
    worse: str
    value: float
    low: float
    high: float
    rounding: float = 0.0

    @property
    def clear(self) -> bool:
        """The interval leaves out 0, and what is 0 but for rounding."""
        return self.low > self.rounding or self.high < -self.rounding

    def reversed(self) -> Difference:
        return Difference(self.worse, self.better, -self.value, -self.high, -self.low, self.rounding)


@dataclass(frozen=True)
class Compared:
    """One policy's row. rank: 1 + the number of policies clearly better, None when its estimate is refused."""

    policy: str
    raw: Interval
    verdict: Verdict
    reasons: tuple[str, ...]
    rank: int | None

    @property
    def value(self) -> float:
        return math.nan if self.verdict == "refuse" else self.raw.value

    @property
    def low(self) -> float:
        return math.nan if self.verdict == "refuse" else self.raw.low

    @property
    def high(self) -> float:
        return math.nan if self.verdict == "refuse" else self.raw.high


@dataclass(frozen=True)
class Comparison:
    """Policies by value, best first, refused ones last.

    differences  of all pairs whose estimates are not refused
    method       the estimator, or the simulation, that all values come from
    """

    rows: tuple[Compared, ...]
    differences: tuple[Difference, ...]
    method: str
    confidence: float

    def __getitem__(self, policy: str) -> Compared:
        for row in self.rows:
            if row.policy == policy:
                return row
        raise KeyError(f"{policy}: not among {', '.join(row.policy for row in self.rows)}")

    def difference(self, first: str, second: str) -> Difference:
        """Value of `first` minus value of `second`; refused where either is."""
        for pair in self.differences:
            if (pair.better, pair.worse) == (first, second):
                return pair
            if (pair.worse, pair.better) == (first, second):
                return pair.reversed()
        refused = [name for name in (first, second) if self[name].verdict == "refuse"]
        raise InputError(
            f"comparison of {first} with {second}",
            f"the estimate of {' and '.join(refused) or first} is refused",
            "see its reasons",
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per policy; refused values are nan."""
        import pandas as pd

        names = ("policy", "rank", "value", "low", "high", "verdict")
        return pd.DataFrame(
            [{name: getattr(row, name) for name in names} | {"reasons": "; ".join(row.reasons)} for row in self.rows]
        )

    def differences_frame(self) -> pd.DataFrame:
        """One row per pair: better, worse, value, low, high, clear."""
        import pandas as pd

        names = ("better", "worse", "value", "low", "high", "clear")
        return pd.DataFrame([{name: getattr(pair, name) for name in names} for pair in self.differences], columns=names)

    def plot(self) -> Figure:
        """Intervals by policy."""
        from recil.evaluate.plots import interval_plot

        rows = [(row.policy, None if row.rank is None else row.raw, row.verdict) for row in self.rows]
        return interval_plot(rows, f"reward per session ({self.method}), {self.confidence:.0%} interval")

    def __str__(self) -> str:
        width = min(24, max([len("policy"), *(len(row.policy) for row in self.rows)]))
        lines = [f"{'rank':>4}  {'policy':<{width}}{'value':>12}{'low':>12}{'high':>12}  verdict"]
        for row in self.rows:
            hidden = row.rank is None
            numbers = "".join(f"{number(part, hidden):>12}" for part in row.raw)
            lines.append(f"{row.rank or '-':>4}  {row.policy[:width]:<{width}}{numbers}  {row.verdict}")
        lines.append(f"reward per session by {self.method}, {self.confidence:.0%} intervals; equal ranks are ties")
        for pair in self.differences:
            interval = f"{pair.value:+.4g} [{pair.low:+.4g}, {pair.high:+.4g}]{'' if pair.clear else ' (tie)'}"
            names = f"{pair.better} - {pair.worse}"
            lines.append(f"  {names[: WIDTH - len(interval) - 4]}: {interval}")
        return "\n".join(lines + reasons_below((row.policy, row.verdict, row.reasons) for row in self.rows))


def ranked(
    values: Mapping[str, Interval],
    verdicts: Mapping[str, tuple[Verdict, tuple[str, ...]]],
    pairs: Sequence[Difference],
    method: str,
    confidence: float,
) -> Comparison:
    """Best first. A policy's rank is 1 + the number of those clearly better: ties share a rank."""
    pointed = [pair if pair.value >= 0 else pair.reversed() for pair in pairs]
    beaten = [pair.worse for pair in pointed if pair.clear]
    rows = [
        Compared(name, interval, *verdicts[name], None if verdicts[name][0] == "refuse" else 1 + beaten.count(name))
        for name, interval in values.items()
    ]
    rows.sort(key=lambda row: (VERDICTS.index(row.verdict) == 2, -row.raw.value if row.rank else 0.0))
    return Comparison(tuple(rows), tuple(pointed), method, confidence)
