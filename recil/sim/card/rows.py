"""How models predict the held-out clicks, beside the users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recil.sim.calibration import area_under_curve, expected_calibration_error
from recil.sim.card.held_out import HeldOut
from recil.sim.rates import log_losses


@dataclass(frozen=True)
class CardRow:
    """How one model predicts the held-out clicks.

    log_loss: nats per item shown; auc: area under the curve; calibration_error: expected, over ten equal groups;
    mean: predicted clicks per item shown; versus: difference of log loss to the users', per item shown (positive: the
    users are better) and its standard error over units (users, or sessions where the log names none).
    """

    model: str
    log_loss: float
    auc: float
    calibration_error: float
    mean: float
    versus: float
    error: float


def row_of(model: str, probability: np.ndarray, own: np.ndarray, seen: HeldOut) -> CardRow:
    """How a model's predictions [M] do beside the users' `own` [M]."""
    losses = log_losses(probability, seen.clicked)
    versus, error = seen.mean_per_item(losses - log_losses(own, seen.clicked))
    return CardRow(
        model=model,
        log_loss=float(losses.mean()),
        auc=area_under_curve(probability, seen.clicked),
        calibration_error=expected_calibration_error(probability, seen.clicked),
        mean=float(probability.mean()),
        versus=versus,
        error=error,
    )
