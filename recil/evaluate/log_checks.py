"""Is a log fit to be evaluated on: do its propensities sum to 1, calibrate, and hold at all times?"""

from __future__ import annotations

import textwrap
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from recil.errors import InputError
from recil.evaluate.estimates import WIDTH
from recil.evaluate.exposure import CANDIDATES, FEWEST_SHOWN, Places, places_of
from recil.evaluate.log_rows import Asked, Check, LogLimits, clone_row, grade_of, graded, rows_of
from recil.evaluate.logger_checks import logger_rows
from recil.evaluate.loggers import knows_its_loggers, scored_by, served
from recil.evaluate.misfit import clone_ratios
from recil.evaluate.scoring import WholeCatalogue
from recil.evaluate.verdict import VERDICTS, Verdict
from recil.logs.session_log import PAD, POLICY, SessionLog
from recil.policies.protocol import Policy
from recil.random import Streams

if TYPE_CHECKING:
    import pandas as pd

MOST_SESSIONS = 200_000
_MOST_SHOWN = 400_000


@dataclass(frozen=True)
class LogCheck:
    """All checks of one log; the verdict is the gravest of theirs.

    rows         one a check
    sessions     in the log; impressions: items it shows
    looked_at    sessions that the propensities were checked on
    sees         the smallest error of propensities, item by item or from one half of the log to the other, that would
                 be seen in four of five logs like this one: .18 for propensities 18% too high or too low; nan where
                 there are none
    """

    rows: tuple[Check, ...]
    sessions: int
    impressions: int
    looked_at: int
    sees: float = float("nan")

    @property
    def verdict(self) -> Verdict:
        return max((row.verdict for row in self.rows), key=VERDICTS.index)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Gravest first."""
        graver = sorted(self.rows, key=lambda row: -VERDICTS.index(row.verdict))
        return tuple(row.reason for row in graver if row.reason)

    @property
    def power(self) -> str:
        """`sees` in words; empty where there are no propensities."""
        if np.isnan(self.sees):
            return ""
        if self.sees >= 1.0:
            return "this log is too small to tell right propensities from wrong ones"
        return f"propensities wrong by less than {self.sees:.0%} could not be seen in this log"

    def __getitem__(self, check: str) -> Check:
        for row in self.rows:
            if row.name == check:
                return row
        raise KeyError(f"{check}: not among {', '.join(row.name for row in self.rows)}")

    def to_frame(self) -> pd.DataFrame:
        """One row per check."""
        import pandas as pd

        return pd.DataFrame([vars(row) for row in self.rows])

    def lines(self) -> list[tuple[str, str]]:
        """The checks as (name, value) in words, to stand below a log's summary."""
        rows = [(f"check {row.name}", f"{row.verdict}: {row.found:.4g}, wanted {row.wanted:.4g}") for row in self.rows]
        words = [("reason", reason) for reason in self.reasons]
        return [*rows, ("check verdict", self.verdict), *words, *(("power", word) for word in [self.power] if word)]

    def __str__(self) -> str:
        lines = [f"{'check':<34}{'found':>11}{'wanted':>9}{'chance':>10}  verdict"]
        for row in self.rows:
            chance = "-" if np.isnan(row.chance) else f"{row.chance:.2g}"
            lines.append(f"{row.name:<34}{row.found:>11.4g}{row.wanted:>9.4g}{chance:>10}  {row.verdict}")
        lines.append(f"{self.sessions:,} sessions, {self.impressions:,} items shown: {self.verdict}")
        remarks = [*self.reasons, self.power]
        if 0 < self.looked_at < self.sessions:
            remarks.append(f"propensities were checked on {self.looked_at:,} sessions from all parts of the log")
        for remark in filter(None, remarks):
            lines += textwrap.wrap(f"- {remark}", WIDTH, subsequent_indent="  ")
        return "\n".join(lines)


def check_log(
    log: SessionLog,
    behaviour: Policy | None = None,
    *,
    groups: int = 20,
    periods: int = 10,
    limits: LogLimits | None = None,
    cluster: str | None = None,
) -> LogCheck:
    """Checks a log's propensities or, where it has none, those of `behaviour`, a clone fitted to other sessions.

    sum          what the propensities of all items would add up to: 1 over the mean weight of a uniform target
    constant     the same without chance, where an item always has the same propensity
    calibration  the same by group of items: the one furthest off, and all together
    places       the same by place of the slate
    periods      the same by period of the log (by time, or in its order): a sample-ratio test, and one for drift
    policies     all of this by value of the context column `policy`, the worst; where the log knows the propensities
                 under each of them, `sessions of` and `reward under` each in its place (see `logger_rows`)
    clone        items shown against the clone's own probabilities, by group; where it can weigh the whole catalogue
    A ratio above 1 means propensities below the truth, and is refused. One below 1 may also come from items that are
    hardly ever shown, which no log can tell from items withheld, and so is at most `caution`, unless the propensities
    have a floor or never differ. A context column `candidates`, the number of items that could have stood in the first
    place, takes the place of the catalogue's size; items have no expectation of their own then, and are not looked at
    by group. Propensities are checked on at most some 200,000 sessions from all parts of the log, by `cluster`
    (default: users where the log names them, else sessions). What was found is kept as long as the log is.
    Raises InputError for a log without sessions and for options that mean nothing; a log without propensities is
    refused.
    """
    if groups < 1 or periods < 1:
        raise InputError("check_log", f"{groups} groups, {periods} periods", "give 1 or more of each")
    if not log.sessions:
        raise InputError("log", "it holds no session", "give the sessions to check")
    limits = limits or LogLimits()
    known = _known(log)
    key = (id(behaviour), groups, periods, limits, cluster)
    if key not in known:
        # The policy is kept with its answer, so that no other can come by its id.
        known[key] = (behaviour, _check(log, behaviour, groups, periods, limits, cluster))
    return known[key][1]


