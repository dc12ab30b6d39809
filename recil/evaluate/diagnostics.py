"""What decides whether an estimate may be shown: how much of the log it really rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recil.evaluate.estimators import Leans
from recil.evaluate.spread import Spread, unscale
from recil.evaluate.sums import SessionSums
from recil.evaluate.terms import Weighting
from recil.ops.returns import discounts

_CONTRIBUTION: dict[Leans, int] = {"nothing": 0, "model": 0, "session": 1, "step": 2}


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
    between_fits        standard deviation of the estimate between several fitted policies; nan where there is one
    shrunk_share        share of all weight that the estimator shrinks away
    lost_of_width       value shrunk away with no model in its place, in half widths of the interval
    model_alone         no weight is used at all: a fitted model answers
    bias_of_width       distance of an estimate that is less biased, in half widths of the interval
    bias_error          its standard error
    supposes            what must hold that cannot be read off the log
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
    shrunk_share: float = 0.0
    lost_of_width: float = 0.0
    model_alone: bool = False
    bias_of_width: float = 0.0
    bias_error: float = 0.0
    supposes: str = ""
    between_fits: float = math.nan

    @property
    def ess_share(self) -> float:
        return self.ess / self.sessions


def diagnose(
    sums: SessionSums,
    leans_on: Leans,
    gamma: float,
    unseen_share: float = math.nan,
    fitted_propensities: bool = False,
    weighting: Weighting | None = None,
) -> Diagnostics:
    """The diagnostics of an estimator that multiplies rewards by these weights; `weighting` where they are its own.

    With one weight per step the steps count by gamma**t times the sessions that reached them; their effective sample
    sizes are averaged harmonically, for it is variances that add up.
    """
    sessions = int(sums.sessions[0])
    if weighting is not None:
        return _diagnose_own(sums, weighting, gamma, unseen_share, fitted_propensities)
    rewarded_ess = float(sums.contributions.effective_size[_CONTRIBUTION[leans_on]])
    if leans_on in ("nothing", "model"):
        whole = Diagnostics(sessions, sums.rewarded, rewarded_ess, float(sessions), 1.0, 0.0, 1.0 / sessions, 0.0)
        return replace(whole, unseen_share=unseen_share, model_alone=leans_on == "model")
    share = _shares(sums, leans_on, gamma)
    mean, error = _mean_weight(sums, sums.weight, sums.weights, share)
    return Diagnostics(
        sessions=sessions,
        rewarded=sums.rewarded,
        rewarded_ess=rewarded_ess,
        ess=_effective_size(sums.weights, share),
        mean_weight=mean,
        mean_weight_error=error,
        largest_share=_largest_share(sums.weights, share),
        capped_share=float(sums.capped @ share) / sessions,
        unseen_share=unseen_share,
        fitted_propensities=fitted_propensities,
    )


def _diagnose_own(
    sums: SessionSums, weighting: Weighting, gamma: float, unseen_share: float, fitted_propensities: bool
) -> Diagnostics:
    """The same for an estimator with weights of its own: by step too."""
    own = sums.own_weights(weighting.name)
    share = _shares(sums, "step", gamma)
    mean, error = _mean_weight(sums, own.weight, own.weights, share)
    shrunk = 0.0
    if weighting.shrinks:
        kept = mean
        mean, error = _mean_weight(sums, sums.weight, sums.weights, share)
        shrunk = 1.0 - kept / mean if mean > 0 else 0.0
    elif not weighting.unit_mean:
        mean, error = 1.0, 0.0
    return Diagnostics(
        sessions=int(sums.sessions[0]),
        rewarded=sums.rewarded,
        rewarded_ess=float(own.contributions.effective_size[0]),
        ess=_effective_size(own.weights, share),
        mean_weight=mean,
        mean_weight_error=error,
        largest_share=_largest_share(own.weights, share),
        capped_share=float(sums.capped @ share) / int(sums.sessions[0]),
        unseen_share=unseen_share,
        fitted_propensities=fitted_propensities,
        shrunk_share=shrunk,
    )


def _effective_size(weights: Spread, share: Tensor) -> float:
    used = share > 0
    return float(1.0 / (share[used] / weights.effective_size[used]).sum())


def _largest_share(weights: Spread, share: Tensor) -> float:
    return float((share * weights.largest_share)[share > 0].sum())


def _mean_weight(sums: SessionSums, weight: Tensor, weights: Spread, share: Tensor) -> tuple[float, float]:
    """The mean of weights [R+1, T] over e**scale_t, and its standard error over the replicates."""
    mean = ((weight * unscale(weights.scale)) @ share) / sums.sessions
    return float(mean[0]), float(mean[1:][sums.sessions[1:] > 0].std())


def _shares(sums: SessionSums, leans_on: Leans, gamma: float) -> Tensor:
    """[T], how much the weights at each step count; the whole session's weight is the one at the last step."""
    if leans_on == "session":
        return torch.eye(sums.steps, dtype=torch.float64)[-1]
    share = discounts(sums.steps, gamma, sums.alive) * sums.alive
    return share / share.sum()
