"""Offline evaluation: what a policy is worth, from sessions that another policy served."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from recil.evaluate.bootstrap import check_confidence
from recil.evaluate.diagnostics import COLUMN, Diagnostics, diagnose
from recil.evaluate.estimates import Estimate, Estimates, interval_of
from recil.evaluate.estimators import Estimator, find, find_all
from recil.evaluate.facts import LogFacts
from recil.evaluate.facts_of_log import facts_of
from recil.evaluate.loggers import balanced_where_known
from recil.evaluate.margins import Margins
from recil.evaluate.pass_over import PassConfig, Passed, check, pass_over
from recil.evaluate.propensities import behaviours_of, over_behaviours, propensity_calibration
from recil.evaluate.rewards import Rewards
from recil.evaluate.scoring import WholeCatalogue
from recil.evaluate.spread import unscale
from recil.evaluate.sums import SessionSums
from recil.evaluate.unseen import price
from recil.evaluate.verdict import Thresholds, judge
from recil.logs.session_log import SessionLog
from recil.policies.protocol import Policy


def evaluate(
    policy: Policy,
    log: SessionLog,
    *,
    behaviour: Policy | Sequence[Policy] | None = None,
    estimators: Sequence[str | Estimator] | None = None,
    gamma: float = 1.0,
    replicates: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    cap: float | None = None,
    thresholds: Thresholds | None = None,
    state: str | None = None,
    category: str | None = None,
    cluster: str | None = None,
    reward_range: tuple[float, float] | None = None,
    assume: Collection[str | Estimator] = (),
) -> Estimates:
    """The policy's value J, its expected discounted reward per session, by several estimators from one pass.

    Args:
        policy: the target.
        log: sessions that the policy was not trained on.
        behaviour: the logging policy as cloned from other sessions; used only where the log has no propensities itself.
            Several clones (of bootstraps, folds or seeds; five or more): the interval has what differs between them.
        estimators: out of TABLE by name ("cips(5)": with its knob at 5), or your own; those of ESTIMATORS when None.
        gamma: discount by step.
        replicates: recomputed estimates that intervals are read off.
        confidence: of the intervals.
        seed: of the bootstrap's counts and of the target's own slates.
        cap: on the weight w_{0:t} itself; it trades variance for bias and is counted in the verdict.
        thresholds: of the verdict.
        state: the context column that is the state, for mis.
        category: the items' column that is their category, for mips.
        cluster: what is independent: "user", "session" or a column; None: users where the log names them.
        reward_range: least and largest reward that one slate can have; None: as the log shows.
        assume: estimators whose supposition you vouch for: they are given `caution` where they would be refused.

    Raises:
        InputError: a log without sessions or without propensities, and options that mean nothing.
    """
    asked = find_all(estimators)
    check_confidence(confidence)
    config = PassConfig(
        gamma=gamma,
        cap=cap,
        replicates=replicates,
        seed=seed,
        model=any(estimator.needs_model for estimator in asked),
        estimators=asked,
        state=state,
        category=category,
    )
    log = balanced_where_known(log)
    behaviours = behaviours_of(behaviour, log)
    check({"policy": policy}, log, behaviours[0])
    facts = facts_of(log, behaviours[0], gamma=gamma, cluster=cluster, reward_range=reward_range)
    passed, *others = (pass_over({"policy": policy}, log, one, config, facts)["policy"] for one in behaviours)
    estimates = estimates_of(
        passed,
        asked,
        facts,
        gamma=gamma,
        confidence=confidence,
        thresholds=thresholds,
        others=[other.sums for other in others],
        assume=assume,
    )
    if log.propensity is None and isinstance(behaviours[0], WholeCatalogue):
        return replace(estimates, propensities=propensity_calibration(log, behaviours[0]))
    return estimates


def estimates_of(
    passed: Passed,
    estimators: Sequence[str | Estimator],
    facts: LogFacts,
    *,
    gamma: float = 1.0,
    confidence: float = 0.95,
    thresholds: Thresholds | None = None,
    others: Sequence[SessionSums] = (),
    assume: Collection[str | Estimator] = (),
) -> Estimates:
    """Values, intervals and verdicts out of what a pass over a log left.

    others  sums of the same sessions with other fitted propensities; diagnostics are those of the first
    """
    vouched = {find(name).name for name in assume}
    rows = []
    for estimator in map(find, estimators):
        apart = [estimator.value(one) for one in (passed.sums, *(others if estimator.target else ()))]
        values, between = over_behaviours(torch.stack(apart))
        seen = replace(
            diagnose(estimator, passed, facts, gamma), between_fits=between, assumed=estimator.name in vouched
        )
        margins = margins_of(estimator, passed, facts, seen, values, gamma)
        interval = interval_of(values, confidence, margins, between, len(apart))
        half = 0.5 * sum(abs(end - interval.value) for end in margins.noise(interval.value, values[1:], confidence))
        diagnostics = _with_bias(seen, apart[0], half, margins, estimator, passed.sums)
        verdict, reasons = judge(*interval, diagnostics, thresholds or Thresholds(), facts.faults)
        rows.append(
            Estimate(
                estimator.name,
                interval,
                verdict,
                reasons,
                diagnostics,
                values[1:],
                estimator.target,
                len(apart),
                margins,
            )
        )
    return Estimates(
        tuple(rows), confidence, facts.sessions, facts.impressions, facts.units_in_words, facts.rewards.words
    )


def margins_of(
    estimator: Estimator, passed: Passed, facts: LogFacts, seen: Diagnostics, values: Tensor, gamma: float
) -> Margins:
    """What the interval of an estimate needs beyond its replicates; values [R+1]."""
    sums, rewards, value = passed.sums, facts.rewards, float(values[0])
    priced = price(estimator, sums, passed.support.most if estimator.target else 0.0, rewards, value, gamma)
    heaviest = _heaviest(estimator, sums)
    low, high = _reach(estimator, rewards, value)
    influence = passed.units.totals() if passed.units is not None else None
    unit = 0.0 if influence is None else float(influence.largest[COLUMN[estimator.leans_on]])
    # What happens with probability 3/n or less is absent from n sessions in 5% of logs.
    rare = 3.0 / max(seen.ess, 1.0)
    return Margins(
        units=max(seen.ess, 1.0),
        more_low=max(unit, heaviest * low) / facts.sessions,
        more_high=max(unit, heaviest * high) / facts.sessions,
        below=rewards.session_low if rewards.low >= 0 else -math.inf,
        above=rewards.session_high if estimator.fills or not estimator.target else math.inf,
        spread=_spread(values[1:]),
        steady=rewards.flat,
        unseen_low=priced.low + rare * rewards.gap_low,
        unseen_high=priced.high + rare * rewards.gap_high,
    )


def _spread(replicates: Tensor) -> float:
    """Their standard deviation; those in which the estimate is undefined are left out."""
    defined = replicates[replicates.isfinite()]
    return float(defined.std()) if len(defined) > 1 else math.nan


def _reach(estimator: Estimator, rewards: Rewards, value: float) -> tuple[float, float]:
    """How far the reward of one slate may lie below and above what an estimate counts from."""
    if estimator.fills or not estimator.target:
        return (
            max(0.0, min(rewards.span, value - rewards.session_low)),
            max(0.0, min(rewards.span, rewards.session_high - value)),
        )
    return max(0.0, -rewards.low), max(0.0, rewards.high)


def _heaviest(estimator: Estimator, sums: SessionSums) -> float:
    """The largest weight by which a reward was multiplied."""
    if estimator.leans_on in ("nothing", "model"):
        return 1.0
    scale = sums.weights.scale
    if estimator.weighting is not None:
        scale = sums.own_weights(estimator.weighting.name).weights.scale
    return float(unscale(scale[-1:] if estimator.leans_on == "session" else scale).max())


def _with_bias(
    seen: Diagnostics, values: Tensor, half: float, margins: Margins, estimator: Estimator, sums: SessionSums
) -> Diagnostics:
    """What is known of the bias, in half widths of the interval's noise."""
    if not half > 0:
        return seen
    seen = replace(seen, priced=max(margins.unseen_low, margins.unseen_high) / half)
    if estimator.against is None:
        return seen
    apart = (values - estimator.against.value(sums)) / half
    return replace(
        seen,
        lost_of_width=0.0 if estimator.needs_model else seen.shrunk_share * abs(float(values[0])) / half,
        bias_of_width=abs(float(apart[0])),
        bias_error=_spread(apart[1:]),
    )


def check_estimators(estimators: Sequence[str] | None) -> tuple[str, ...]:
    """Their names, the usual ones when None; an unknown name is refused."""
    return tuple(estimator.name for estimator in find_all(estimators))
