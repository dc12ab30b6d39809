"""Users fitted to KuaiRand's first days, judged on its last two: clicks, likes and long views."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

import recil
from recil.logs.session_log import SessionLog
from recil.sim.additive_rates import fit_additive_rates
from recil.sim.calibration import expected_calibration_error
from recil.sim.card import SimulatorCard, validate
from recil.sim.fit import fit_users
from recil.sim.predict import predict
from recil.sim.reference import ReferenceConfig, fit_reference
from recil.sim.user_config import UserConfig
from recil.sim.users import UserModel

REWARDS = {"click": "clicks", "is_like": "likes", "long_view": "long views"}
RATES = "tab + item + user"
CUT = int(pd.Timestamp("2022-04-29", tz="Asia/Shanghai").timestamp() * 1000)


def parts(folder: Path, reward: str) -> tuple[SessionLog, SessionLog]:
    """What was shown before 29 April 2022 in Beijing, and what from then on.

    Trajectories end where the log does: that says nothing of anybody's leaving, so nobody is taken to have left.
    """
    log = recil.read_log(folder, reward=reward)
    return replace(log, terminated=np.zeros(log.sessions, dtype=bool)).split(by="time", at=CUT)


def with_user_rates(users: UserModel, train: SessionLog) -> UserModel:
    """The users, who must also beat the smoothed rates of tab, item and user together."""
    rates = fit_additive_rates(train, "context_tab", "item", "user")
    return replace(users, baselines={**users.baselines, RATES: rates})  # type: ignore[dict-item]


@dataclass(frozen=True)
class Judged:
    """Cards of users who come to the last two days anew, and led in by the days before; in words, how days differ."""

    anew: SimulatorCard
    led_in: SimulatorCard
    days: str


def judged(
    train: SessionLog,
    test: SessionLog,
    seed: int = 0,
    config: UserConfig | None = None,
    reference_config: ReferenceConfig | None = None,
) -> Judged:
    """Users and a reference fitted to `train`, judged on `test`."""
    users = with_user_rates(fit_users(train, config, seed), train)
    reference = fit_reference(train, reference_config, seed)
    anew = validate(users, test, reference=reference, seed=seed)
    led_in = validate(users, test, reference=reference, before=train, seed=seed)
    return Judged(anew, led_in, _shifts(users, train, test))


def _shifts(users: UserModel, train: SessionLog, test: SessionLog) -> str:
    """Clicks by day, and what the calibration error would be had the level of the two days been known."""
    clicked = test.reward[:, 0]
    parts = []
    for name, before in (("anew", None), ("led in", train)):
        odds = _log_odds(predict(users, test, before=before).click[:, 0])
        shift = _level(odds, clicked)
        error = expected_calibration_error(1 / (1 + np.exp(-odds - shift)), clicked)
        parts.append(f"{name} {shift:+.3f}, leaving {error:.4f}")
    days = [f"{rate:.3f}" for rate in (*_by_day(train), *_by_day(test))]
    return f"observed by day {', '.join(days)}; shift in log-odds that sets the level right: {'; '.join(parts)}"


def _by_day(log: SessionLog) -> Iterator[float]:
    day = (log.timestamp + 8 * 3_600_000) // 86_400_000  # type: ignore[operator]
    for number in np.unique(day):
        if (day == number).sum() > 1000:  # a few minutes of the day before are in the log
            yield float(log.reward[day == number].mean())


def _log_odds(probability: np.ndarray) -> np.ndarray:
    inside = np.clip(probability, 1e-9, 1 - 1e-9)
    return np.log(inside) - np.log1p(-inside)


def _level(odds: np.ndarray, clicked: np.ndarray) -> float:
    """The shift by which predictions have the observed rate, by bisection."""
    low, high = -5.0, 5.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 / (1 + np.exp(-odds - middle))).mean() < clicked.mean() else (low, middle)
    return middle


def section(folder: Path, seed: int = 0) -> str:
    """Markdown."""
    lines = [
        "Fitted to 25–28 April 2022, judged on 29 and 30 April. *Anew*: users come to the two days as simulated users "
        "do; *led in*: they come with what they were shown and clicked before (`validate(..., before=train)`). Gains "
        "are paired, in nats per item shown, with 95% intervals over users. Rates: additive in log-odds, smoothed, of "
        "tab, item and user, each user's own rate of the days before among them.",
        "",
        "| reward | users come | observed | predicted | log loss | calibration error | gain over tab + item rates | "
        "gain over tab + item + user rates | reference | learnable beyond users | verdict |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    days = []
    for reward, words in REWARDS.items():
        found = judged(*parts(folder, reward), seed)
        lines += [_row(words, "anew", found.anew), _row(words, "led in", found.led_in)]
        days.append(f"- {words}: {found.days}.")
        print(*lines[-2:], days[-1], sep="\n", file=sys.stderr, flush=True)  # a reward takes minutes
    after = (
        "What a day is like is in no log of other days: the last two have more clicks than users who are the same "
        "would give. The calibration errors hold that level; how much is level and how much is not:"
    )
    return "\n".join([*lines, "", after, "", *days])


def _row(reward: str, start: str, card: SimulatorCard) -> str:
    users, reference = card.row("users"), card.row("reference")

    def gain(model: str) -> str:
        row = card.row(model)
        return f"{row.versus:+.4f} ± {1.96 * row.error:.4f}"

    gap = f"{-reference.versus:+.4f} ± {1.96 * reference.error:.4f}"
    figures = f"{card.observed_rate:.4f} | {users.mean:.4f} | {users.log_loss:.4f} | {users.calibration_error:.4f}"
    return (
        f"| {reward} | {start} | {figures} | {gain('item, tab')} | {gain(RATES)} | {reference.log_loss:.4f} | {gap} | "
        f"{card.verdict} |"
    )
