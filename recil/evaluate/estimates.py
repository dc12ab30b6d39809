"""What an evaluation answers: one row per estimator, with its interval and its verdict."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from recil.evaluate.diagnostics import Diagnostics
from recil.evaluate.margins import Margins
from recil.evaluate.propensities import Calibration, widened
from recil.evaluate.verdict import VERDICTS, Verdict

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# The row to quote among those with an equally good verdict. Fixed beforehand: to choose the narrowest interval
# or the highest value on the data would be to choose the luckiest.
PREFERENCE = ("pdwis", "dr", "snips", "pdis", "ips")
WIDTH = 80


class Interval(NamedTuple):
    value: float
    low: float
    high: float


def interval_of(
    values: Tensor, confidence: float, margins: Margins, between: float = math.nan, models: int = 1
) -> Interval:
    """From the estimate and its replicates, [R+1], and its deviation between several models of the propensities.

    A replicate that took no session is 0 / 0; such and other undefined ones are left out.
    """
    value = float(values[0])
    bounds = margins.interval(value, values[1:], confidence)
    return Interval(value, *widened(value, bounds, between, models, confidence))


@dataclass(frozen=True)
class Estimate:
    """One estimator's answer. value, low and high are nan when it is refused; `raw` has them all the same.

    replicates  [R], the bootstrap's
    target      False where it is the logging policy's own value
    models      fitted policies that supplied propensities in turn, 1 for none or one
    margins     what intervals need beyond the replicates
    """

    estimator: str
    raw: Interval
    verdict: Verdict
    reasons: tuple[str, ...]
    diagnostics: Diagnostics
    replicates: Tensor = field(repr=False, compare=False)
    target: bool = True
    models: int = 1
    margins: Margins = field(default_factory=Margins, repr=False, compare=False)

    @property
    def refused(self) -> bool:
        return self.verdict == "refuse"

    @property
    def value(self) -> float:
        return math.nan if self.refused else self.raw.value

    @property
    def low(self) -> float:
        return math.nan if self.refused else self.raw.low

    @property
    def high(self) -> float:
        return math.nan if self.refused else self.raw.high

    @property
    def ess(self) -> float:
        return self.diagnostics.ess

    def at_least(self, confidence: float = 0.95) -> float:
        """What the value exceeds with this confidence, one-sided: "ship it" where it lies above the mark to beat.

        nan where the estimate is refused.
        """
        if self.refused:
            return math.nan
        values = torch.cat([torch.tensor([self.raw.value], dtype=self.replicates.dtype), self.replicates])
        level = 2.0 * confidence - 1.0
        return interval_of(values, level, self.margins, self.diagnostics.between_fits, self.models).low


@dataclass(frozen=True)
class Estimates:
    """Estimates of one policy's value from one log.

    rows         one per estimator, in the order asked for
    confidence   of the intervals
    sessions, impressions  evaluated on: sessions, items shown
    units        what intervals count, "800 users"
    rewards      the range that rewards may have, and whether it was declared
    propensities calibration of the fitted policy that supplied them; None where the log has its own, or it cannot tell
    """

    rows: tuple[Estimate, ...]
    confidence: float
    sessions: int
    impressions: int
    units: str = ""
    rewards: str = ""
    propensities: Calibration | None = field(default=None, compare=False)

    def __iter__(self) -> Iterator[Estimate]:
        return iter(self.rows)

    def __getitem__(self, estimator: str) -> Estimate:
        for row in self.rows:
            if row.estimator == estimator:
                return row
        raise KeyError(f"{estimator}: not among {', '.join(row.estimator for row in self.rows)}")

    @property
    def best(self) -> Estimate:
        """The row to quote: of the target's rows the best verdict, then the order of PREFERENCE. It may be refused."""
        rows = [row for row in self.rows if row.target]
        if not rows:
            raise ValueError("Estimates.best: only the logging policy's own value was asked for")
        return min(rows, key=lambda row: (VERDICTS.index(row.verdict), _place(row.estimator)))

    def to_frame(self) -> pd.DataFrame:
        """One row per estimator; refused values are nan."""
        import pandas as pd

        names = ("estimator", "value", "low", "high", "ess", "verdict")
        return pd.DataFrame(
            [{name: getattr(row, name) for name in names} | {"reasons": "; ".join(row.reasons)} for row in self.rows]
        )

    def plot(self) -> Figure:
        """Intervals by estimator; a refused one has its reason in place of a bar."""
        from recil.evaluate.plots import interval_plot

        rows = [(row.estimator, None if row.refused else row.raw, row.verdict) for row in self.rows]
        return interval_plot(rows, f"reward per session, {self.confidence:.0%} interval")

    def __str__(self) -> str:
        width = max(10, *(len(row.estimator) + 1 for row in self.rows))
        head = f"{'estimator':<{width}}{'value':>11}{'low':>11}{'high':>11}{'ESS':>11}  verdict"
        lines = [head, *(_line(row, width) for row in self.rows)]
        shown = f"{self.sessions:,} sessions, {self.impressions:,} items shown; reward per session"
        lines.append(f"{shown}, {self.confidence:.0%} intervals")
        lines += [f"intervals count {self.units}; {self.rewards}"] if self.units else []
        if self.propensities is not None:
            lines.append(str(self.propensities))
        return "\n".join(lines + reasons_below((row.estimator, row.verdict, row.reasons) for row in self.rows))


def _place(estimator: str) -> int:
    """In the order of preference; what is not among the usual comes after, in the order asked for."""
    return PREFERENCE.index(estimator) if estimator in PREFERENCE else len(PREFERENCE)


def _line(row: Estimate, width: int) -> str:
    numbers = "".join(f"{number(part, row.refused):>11}" for part in row.raw)
    return f"{row.estimator:<{width}}{numbers}{row.ess:>11,.1f}  {row.verdict}"


def number(value: float, hidden: bool = False) -> str:
    """Five significant digits, or a dash where the number may not be shown."""
    return "-" if hidden or math.isnan(value) else f"{value:.5g}"


def reasons_below(rows: Iterable[tuple[str, Verdict, tuple[str, ...]]]) -> list[str]:
    """The reasons of each (name, verdict, reasons) in lines no longer than the table; rows with the same share them."""
    names: dict[tuple[Verdict, tuple[str, ...]], list[str]] = {}
    for name, verdict, reasons in rows:
        if reasons:
            names.setdefault((verdict, reasons), []).append(name)
    lines = []
    for (verdict, reasons), shared in names.items():
        text = f"{', '.join(shared)}: {verdict}: {'; '.join(reasons)}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="  ")
    return lines
