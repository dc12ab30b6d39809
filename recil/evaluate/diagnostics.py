"""What decides whether an estimate may be shown: how much of the log it really rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from recil.evaluate.estimators import Leans
from recil.evaluate.sums import SessionSums
from recil.ops.returns import discounts

_CONTRIBUTION: dict[Leans, int] = {"nothing": 0, "session": 1, "step": 2}


@dataclass(frozen=True)
class Diagnostics:
    """Of one estimator on one log.

    sessions            in the log
    rewarded            sessions with any reward
    rewarded_ess        effective number of rewarded sessions: that of |w r|
    ess                 effective sample size of the weights, in sessions
    mean_weight         1, up to its error, where the propensities are right and cover the target
    mean_weight_error   its bootstrap standard error
    largest_share       the heaviest session's share of all weight
    capped_share        share of weights that the cap changed
    unseen_share        share of the target's items that stand nowhere in the log; nan where it plays no part
    fitted_propensities the propensities come from a fitted policy, not from the log
    """

    sessions: int
    rewarded: int
    rewarded_ess: float
    ess: float
    mean_weight: float
    mean_weight_error: float
    largest_share: float
    capped_share: float
    unseen_share: float = math.nan
    fitted_propensities: bool = False

    @property
    def ess_share(self) -> float:
        return self.ess / self.sessions


def diagnose(
    sums: SessionSums, leans_on: Leans, gamma: float, unseen_share: float = math.nan, fitted_propensities: bool = False
) -> Diagnostics:
    """The diagnostics of an estimator that multiplies rewards by these weights.

    With one weight per step the steps count by gamma**t times the sessions that reached them; their effective sample
    sizes are averaged harmonically, for it is variances that add up.
    """
    sessions = int(sums.sessions[0])
    rewarded_ess = float(sums.contributions.effective_size[_CONTRIBUTION[leans_on]])
    if leans_on == "nothing":
        return Diagnostics(sessions, sums.rewarded, rewarded_ess, float(sessions), 1.0, 0.0, 1.0 / sessions, 0.0)
    share = _shares(sums, leans_on, gamma)
    weight = ((sums.weight * sums.unit) @ share) / sums.sessions
    used = share > 0
    return Diagnostics(
        sessions=sessions,
        rewarded=sums.rewarded,
        rewarded_ess=rewarded_ess,
        ess=float(1.0 / (share[used] / sums.weights.effective_size[used]).sum()),
        mean_weight=float(weight[0]),
        mean_weight_error=float(weight[1:][sums.sessions[1:] > 0].std()),
        largest_share=float((share * sums.weights.largest_share)[used].sum()),
        capped_share=float(sums.capped @ share) / sessions,
        unseen_share=unseen_share,
        fitted_propensities=fitted_propensities,
    )


def _shares(sums: SessionSums, leans_on: Leans, gamma: float) -> Tensor:
    """[T], how much the weights at each step count; the whole session's weight is the one at the last step."""
    if leans_on == "session":
        return torch.eye(sums.steps, dtype=torch.float64)[-1]
    share = discounts(sums.steps, gamma, sums.alive) * sums.alive
    return share / share.sum()
