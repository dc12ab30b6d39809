"""Is a log fit to be evaluated on: do its propensities sum to 1, calibrate, and hold at all times?"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from recil.errors import InputError
from recil.evaluate.estimates import WIDTH
from recil.evaluate.exposure import Exposure, counts, exposure, periods_of
from recil.evaluate.scoring import WholeCatalogue
from recil.evaluate.verdict import VERDICTS, Verdict
from recil.logs.session_log import PAD, SessionLog
from recil.policies.protocol import Policy

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LogLimits:
    """Each pair: beyond the first value the verdict is at most caution, beyond the second refuse.

    off          distance of a ratio from 1, where it is also improbable
    probability  of so large a distance by chance, corrected for the number of groups and periods looked at
    certain      share of items shown with a probability of 1
    unshown      share of the catalogue that the log never shows
    """

    off: tuple[float, float] = (0.02, 0.15)
    probability: tuple[float, float] = (1e-3, 1e-6)
    certain: tuple[float, float] = (0.5, 1.0 - 1e-9)
    unshown: tuple[float, float] = (0.05, 1.0)


@dataclass(frozen=True)
class Check:
    """One check: what was found, against what it should be; chance: how probable so much is if all is right."""

    name: str
    found: float
    wanted: float
    chance: float
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True)
class LogCheck:
    """All checks of one log; the verdict is the gravest of theirs."""

    rows: tuple[Check, ...]
    sessions: int
    impressions: int

    @property
    def verdict(self) -> Verdict:
        return max((row.verdict for row in self.rows), key=VERDICTS.index)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Gravest first."""
        graver = sorted(self.rows, key=lambda row: -VERDICTS.index(row.verdict))
        return tuple(row.reason for row in graver if row.reason)

    def __getitem__(self, check: str) -> Check:
        for row in self.rows:
            if row.name == check:
                return row
        raise KeyError(f"{check}: not among {', '.join(row.name for row in self.rows)}")

    def to_frame(self) -> pd.DataFrame:
        """One row per check."""
        import pandas as pd

        return pd.DataFrame([vars(row) for row in self.rows])

    def __str__(self) -> str:
        lines = [f"{'check':<34}{'found':>11}{'wanted':>9}{'chance':>10}  verdict"]
        for row in self.rows:
            chance = "-" if np.isnan(row.chance) else f"{row.chance:.2g}"
            lines.append(f"{row.name:<34}{row.found:>11.4g}{row.wanted:>9.4g}{chance:>10}  {row.verdict}")
        lines.append(f"{self.sessions:,} sessions, {self.impressions:,} items shown: {self.verdict}")
        for reason in self.reasons:
            lines += textwrap.wrap(f"- {reason}", WIDTH, subsequent_indent="  ")
        return "\n".join(lines)


def check_log(
    log: SessionLog,
    behaviour: Policy | None = None,
    *,
    groups: int = 20,
    periods: int = 10,
    limits: LogLimits | None = None,
) -> LogCheck:
    """Checks a log's propensities or, where it has none, those of `behaviour`, a clone fitted to other sessions.

    sum          what the propensities of all items would add up to: 1 over the mean weight of a uniform target
    calibration  the same by group of items, the one furthest off
    periods      the same by group and by period of the log (by time, or in its order): a sample-ratio test
    clone        items shown against the clone's own probabilities, by group; where it can weigh the whole catalogue
    A ratio above 1 means propensities below the truth. One below 1 may also come from items that are hardly ever shown,
    which no log can tell from items withheld, and so is at most `caution`. Raises InputError for a log without sessions
    and for options that mean nothing; a log without propensities is refused.
    """
    if groups < 1 or periods < 1:
        raise InputError("check_log", f"{groups} groups, {periods} periods", "give 1 or more of each")
    if not log.sessions:
        raise InputError("log", "it holds no session", "give the sessions to check")
    limits = limits or LogLimits()
    return LogCheck(tuple(_checks(log, behaviour, groups, periods, limits)), log.sessions, log.impressions)


