"""What the log cannot show of a target, priced: how much of it there is, and what it may be worth at most.

With right propensities the mean of the weights is 1 - m, where m is the target's mass on what the logging policy never
shows, and the value lies in the estimate's expectation plus m times the range of rewards (partial identification;
deficient support: Sachdeva, Su & Joachims 2020). m is seen from two sides: by the target's own slates that hold an item
which the log cannot show, and by a mean weight below 1. The latter also falls short where large weights exist and are
not in the sample; the estimate is too low then just as if support were missing, and it is priced alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from recil.evaluate.estimators import Estimator
from recil.evaluate.rewards import Rewards
from recil.evaluate.spread import Spread, unscale
from recil.evaluate.sums import SessionSums
from recil.ops.returns import discounts

# Chance that a mean weight falls so far short of 1 for no reason: of one step, and shared by the steps of a session.
_CHANCE = 0.02


@dataclass(frozen=True)
class Priced:
    """mass: largest share of the target that is not shown, over steps; low, high: bias at most, in reward a session."""

    mass: float = 0.0
    low: float = 0.0
    high: float = 0.0


def price(
    estimator: Estimator, sums: SessionSums, share: float, rewards: Rewards, value: float, gamma: float
) -> Priced:
    """The bias that an estimate of this value may have from what the log does not show.

    Args:
        estimator: whose weights it multiplies rewards by, and whether it fills in what is not shown.
        sums: of the log's sessions.
        share: of the target's slates that hold an item which the log cannot show.
        rewards: the range that rewards may have.
        value: the estimate.
        gamma: discount by step.
    """
    if estimator.leans_on in ("nothing", "model"):
        mass = torch.zeros(sums.steps, dtype=torch.float64)
    else:
        mass = _missing_weight(estimator, sums)
    if estimator.target:
        steps = torch.arange(1, sums.steps + 1, dtype=torch.float64)
        mass = torch.maximum(mass, 1.0 - (1.0 - share) ** steps).clamp(0.0, 1.0)
    most = float(mass[-1]) if estimator.leans_on == "session" else float(mass.max())
    if not most > 0:
        return Priced()
    by_step = float((mass * discounts(sums.steps, gamma, mass)).sum())
    # A part of the target that leaves what the log shows at any step earns no more than a session can.
    high, low = most * rewards.session_high, most * rewards.session_low
    if estimator.leans_on != "session":
        high, low = min(high, by_step * rewards.high), max(low, by_step * rewards.low)
    if estimator.fills:
        high, low = min(high, most * (rewards.session_high - value)), most * (rewards.session_low - value)
    return Priced(most, max(0.0, -low), max(0.0, high))


def _missing_weight(estimator: Estimator, sums: SessionSums) -> Tensor:
    """By how much the mean weight at each step falls short of 1, and its error, where that is no chance. [T]"""
    weight, weights = sums.weight, sums.weights
    if estimator.weighting is not None and estimator.weighting.unit_mean and not estimator.weighting.shrinks:
        own = sums.own_weights(estimator.weighting.name)
        weight, weights = own.weight, own.weights
    mean, error = mean_weights(weight, weights, sums.sessions)
    short = 1.0 - mean
    capped = sums.capped > 0
    # Means at steps side by side are nearly one: T of them are looked at as 1 + log T.
    errors = float(stats.norm.isf(_CHANCE / (1.0 + math.log(sums.steps))))
    certain = (short > errors * error) | (capped & (short > 0))
    return torch.where(certain, short + error, 0.0).nan_to_num(0.0)


def mean_weights(weight: Tensor, weights: Spread, sessions: Tensor) -> tuple[Tensor, Tensor]:
    """Mean weight at each step and its bootstrap standard error, [T] each; weight [R+1, T] over e**scale."""
    mean = weight / sessions.clamp(min=1.0)[:, None]
    error = mean[1:][sessions[1:] > 0].std(0)
    unit = unscale(weights.scale)
    return mean[0] * unit, error * unit
