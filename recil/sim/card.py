"""The card: whether fitted users can be believed, judged on sessions that the fit never saw."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.sim.calibration import area_under_curve, expected_calibration_error
from recil.sim.predict import predict
from recil.sim.rates import log_losses
from recil.sim.users import UserModel, ends_of


@dataclass(frozen=True)
class CardThresholds:
    """When a card fails. All differences are paired, per session, in standard errors."""

    better_by: float = 2.0
    """Standard errors by which users must beat the constant rate, and the item rates, in log loss."""
    rate_off: float = 4.0
    """Standard errors by which the predicted click rate may miss the observed one before it counts against them."""
    rate_off_refuse: float = 0.25
    """Share of the observed click rate by which the predicted one may miss it before the card fails."""


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
    counts = _by_session(np.ones(len(clicked)), held_out, shown)
    models = {"users": own} | {name: rates.predict(held_out) for name, rates in users.baselines.items()}
    rows = []
    for model, probability in models.items():
        losses = log_losses(probability, clicked)
        gain = _by_session(losses - log_losses(own, clicked), held_out, shown)
        rows.append(
            CardRow(
                model=model,
                log_loss=float(losses.mean()),
                auc=area_under_curve(probability, clicked),
                calibration_error=expected_calibration_error(probability, clicked),
                mean=float(probability.mean()),
                versus=float(gain.sum() / counts.sum()),
                error=_ratio_error(gain, counts),
            )
        )
    excess = _by_session(own - clicked, held_out, shown)
    off = (float(excess.sum() / counts.sum()), _ratio_error(excess, counts))
    impossible = int(np.isneginf(predictions.log_prob).sum())
    verdict, reasons = _judge(rows, off, float(clicked.mean()), impossible, thresholds or CardThresholds())
    return SimulatorCard(
        verdict=verdict,
        reasons=reasons,
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


def _judge(
    rows: list[CardRow], off: tuple[float, float], rate: float, impossible: int, limits: CardThresholds
) -> tuple[str, tuple[str, ...]]:
    """Verdict and reasons.

    off: predicted minus observed clicks per item shown, and its standard error; rate: the observed one; impossible:
    sessions that these users would never have.
    """
    failed: list[str] = []
    doubts: list[str] = []
    if impossible:
        failed.append(f"{impossible} sessions are impossible for these users, such as two clicks on a slate")
    for row in rows[1:]:
        if not (row.versus > 0 and row.versus >= limits.better_by * row.error):  # neither a tie nor nan passes
            words = f"does not clearly beat {row.model} in log loss ({row.versus:+.5f}, error {row.error:.5f})"
            (failed if row.model == "constant" else doubts).append(words)
    if len(rows) == 1:
        failed.append("the users bring no baselines to be held against")
    excess, error = off
    if rate == 0:
        failed.append("no click in the held-out sessions: nothing to judge by")
    elif not abs(excess) <= limits.rate_off * error:
        words = f"predicts {rows[0].mean:.5f} clicks per item where {rate:.5f} were seen"
        (doubts if abs(excess) <= limits.rate_off_refuse * rate else failed).append(words)
    if failed:
        return "refuse", tuple(failed + doubts)
    return ("caution", tuple(doubts)) if doubts else ("trust", ())