def _checks(log: SessionLog, behaviour: Policy | None, groups: int, periods: int, limits: LogLimits) -> Iterator[Check]:
    never = 1.0 - len(np.unique(log.items[log.items != PAD])) / log.catalogue
    reason = f"{never:.0%} of the catalogue is never shown: nothing can be said of a policy that shows it"
    yield _graded("share of items never shown", never, 0.0, _grade(never, limits.unshown), reason)
    if log.propensity is None and behaviour is None:
        reason = (
            "no propensities, so nothing says how likely each item was: give behaviour=, a clone of the log's policy"
        )
        yield Check("propensities", 0.0, 1.0, float("nan"), "refuse", reason)
        return
    if log.propensity is not None:
        shown = log.propensity[log.items != PAD]
        bad = int((~((shown > 0) & (shown <= 1))).sum())
        reason = f"{bad:,} propensities are not in (0, 1]"
        yield _graded("propensities out of (0, 1]", bad, 0.0, 2 * (bad > 0), reason)
        if bad:
            return
        certain = float((shown > 1 - 1e-6).mean())
        reason = f"{certain:.0%} of items were shown with certainty: there the log knows no other choice"
        yield _graded("share shown with certainty", certain, 0.0, _grade(certain, limits.certain), reason)
    found = exposure(log, behaviour, groups, periods_of(log, periods))
    yield _sum_check(found.over_all(), limits)
    yield _calibration(found.over_all(), limits)
    yield _periods(found, limits)
    if log.propensity is None and isinstance(behaviour, WholeCatalogue):
        table = counts(log, behaviour, groups)
        yield _worst(
            "clone: shown over expected",
            table.ratio()[0, :-1],
            table.errors()[0, :-1],
            limits,
            lambda place: f"the clone is not calibrated: group {place + 1} of items was shown",
            both=True,
        )


def _sum_check(total: Exposure, limits: LogLimits) -> Check:
    ratio, errors = float(total.ratio()[0, -1]), float(total.errors()[0, -1])
    sum_of_all = 1.0 / ratio if ratio > 0 else float("inf")
    chance = float(2 * stats.norm.sf(abs(errors)))
    reason = f"propensities add up to {sum_of_all:.3g} over the catalogue (mean weight of a uniform target {ratio:.3g})"
    reason += "" if ratio > 1 else ": too large, or items that are hardly ever shown"
    return _graded("sum of propensities", sum_of_all, 1.0, _off(ratio, chance, limits), reason, chance)


def _calibration(total: Exposure, limits: LogLimits) -> Check:
    ratios, errors = total.ratio()[0, :-1], total.errors()[0, :-1]

    def words(place: int) -> str:
        return f"group {place + 1} of {len(ratios)} of items was shown"

    return _worst("calibration: worst group's ratio", ratios, errors, limits, words)


def _periods(found: Exposure, limits: LogLimits) -> Check:
    ratios, errors = found.ratio()[:, :-1], found.errors()[:, :-1]
    periods, groups = ratios.shape

    def words(place: int) -> str:
        return f"in period {place // groups + 1} of {periods} group {place % groups + 1} of items was shown"

    return _worst("sample ratio: worst period's", ratios.ravel(), errors.ravel(), limits, words)


def _worst(
    name: str,
    ratios: np.ndarray,
    errors: np.ndarray,
    limits: LogLimits,
    words: Callable[[int], str],
    both: bool = False,
) -> Check:
    """The ratio that weighs most: by its grade, then by how hard it is to explain by chance.

    Chances are corrected for the number of ratios (Bonferroni).
    """
    chances = np.minimum(1.0, len(ratios) * 2 * stats.norm.sf(np.abs(errors)))
    grades = [_off(float(ratio), float(chance), limits, both) for ratio, chance in zip(ratios, chances, strict=True)]
    place = int(np.lexsort((np.abs(errors), grades))[-1])
    ratio = float(ratios[place])
    reason = f"{words(place)} {ratio:.3g} times as often as propensities say"
    return _graded(name, ratio, 1.0, grades[place], reason, float(chances[place]))


def _off(ratio: float, chance: float, limits: LogLimits, both: bool = False) -> int:
    """0, 1 or 2; a ratio below 1 may come from what was not seen, and is 1 at most, unless `both` sides are equal."""
    bounds = zip(limits.off, limits.probability, strict=True)
    grade = sum(abs(ratio - 1.0) > off and chance < probability for off, probability in bounds)
    return grade if ratio > 1 or both else min(grade, 1)


def _grade(value: float, bounds: tuple[float, float]) -> int:
    return sum(value > bound for bound in bounds)


def _graded(name: str, found: float, wanted: float, grade: int, reason: str, chance: float = float("nan")) -> Check:
    return Check(name, float(found), wanted, chance, VERDICTS[grade], reason if grade else "")
