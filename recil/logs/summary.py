"""What is in a log, on one screen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from textwrap import wrap

import numpy as np
import pandas as pd

from recil.logs.history import PAD
from recil.logs.session_log import SessionLog

_EARLIEST, _LATEST = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1995, 2100))

WIDTH = 80
QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class LogSummary:
    """Counts and rates of a log; prints as a table of at most 80 columns.

    reward: its column; reward_per_item: mean over items shown; reward_per_session: mean sum over sessions;
    sessions_with_reward: share whose rewards are not all 0; length: quantiles 0, 25, 50, 75, 95 and 100% of the steps
    of a session; shown_per_step: mean items in a slate; propensity: (smallest, mean) or None; policies: those that the
    log knows the probabilities under, beside the row's own; time: (first, last)
    or None; terminated: share of sessions that the user left, or None; users, item counts: distinct;
    notes: as in the log.
    """

    sessions: int
    steps: int
    impressions: int
    items: int
    items_shown: int
    users: int | None
    reward: str
    reward_per_item: float
    reward_per_session: float
    sessions_with_reward: float
    length: tuple[float, ...]
    length_mean: float
    slate_size: int
    shown_per_step: float
    propensity: tuple[float, float] | None
    time: tuple[int, int] | None
    terminated: float | None
    feedback: tuple[str, ...]
    policies: tuple[str, ...]
    context: tuple[str, ...]
    user_features: tuple[str, ...]
    item_features: tuple[str, ...]
    notes: tuple[tuple[str, int], ...]

    def lines(self) -> list[tuple[str, str]]:
        """The table as (name, value) in words."""
        smallest, *middle, largest = (f"{value:g}" for value in self.length)
        return [
            ("sessions", f"{self.sessions:,}"),
            ("steps", f"{self.steps:,}"),
            ("items shown", f"{self.impressions:,}"),
            ("catalogue", f"{self.items:,} items, {self.items_shown:,} of them shown"),
            ("users", "unknown" if self.users is None else f"{self.users:,}"),
            (
                "reward",
                f"{self.reward}: {self.reward_per_item:.4g} per item shown, {self.reward_per_session:.4g} per session",
            ),
            ("", f"{self.sessions_with_reward:.1%} of sessions have some"),
            (
                "session length",
                f"mean {self.length_mean:.3g}, {smallest} to {largest}, 25/50/75/95%: {' / '.join(middle)}",
            ),
            ("slate", f"{self.slate_size} slots, {self.shown_per_step:.3g} filled on average"),
            (
                "propensities",
                "none"
                if self.propensity is None
                else f"smallest {self.propensity[0]:.3g}, mean {self.propensity[1]:.3g}",
            ),
            *([("", f"and under each of the policies {', '.join(self.policies)}")] if self.policies else []),
            ("time", "none" if self.time is None else _period(*self.time)),
            ("user left", "unknown" if self.terminated is None else f"{self.terminated:.1%} of sessions"),
            ("feedback", ", ".join(self.feedback) or "none"),
            ("context", ", ".join(self.context) or "none"),
            ("user features", ", ".join(self.user_features) or "none"),
            ("item features", ", ".join(self.item_features) or "none"),
            *(("note", f"{words}: {number:,}") for words, number in self.notes),
        ]

    def __str__(self) -> str:
        return "\n".join(
            f"{name if first else '':<15} {part}"
            for name, value in self.lines()
            for first, part in ((at == 0, part) for at, part in enumerate(wrap(value, WIDTH - 16)))
        )

    def to_frame(self) -> pd.DataFrame:
        """The same as a table with the columns `what` and `value`."""
        return pd.DataFrame(self.lines(), columns=["what", "value"])


def summarise(log: SessionLog) -> LogSummary:
    """The summary of a log; logs of one session and logs without any reward are summarised like others, and noted."""
    shown = log.items != PAD
    reward = np.where(shown, log.reward, 0.0).astype(np.float64)
    of_session = np.add.reduceat(reward.sum(1), log.offsets[:-1])
    rewarded = np.add.reduceat((reward != 0).sum(1), log.offsets[:-1]) > 0
    notes = dict(log.notes)
    if not rewarded.any():
        notes["sessions, none of which has any reward"] = log.sessions
    propensity = None if log.propensity is None else log.propensity[shown].astype(np.float64)
    return LogSummary(
        sessions=log.sessions,
        steps=log.steps,
        impressions=log.impressions,
        items=log.catalogue,
        items_shown=len(np.unique(log.items[shown])),
        users=None if log.user_ids is None else len(np.unique(log.user_ids)),
        reward=log.reward_name,
        reward_per_item=float(reward[shown].mean()),
        reward_per_session=float(of_session.mean()),
        sessions_with_reward=float(rewarded.mean()),
        length=tuple(float(value) for value in np.quantile(log.lengths, QUANTILES)),
        length_mean=float(log.lengths.mean()),
        slate_size=log.slate_size,
        shown_per_step=float(shown.sum(1).mean()),
        propensity=None if propensity is None else (float(propensity.min()), float(propensity.mean())),
        time=None if log.timestamp is None else (int(log.timestamp.min()), int(log.timestamp.max())),
        terminated=None if log.terminated is None else float(log.terminated.mean()),
        feedback=tuple(log.feedback),
        policies=tuple(log.propensity_of),
        context=tuple(log.context),
        user_features=tuple(log.user_features),
        item_features=tuple(log.item_features),
        notes=tuple(notes.items()),
    )


def _period(first: int, last: int) -> str:
    """Dates where both are times since 1970 between 1995 and 2100, whose size tells their unit; else the numbers."""
    for a_second, unit in ((1, "seconds"), (10**3, "milliseconds"), (10**6, "microseconds"), (10**9, "nanoseconds")):
        begins, ends = first // a_second, last // a_second
        if _EARLIEST <= begins <= ends < _LATEST:
            dates = (f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M}" for time in (begins, ends))
            return f"{' to '.join(dates)} UTC, in {unit}"
    return f"{first} to {last}"
