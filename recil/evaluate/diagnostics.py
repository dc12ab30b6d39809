"""What decides whether an estimate may be shown: how much of the log it really rests on, and what the log lacks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recil.evaluate.estimators import Estimator, Leans
from recil.evaluate.facts import LogFacts
from recil.evaluate.influence import UnitSums
from recil.evaluate.pass_over import Passed
from recil.evaluate.spread import Spread, unscale
from recil.evaluate.sums import SessionSums
from recil.ops.returns import discounts

# Columns of contributions and influences.
COLUMN: dict[Leans, int] = {"nothing": 0, "model": 0, "session": 1, "step": 2, "own": 2}


@dataclass(frozen=True)
class Diagnostics:
    """Of one estimator on one log.

    sessions            in the log
    rewarded            sessions with any reward
    rewarded_ess        effective number of rewarded sessions: that of |w r|
    ess                 effective sample size of the weights, in units (users, where the log names them)
    mean_weight         1, up to its error, where the propensities are right and cover the target
    mean_weight_error   its bootstrap standard error
    largest_share       the heaviest unit's share of all weight
    capped_share        share of weights that the cap changed
    unseen_share        share of the target's slates with an item that the log cannot show; nan where it plays no part
    fitted_propensities the propensities come from a fitted policy, not from the log
    between_fits        standard deviation of the estimate between several fitted policies; nan where there is one
    shrunk_share        share of all weight that the estimator shrinks away
    lost_of_width       value shrunk away with no model in its place, in half widths of the interval
    model_alone         no weight is used at all: a fitted model answers
    bias_of_width       distance of an estimate that is less biased, in half widths of the interval
    bias_error          its standard error
    supposes            what must hold that cannot be read off the log
    assumed             the caller vouches for that
    unit                what counts as independent: session, user, or a column
    effective_units     number of units, fewer where some have many more sessions than others
    skewness            a bound on the skewness of the estimate: 1 where one unit decides it
    tail_index          of the sizes of rewards, its lower limit; see Rewards
    flat                rewards are of one size, or nearly
    two_sided           rewards lie on both sides of 0
    known_range         rewards may differ, as the log shows or as was declared
    priced              the bias that what is not shown may bring at most, the larger side, in half widths
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
    assumed: bool = False
    between_fits: float = math.nan
    unit: str = "session"
    effective_units: float = math.inf
    skewness: float = 0.0
    tail_index: float = math.inf
    flat: bool = True
    two_sided: bool = False
    known_range: bool = True
    priced: float = 0.0

    @property
    def ess_share(self) -> float:
        """Effective units of all there are."""
        return self.ess / min(float(self.sessions), self.effective_units)

    @property
    def units(self) -> str:
        return f"{self.unit}s"


def diagnose(estimator: Estimator, passed: Passed, facts: LogFacts, gamma: float) -> Diagnostics:
    """The diagnostics of an estimator by the weights that it multiplies rewards by.

    With one weight per step the steps count by gamma**t times the sessions that reached them; their effective sample
    sizes are averaged harmonically, for it is variances that add up.
    """
    sums, column = passed.sums, COLUMN[estimator.leans_on]
    influence = sums.influence if passed.units is None else passed.units.totals()
    units = float(sums.sessions[0]) if passed.units is None else passed.units.effective_sessions
    weighed = _without_weights(sums) if estimator.leans_on in ("nothing", "model") else _weighed(estimator, sums, gamma)
    if passed.units is not None:
        weighed = _by_unit(weighed, passed.units, sums)
    return replace(
        weighed,
        model_alone=estimator.leans_on == "model",
        unseen_share=passed.support.share if estimator.target else math.nan,
        fitted_propensities=facts.fitted_propensities and estimator.target,
        supposes=estimator.supposes,
        unit=facts.unit,
        effective_units=units,
        skewness=float(influence.skewness[column]),
        tail_index=facts.rewards.tail_index,
        flat=facts.rewards.flat,
        two_sided=facts.rewards.low < 0 < facts.rewards.high,
        known_range=facts.rewards.span > 0,
    )


def _without_weights(sums: SessionSums) -> Diagnostics:
    sessions = int(sums.sessions[0])
    rewarded = float(sums.contributions.effective_size[0])
    return Diagnostics(sessions, sums.rewarded, rewarded, float(sessions), 1.0, 0.0, 1.0 / sessions, 0.0)


def _weighed(estimator: Estimator, sums: SessionSums, gamma: float) -> Diagnostics:
    share = _shares(sums, estimator.leans_on, gamma)
    weight, weights, shrunk = sums.weight, sums.weights, 0.0
    rewarded = float(sums.contributions.effective_size[COLUMN[estimator.leans_on]])
    mean, error = _mean_weight(sums, weight, weights, share)
    if (weighting := estimator.weighting) is not None:
        own = sums.own_weights(weighting.name)
        weight, weights, rewarded = own.weight, own.weights, float(own.contributions.effective_size[0])
        kept, kept_error = _mean_weight(sums, weight, weights, share)
        if weighting.shrinks:
            shrunk = 1.0 - kept / mean if mean > 0 else 0.0
        else:
            mean, error = (kept, kept_error) if weighting.unit_mean else (1.0, 0.0)
    return Diagnostics(
        sessions=int(sums.sessions[0]),
        rewarded=sums.rewarded,
        rewarded_ess=rewarded,
        ess=_effective_size(weights, share),
        mean_weight=mean,
        mean_weight_error=error,
        largest_share=_largest_share(weights, share),
        capped_share=float(sums.capped @ share) / int(sums.sessions[0]),
        shrunk_share=shrunk,
    )


def _by_unit(seen: Diagnostics, units: UnitSums, sums: SessionSums) -> Diagnostics:
    """Sizes in units: by as much fewer as the weights of whole sessions have fewer effective units than sessions."""
    if seen.ess == seen.sessions and not seen.mean_weight_error:
        heaviest = float(units.sessions.max() / units.sessions.sum())
        return replace(seen, ess=units.effective_sessions, largest_share=heaviest)
    fewer = min(1.0, units.effective_weights / max(float(sums.weights.effective_size[-1]), 1e-300))
    return replace(seen, ess=seen.ess * fewer, largest_share=max(seen.largest_share, units.largest_share))


def _effective_size(weights: Spread, share: Tensor) -> float:
    used = share > 0
    return float(1.0 / (share[used] / weights.effective_size[used]).sum())


def _largest_share(weights: Spread, share: Tensor) -> float:
    return float((share * weights.largest_share)[share > 0].sum())


def _mean_weight(sums: SessionSums, weight: Tensor, weights: Spread, share: Tensor) -> tuple[float, float]:
    """The mean of weights [R+1, T] over e**scale_t, and its standard error over the replicates."""
    mean = ((weight * unscale(weights.scale)) @ share) / sums.sessions
    largest = mean.abs().max().clamp(min=1e-300)
    return float(mean[0]), float((mean[1:][sums.sessions[1:] > 0] / largest).std() * largest)


def _shares(sums: SessionSums, leans_on: Leans, gamma: float) -> Tensor:
    """[T], how much the weights at each step count; the whole session's weight is the one at the last step."""
    if leans_on == "session":
        return torch.eye(sums.steps, dtype=torch.float64)[-1]
    share = discounts(sums.steps, gamma, sums.alive) * sums.alive
    return share / share.sum()
