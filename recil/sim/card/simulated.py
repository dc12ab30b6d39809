"""Simulated against logged: what whole sessions add up to, and a classifier told to tell one from the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recil.random import Streams
from recil.sim.card.classifier import told_apart
from recil.sim.card.free_running import free_running
from recil.sim.card.held_out import HeldOut
from recil.sim.card.session_statistics import NAMES, coverage, per_session
from recil.sim.units import error_of_mean
from recil.sim.users import UserModel

# More sessions than this make no verdict any surer, only later.
SESSIONS = 20_000


@dataclass(frozen=True)
class StatisticRow:
    """What sessions add up to, logged and simulated; error: standard error of the difference, over units."""

    name: str
    logged: float
    simulated: float
    error: float


@dataclass(frozen=True)
class Simulated:
    """Simulated against logged clicks on the held-out slates.

    click_area     area under the curve of a classifier told to tell logged clicks from clicks drawn anew, each step
                   after what was logged before it: one half for users who are the truth, whoever chose the slates
    rows           free running: users' moods follow their own simulated clicks, over the whole session
    session_area   of a classifier told to tell logged from free-running sessions. Where the slates reacted to logged
                   clicks the truth itself is told apart, so it is judged only on request
    Areas come with standard errors over units, and are nan where there is too little to learn from.
    """

    click_area: float
    click_error: float
    rows: tuple[StatisticRow, ...]
    session_area: float
    session_error: float
    sessions: int

    def row(self, name: str) -> StatisticRow:
        return next(row for row in self.rows if row.name == name)


def simulated_against_logged(users: UserModel, seen: HeldOut, click: np.ndarray, seed: int) -> Simulated:
    """click: float64 [N, K], the users' predictions for the log; seed: of all draws, folds included."""
    streams, log = Streams(seed).child("card"), seen.log
    if log.sessions > SESSIONS:
        chosen = np.sort(streams.numpy("sessions").permutation(log.sessions)[:SESSIONS])
        click = click[np.concatenate([np.arange(log.offsets[s], log.offsets[s + 1]) for s in chosen])]
        seen = HeldOut(log.select(chosen), seen.cluster)
    click_area, click_error = _clicks_told_apart(click[seen.shown], seen, streams)
    drawn = HeldOut(free_running(users, seen.log, streams))
    real, own = per_session(seen), per_session(drawn)
    units = seen.units.numbers
    area, error = told_apart(real, own, units, units, streams)
    return Simulated(click_area, click_error, _rows(real, own, seen, drawn), area, error, seen.log.sessions)


def _rows(real: np.ndarray, own: np.ndarray, seen: HeldOut, drawn: HeldOut) -> tuple[StatisticRow, ...]:
    """real, own: [S, F] of the same sessions."""
    of = seen.units.of
    errors = error_of_mean(real - own, of)
    means = zip(NAMES, real.mean(0), own.mean(0), errors, strict=True)
    rows = [StatisticRow(name, float(r), float(o), float(e)) for name, r, o, e in means]
    spread = (real[:, 0] - real[:, 0].mean()) ** 2, (own[:, 0] - own[:, 0].mean()) ** 2
    error = float(error_of_mean(spread[0] - spread[1], of))
    rows.insert(1, StatisticRow("variance of clicks", float(spread[0].mean()), float(spread[1].mean()), error))
    return (*rows, StatisticRow("share of items clicked", *coverage(seen, drawn)))


def _clicks_told_apart(own: np.ndarray, seen: HeldOut, streams: Streams) -> tuple[float, float]:
    """Area and error of telling logged clicks from clicks drawn anew, by what is known of each before it happens.

    Only clicks are compared, by where and when they fall. How many there are is told by the rates; among all the items
    that neither side clicked, which are the same, it would be lost.
    """
    unit = seen.unit[seen.row]
    again = streams.numpy("clicks").random(len(own)) < own
    real = seen.clicked > 0
    features = _click_features(own, seen)
    return told_apart(features[real], features[again], unit[real], unit[again], streams)


def _click_features(own: np.ndarray, seen: HeldOut) -> np.ndarray:
    """float64 [M, F] of items shown, all known before the click."""
    before = seen.clicks_before[seen.row]
    shown, taken = seen.past
    step, inside = seen.step[seen.row], np.clip(own, 1e-9, 1 - 1e-9)
    columns = [
        np.log(inside) - np.log1p(-inside),
        seen.position,
        np.log1p(step),
        step == 0,
        seen.popularity,
        before == 0,
        np.log1p(before),
        seen.clicked_last[seen.row],
        shown,
        taken,
        np.log1p(_run_before(seen)[seen.row]),
    ]
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], 1)


def _run_before(seen: HeldOut) -> np.ndarray:
    """[N]: steps with a click in a row just before each step."""
    return np.where(seen.step > 0, np.concatenate([[0], seen.run[:-1]]), 0)