_KNOWN: dict[int, dict[Any, tuple[Policy | None, LogCheck]]] = {}


def _known(log: SessionLog) -> dict[Any, tuple[Policy | None, LogCheck]]:
    """What was found of this very log; its content is not looked at, which would cost more than the checks."""
    if id(log) not in _KNOWN:
        _KNOWN[id(log)] = {}
        weakref.finalize(log, _KNOWN.pop, id(log), None).atexit = False
    return _KNOWN[id(log)]


def _check(
    log: SessionLog, behaviour: Policy | None, groups: int, periods: int, limits: LogLimits, cluster: str | None
) -> LogCheck:
    filled = log.items != PAD
    shown = np.bincount(log.items[filled], minlength=log.catalogue)
    impressions = int(shown.sum())
    rows = [*_of_catalogue(shown, limits), *_of_values(log, behaviour, filled, limits)]
    if rows[-1].verdict == "refuse" and rows[-1].name in _HOPELESS:
        return LogCheck(tuple(rows), log.sessions, impressions, 0)
    sample = scored_by(behaviour, _sample(log, impressions))
    fitted = log.propensity is None
    asked = Asked(
        groups=groups,
        periods=periods,
        off=limits.fitted_off if fitted else limits.off,
        probability=limits.fitted_probability if fitted else limits.probability,
        names=log.item_ids.tolist(),
        candidates=CANDIDATES in log.context,
        fitted=fitted,
    )
    places = places_of(sample, behaviour, cluster)
    found, sees = rows_of(places, asked)
    several = knows_its_loggers(sample) and len(served(sample)) > 1
    rows += [*found, *(logger_rows(sample, asked, cluster) if several else _by_policy(sample, places, asked))]
    if fitted and isinstance(behaviour, WholeCatalogue):
        rows.append(clone_row(clone_ratios(sample, behaviour, groups), asked))
    return LogCheck(tuple(rows), log.sessions, impressions, sample.sessions, max(sees, asked.off[0]))


_HOPELESS = ("propensities", "propensities out of (0, 1]")


def _of_catalogue(shown: np.ndarray, limits: LogLimits) -> Iterator[Check]:
    never = float((shown == 0).mean())
    reason = f"{never:.0%} of the catalogue is never shown: nothing can be said of a policy that shows it"
    yield graded("share of items never shown", never, 0.0, grade_of(never, limits.unshown), reason)


def _of_values(log: SessionLog, behaviour: Policy | None, filled: np.ndarray, limits: LogLimits) -> Iterator[Check]:
    if log.propensity is None:
        if behaviour is None:
            reason = "no propensities, so nothing says how likely items were: give behaviour=, a clone of the policy"
            yield Check("propensities", 0.0, 1.0, float("nan"), "refuse", reason)
        return
    shown = log.propensity[filled]
    certain = float((shown > 1 - 1e-6).mean())
    reason = f"{certain:.0%} of items were shown with certainty: there the log knows no other choice"
    yield graded("share shown with certainty", certain, 0.0, grade_of(certain, limits.certain), reason)
    bad = int((~((shown > 0) & (shown <= 1))).sum())
    reason = f"{bad:,} propensities are not in (0, 1]"
    yield graded("propensities out of (0, 1]", bad, 0.0, 2 * (bad > 0), reason)


def _sample(log: SessionLog, impressions: int) -> SessionLog:
    """One session of each run of so many, by chance, so that all periods are there and no order can hide anything."""
    most = min(MOST_SESSIONS, max(1, int(log.sessions * _MOST_SHOWN / max(impressions, 1))))
    if log.sessions <= most:
        return log
    draw = Streams(0).numpy("check_log").random(most)
    chosen = np.minimum(((np.arange(most) + draw) * log.sessions / most).astype(np.int64), log.sessions - 1)
    return (
        replace(log, feedback={}, user_features={}).select(chosen) if log.propensity is not None else log.select(chosen)
    )


def _by_policy(log: SessionLog, places: Places, asked: Asked) -> Iterator[Check]:
    """Each policy's slates by themselves: the gravest row of the worst."""
    column = log.context.get(POLICY)
    if column is None or column.categories is None or column.values.ndim != 1:
        return
    code = column.values[places.step]
    codes, count = np.unique(code, return_counts=True)
    if len(codes) < 2:
        return
    found: list[tuple[str, Check]] = []
    for one in codes[count >= FEWEST_SHOWN]:
        rows, _ = rows_of(places.part(code == one), replace(asked, tests=len(codes)))
        name = "without a name" if one < 0 else str(column.categories[one])
        found += [(name, row) for row in rows]
    if found:
        name, row = max(found, key=lambda pair: (pair[1].grade, -np.nan_to_num(pair[1].chance, nan=1.0)))
        yield replace(row, name="policies: the worst one's worst", reason=row.reason and f"policy {name}: {row.reason}")
