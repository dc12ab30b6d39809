"""The card: whether fitted users can be believed, judged on sessions that the fit never saw."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.sim.calibration import area_under_curve, expected_calibration_error, groups_by_prediction
from recil.sim.predict import predict
from recil.sim.rates import log_losses
from recil.sim.users import UserModel, ends_of


@dataclass(frozen=True)
class CardThresholds:
    """When a card fails. All differences are paired, per session, in standard errors."""

    better_by: float = 2.0
    """Standard errors by which users must beat the constant rate, and the item rates, in log loss."""
    rate_off: float = 4.0
    """Standard errors by which the predicted click rate may miss the observed one before it counts against them,
    overall and in each tenth of the items shown, ordered by prediction."""
    rate_off_refuse: float = 0.25
    """Share of the observed click rate by which the predicted one may miss it before the card fails; of a tenth's rate
    or the overall one, whichever is larger, before a tenth counts."""


@dataclass(frozen=True)
class CardRow:
    """How one model predicts the held-out clicks.

    log_loss: nats per item shown; auc: area under the curve; calibration_error: expected, over ten equal groups;
    mean: predicted clicks per item shown; versus: difference of log loss to the users', per item shown (positive: the
    users are better) and its standard error over sessions.
    """

    model: str
    log_loss: float
    auc: float
    calibration_error: float
    mean: float
    versus: float
    error: float


@dataclass(frozen=True)
class SimulatorCard:
    """What fitted users are worth. verdict: trust, caution or refuse; reasons: why, in words."""

    verdict: str
    reasons: tuple[str, ...]
    rows: tuple[CardRow, ...]
    observed_rate: float
    leave_log_loss: tuple[float, float] | None
    """Of ends of sessions, nats per step: the users', and a constant rate's; None for users who never leave."""
    sessions: int
    impressions: int

    def row(self, model: str) -> CardRow:
        return next(row for row in self.rows if row.model == model)

    def to_frame(self) -> pd.DataFrame:
        """One row per model."""
        return pd.DataFrame([vars(row) for row in self.rows])

    @property
    def table(self) -> str:
        """The card for a terminal, at most 80 columns."""
        head = f"{'model':<16}{'log loss':>10}{'AUC':>8}{'cal. error':>12}{'predicted':>11}{'users gain':>20}"
        lines = [head]
        for row in self.rows:
            gain = "" if row.model == "users" else f"{row.versus:+.5f} ± {1.96 * row.error:.5f}"
            name = row.model if len(row.model) < 16 else row.model[:14] + "…"
            lines.append(
                f"{name:<16}{row.log_loss:>10.5f}{row.auc:>8.3f}{row.calibration_error:>12.5f}{row.mean:>11.5f}{gain:>20}"
            )
        lines.append(
            f"observed rate {self.observed_rate:.5f} over {self.impressions:,} items in {self.sessions:,} sessions"
        )
        if self.leave_log_loss is None:
            lines.append("leaving: unknown, the users were fitted to sessions of one step")
        else:
            users, constant = self.leave_log_loss
            lines.append(f"leaving, log loss per step: users {users:.4f}, constant rate {constant:.4f}")
        lines.append(f"verdict: {self.verdict}")
        lines += [textwrap.fill(reason, 80, initial_indent="  - ", subsequent_indent="    ") for reason in self.reasons]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table

    def plot(self) -> Any:
        """A matplotlib Figure: log loss of each model, the users' gain with its interval."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 2.4), layout="constrained")
        axes = figure.subplots()
        others = [row for row in self.rows if row.model != "users"]
        axes.errorbar(
            [row.versus for row in others], range(len(others)), xerr=[1.96 * row.error for row in others], fmt="o"
        )
        axes.set_yticks(range(len(others)), [row.model for row in others])
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_ylim(-0.5, max(len(others), 1) - 0.5)
        axes.set_xlabel("log loss gained by the users per item shown (95% interval)")
        axes.set_title(f"Simulated users on held-out sessions: {self.verdict}")
        return figure


def _by_session(values: np.ndarray, log: SessionLog, shown: np.ndarray) -> np.ndarray:
    """[S]: sums over each session of a value per item shown."""
    per_step = np.zeros(log.items.shape)
    per_step[shown] = values
    return np.add.reduceat(per_step.sum(1), log.offsets[:-1])


def _ratio_error(sums: np.ndarray, counts: np.ndarray) -> float:
    """Standard error of sum(sums) / sum(counts) over sessions, by the delta method."""
    ratio = sums.sum() / counts.sum()
    return float(np.sqrt(((sums - ratio * counts) ** 2).sum()) / counts.sum())


