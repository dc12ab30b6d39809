"""Offline evaluation: what a policy is worth, from sessions that another policy served."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from recil.evaluate.bootstrap import check_confidence
from recil.evaluate.diagnostics import Diagnostics, diagnose
from recil.evaluate.estimates import Estimate, Estimates, Interval, interval_of
from recil.evaluate.estimators import Estimator, find, find_all
from recil.evaluate.pass_over import PassConfig, Unseen, pass_over
from recil.evaluate.propensities import behaviours_of, over_behaviours, propensity_calibration
from recil.evaluate.scoring import WholeCatalogue
from recil.evaluate.sums import SessionSums
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
) -> Estimates:
    """The policy's value J, its expected discounted reward per session, by several estimators from one pass.

    log         sessions that the policy was not trained on
    behaviour   the logging policy as cloned from other sessions; used only where the log has no propensities itself.
                Several clones (of bootstraps, folds or seeds; five or more): the interval has what differs between them
    estimators  out of TABLE by name ("cips(5)": with its knob at 5), or your own; those of ESTIMATORS when None
    state, category  the context column that is the state, for mis; the items' column that is their category, for mips
    cap         on the weight w_{0:t} itself; it trades variance for bias and is counted in the verdict
    Intervals are session bootstraps: `replicates` recomputed estimates, their percentiles corrected for skewness.
    Raises InputError for a log without sessions or without propensities, and for options that mean nothing.
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
    behaviours = behaviours_of(behaviour, log)
    (sums, unseen), *others = (pass_over({"policy": policy}, log, one, config)["policy"] for one in behaviours)
    estimates = estimates_of(
        sums,
        unseen,
        asked,
        gamma=gamma,
        confidence=confidence,
        impressions=log.impressions,
        fitted_propensities=log.propensity is None,
        thresholds=thresholds,
        others=[other for other, _ in others],
    )
    if log.propensity is None and isinstance(behaviours[0], WholeCatalogue):
        return replace(estimates, propensities=propensity_calibration(log, behaviours[0]))
    return estimates


def estimates_of(
    sums: SessionSums,
    unseen: Unseen,
    estimators: Sequence[str | Estimator],
    *,
    gamma: float,
    confidence: float,
    impressions: int,
    fitted_propensities: bool = False,
    thresholds: Thresholds | None = None,
    others: Sequence[SessionSums] = (),
) -> Estimates:
    """Values, intervals and verdicts out of the sums over a log's sessions.

    others  sums of the same sessions with other fitted propensities; diagnostics are those of the first
    """
    rows = []
    for estimator in map(find, estimators):
        apart = [estimator.value(one) for one in (sums, *(others if estimator.target else ()))]
        values, between = over_behaviours(torch.stack(apart))
        interval = interval_of(values, confidence, between, len(apart))
        share = unseen.share if estimator.target else math.nan
        fitted = fitted_propensities and estimator.target
        seen = diagnose(sums, estimator.leans_on, gamma, share, fitted, estimator.weighting)
        seen = replace(seen, supposes=estimator.supposes, between_fits=between)
        diagnostics = _with_bias(seen, apart[0], interval, estimator, sums)
        verdict, reasons = judge(*interval, diagnostics, thresholds or Thresholds())
        rows.append(
            Estimate(estimator.name, interval, verdict, reasons, diagnostics, values[1:], estimator.target, len(apart))
        )
    return Estimates(tuple(rows), confidence, int(sums.sessions[0]), impressions)


def _with_bias(
    seen: Diagnostics, values: Tensor, interval: Interval, estimator: Estimator, sums: SessionSums
) -> Diagnostics:
    """What is known of the bias, in half widths: what is shrunk away, and how far a less biased estimate lies."""
    half = 0.5 * (interval.high - interval.low)
    if estimator.against is None or not half > 0:
        return seen
    apart = (values - estimator.against.value(sums)) / half
    return replace(
        seen,
        lost_of_width=0.0 if estimator.needs_model else seen.shrunk_share * abs(interval.value) / half,
        bias_of_width=abs(float(apart[0])),
        bias_error=float(apart[1:][~apart[1:].isnan()].std()),
    )


def check_estimators(estimators: Sequence[str] | None) -> tuple[str, ...]:
    """Their names, the usual ones when None; an unknown name is refused."""
    return tuple(estimator.name for estimator in find_all(estimators))
