"""What comes out of evaluating and comparing by segment."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recil.evaluate.comparison import Comparison
from recil.evaluate.estimates import WIDTH, Estimate, Interval, number, reasons_below
from recil.evaluate.verdict import VERDICTS, Verdict

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# Relative error of a value out of float32 log-probabilities.
_ROUNDING = 1e-5


def confidence_of_each(confidence: float, number: int) -> float:
    """Of one interval of so many, all of which hold at once with `confidence` (Bonferroni)."""
    return 1.0 - (1.0 - confidence) / number


@dataclass(frozen=True)
class Segment:
    """One segment. apart: its value minus that of all other sessions, with an interval; None where either is refused,
    or where there are no others."""

    name: str
    sessions: int
    estimate: Estimate
    apart: Interval | None

    @property
    def verdict(self) -> Verdict:
        return self.estimate.verdict

    @property
    def clear(self) -> bool:
        """It differs from the rest: both may be shown, and the interval leaves out 0 and what is 0 but for rounding."""
        rounding = _ROUNDING * abs(self.estimate.raw.value)
        return self.apart is not None and (self.apart.low > rounding or self.apart.high < -rounding)


@dataclass(frozen=True)
class Segments:
    """A policy's value by segment. confidence: of all intervals together; each: of one interval of a value."""

    by: str
    rows: tuple[Segment, ...]
    estimator: str
    confidence: float

    @property
    def each(self) -> float:
        return confidence_of_each(self.confidence, len(self.rows))

    @property
    def refused(self) -> tuple[str, ...]:
        return tuple(row.name for row in self.rows if row.estimate.refused)

    @property
    def verdict(self) -> Verdict:
        """The gravest of the segments'."""
        return max((row.verdict for row in self.rows), key=VERDICTS.index)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.rows)

    def __getitem__(self, segment: str) -> Segment:
        for row in self.rows:
            if row.name == segment:
                return row
        raise KeyError(f"{segment}: not among {', '.join(row.name for row in self.rows)}")

    def to_frame(self) -> pd.DataFrame:
        """One row per segment; what is refused is nan. `apart` is its value minus that of the rest."""
        import pandas as pd

        missing = Interval(math.nan, math.nan, math.nan)
        return pd.DataFrame([_record(row, row.apart or missing) for row in self.rows])

    def plot(self) -> Figure:
        """Intervals by segment; a refused one has that word in place of a bar."""
        from recil.evaluate.plots import interval_plot

        rows = [(row.name, None if row.estimate.refused else row.estimate.raw, row.verdict) for row in self.rows]
        return interval_plot(rows, f"reward per session ({self.estimator}), {_percent(self.each)} intervals")

    def __str__(self) -> str:
        width = min(22, max(len(self.by), *(len(row.name) for row in self.rows)))
        head = f"{self.by[:width]:<{width}}{'sessions':>11}{'value':>11}{'low':>11}{'high':>11}  verdict"
        lines = [head, *(_line(row, width) for row in self.rows)]
        count = f"{len(self.rows)} segments" + (f", {len(self.refused)} refused" if self.refused else "")
        lines.append(f"reward per session by {self.estimator}; {count}")
        lines.append(f"{_percent(self.each)} intervals, so that all hold at once in {_percent(self.confidence)}")
        for row in self.rows:
            if row.apart is not None:
                value, low, high = row.apart
                interval = f"{value:+.4g} [{low:+.4g}, {high:+.4g}]{'' if row.clear else ' (tie)'}"
                lines.append(f"  {f'{row.name} - the rest'[: WIDTH - len(interval) - 4]}: {interval}")
        return "\n".join(lines + reasons_below((row.name, row.verdict, row.estimate.reasons) for row in self.rows))


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"


def _line(row: Segment, width: int) -> str:
    numbers = "".join(f"{number(part, row.estimate.refused):>11}" for part in row.estimate.raw)
    return f"{row.name[:width]:<{width}}{row.sessions:>11,}{numbers}  {row.verdict}"


def _record(row: Segment, apart: Interval) -> dict[str, object]:
    return {
        "segment": row.name,
        "sessions": row.sessions,
        **{name: getattr(row.estimate, name) for name in ("value", "low", "high", "ess", "verdict")},
        "apart": apart.value,
        "apart_low": apart.low,
        "apart_high": apart.high,
        "clear": row.clear,
        "reasons": "; ".join(row.estimate.reasons),
    }


@dataclass(frozen=True)
class ComparedSegments:
    """Policies held against each other by segment: (segment, sessions, comparison). confidence: of all together, for
    each pair of policies."""

    by: str
    rows: tuple[tuple[str, int, Comparison], ...]
    confidence: float

    def __getitem__(self, segment: str) -> Comparison:
        for name, _, comparison in self.rows:
            if name == segment:
                return comparison
        raise KeyError(f"{segment}: not among {', '.join(name for name, *_ in self.rows)}")

    def to_frame(self) -> pd.DataFrame:
        """One row per segment and policy, as a comparison has it."""
        import pandas as pd

        return pd.concat([one.to_frame().assign(segment=name) for name, _, one in self.rows], ignore_index=True)

    def differences_frame(self) -> pd.DataFrame:
        """One row per segment and pair, as a comparison has it."""
        import pandas as pd

        parts = [one.differences_frame().assign(segment=name) for name, _, one in self.rows]
        return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)

    def __str__(self) -> str:
        each = confidence_of_each(self.confidence, len(self.rows))
        lines = [f"{_percent(each)} intervals, so that those of a pair all hold at once in {_percent(self.confidence)}"]
        for name, sessions, comparison in self.rows:
            lines += [f"{f'{self.by} {name}'[: WIDTH - 30]}, {sessions:,} sessions", str(comparison)]
        return "\n".join(lines)