def _row(model: str, probability: np.ndarray, own: np.ndarray, clicked: np.ndarray, held_out: SessionLog) -> CardRow:
    """How a model's predictions do beside the users' `own`."""
    losses = log_losses(probability, clicked)
    shown = held_out.items >= 0
    gain, counts = (
        _by_session(values, held_out, shown) for values in (losses - log_losses(own, clicked), np.ones(len(own)))
    )
    return CardRow(
        model=model,
        log_loss=float(losses.mean()),
        auc=area_under_curve(probability, clicked),
        calibration_error=expected_calibration_error(probability, clicked),
        mean=float(probability.mean()),
        versus=float(gain.sum() / counts.sum()),
        error=_ratio_error(gain, counts),
    )


def validate(users: UserModel, held_out: SessionLog, thresholds: CardThresholds | None = None) -> SimulatorCard:
    """The card of `users` on sessions they were not fitted to.

    Raises InputError when the log has another catalogue than the users, or other columns than they look at.
    """
    if not np.array_equal(held_out.item_ids, users.item_ids):
        raise InputError("validate", "the held-out log has another catalogue than the users", "split one log in two")
    shown = held_out.items >= 0
    clicked = (held_out.reward[shown] > 0).astype(np.float64)
    predictions = predict(users, held_out)
    own = predictions.click[shown]
    models = {"users": own} | {name: rates.predict(held_out) for name, rates in users.baselines.items()}
    rows = [_row(model, probability, own, clicked, held_out) for model, probability in models.items()]
    limits = thresholds or CardThresholds()
    failed, doubts = _judge_gains(rows, limits)
    impossible = int(np.isneginf(predictions.log_prob).sum())
    if impossible:
        failed.append(f"{impossible} sessions are impossible for these users, such as two clicks on a slate")
    for hard, words in _misses(own, clicked, held_out, limits):
        (failed if hard else doubts).append(words)
    return SimulatorCard(
        verdict="refuse" if failed else "caution" if doubts else "trust",
        reasons=tuple(failed + doubts),
        rows=tuple(rows),
        observed_rate=float(clicked.mean()),
        leave_log_loss=_leaving(predictions.leave, users, held_out),
        sessions=held_out.sessions,
        impressions=int(shown.sum()),
    )


def _leaving(leave: np.ndarray, users: UserModel, held_out: SessionLog) -> tuple[float, float] | None:
    if not users.behaviour.layout.leaves:
        return None
    ends = ends_of(held_out)
    constant = np.full(held_out.steps, users.leaving_rate)
    return float(log_losses(leave, ends).mean()), float(log_losses(constant, ends).mean())


def _judge_gains(rows: list[CardRow], limits: CardThresholds) -> tuple[list[str], list[str]]:
    """What fails the users, and what casts doubt on them, among their gains over the baselines."""
    failed: list[str] = [] if len(rows) > 1 else ["the users bring no baselines to be held against"]
    doubts: list[str] = []
    for row in rows[1:]:
        if not (row.versus > 0 and row.versus >= limits.better_by * row.error):  # neither a tie nor nan passes
            words = f"does not clearly beat {row.model} in log loss ({row.versus:+.5f}, error {row.error:.5f})"
            (failed if row.model == "constant" else doubts).append(words)
    return failed, doubts


def _misses(
    own: np.ndarray, clicked: np.ndarray, held_out: SessionLog, limits: CardThresholds
) -> Iterator[tuple[bool, str]]:
    """Where the predicted click rate misses the observed one: whether that fails the users, and in words."""
    rate = float(clicked.mean())
    if rate == 0:
        yield True, "no click in the held-out sessions: nothing to judge by"
        return
    miss, error = _miss(own, clicked, np.ones(len(own), dtype=bool), held_out)
    if not miss <= limits.rate_off * error:
        words = f"predicts {own.mean():.5f} clicks per item where {rate:.5f} were seen"
        yield not miss <= limits.rate_off_refuse * rate, words
    tenth_of = groups_by_prediction(own)
    tenths = [tenth_of == tenth for tenth in np.unique(tenth_of)]
    off: list[tuple[float, str]] = []
    for within in tenths:
        seen = float(clicked[within].mean())
        miss, error = _miss(own, clicked, within, held_out)
        if not miss <= max(limits.rate_off * error, limits.rate_off_refuse * max(seen, rate)):
            off.append((miss, f"{own[within].mean():.5f} where {seen:.5f} were seen"))
    if off:
        words = f"is off in {len(off)} of {len(tenths)} groups by predicted rate; in the worst, predicts {max(off)[1]}"
        yield False, words


def _miss(own: np.ndarray, clicked: np.ndarray, within: np.ndarray, held_out: SessionLog) -> tuple[float, float]:
    """Distance of predicted and observed clicks per item, of those `within`, and its standard error over sessions."""
    shown = held_out.items >= 0
    excess, counts = (_by_session(values * within, held_out, shown) for values in (own - clicked, np.ones(len(own))))
    return float(abs(excess.sum()) / counts.sum()), _ratio_error(excess, counts)
