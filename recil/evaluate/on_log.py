"""Offline evaluation: what a policy is worth, from sessions that another policy served."""

from __future__ import annotations

import math
from collections.abc import Sequence

from recil.errors import InputError
from recil.evaluate.bootstrap import check_confidence, percentile_interval
from recil.evaluate.diagnostics import diagnose
from recil.evaluate.estimates import Estimate, Estimates, Interval
from recil.evaluate.estimators import ESTIMATORS
from recil.evaluate.pass_over import PassConfig, Unseen, pass_over
from recil.evaluate.sums import SessionSums
from recil.evaluate.verdict import Thresholds, judge
from recil.logs.session_log import SessionLog
from recil.policies.protocol import Policy


def evaluate(
    policy: Policy,
    log: SessionLog,
    *,
    behaviour: Policy | None = None,
    estimators: Sequence[str] | None = None,
    gamma: float = 1.0,
    replicates: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    cap: float | None = None,
    thresholds: Thresholds | None = None,
) -> Estimates:
    """The policy's value J, its expected discounted reward per session, by several estimators from one pass.

    log         sessions that the policy was not trained on
    behaviour   the logging policy as cloned from other sessions; used only where the log has no propensities of its own
    estimators  names out of ESTIMATORS, all when None
    cap         on the weight w_{0:t} itself; it trades variance for bias and is counted in the verdict
    Intervals are session bootstraps (percentiles of `replicates` recomputed estimates). Raises InputError for a log
    without sessions or without propensities, and for options that mean nothing.
    """
    names = check_estimators(estimators)
    check_confidence(confidence)
    model = any(ESTIMATORS[name].needs_model for name in names)
    config = PassConfig(gamma=gamma, cap=cap, replicates=replicates, seed=seed, model=model)
    sums, unseen = pass_over({"policy": policy}, log, behaviour, config)["policy"]
    return estimates_of(
        sums,
        unseen,
        names,
        gamma=gamma,
        confidence=confidence,
        impressions=log.impressions,
        fitted_propensities=log.propensity is None,
        thresholds=thresholds,
    )


def estimates_of(
    sums: SessionSums,
    unseen: Unseen,
    estimators: Sequence[str],
    *,
    gamma: float,
    confidence: float,
    impressions: int,
    fitted_propensities: bool = False,
    thresholds: Thresholds | None = None,
) -> Estimates:
    """Values, intervals and verdicts out of the sums over a log's sessions."""
    rows = []
    for name in estimators:
        estimator = ESTIMATORS[name]
        values = estimator.value(sums)
        # A replicate that took no session is 0 / 0; such and other undefined ones are left out of the interval.
        interval = Interval(float(values[0]), *percentile_interval(values[1:], confidence))
        share = unseen.share if estimator.target else math.nan
        diagnostics = diagnose(sums, estimator.leans_on, gamma, share, fitted_propensities and estimator.target)
        verdict, reasons = judge(*interval, diagnostics, thresholds or Thresholds())
        rows.append(Estimate(name, interval, verdict, reasons, diagnostics, values[1:]))
    return Estimates(tuple(rows), confidence, int(sums.sessions[0]), impressions)


def check_estimators(estimators: Sequence[str] | None) -> tuple[str, ...]:
    """All names when None; an unknown name is refused."""
    if estimators is None:
        return tuple(ESTIMATORS)
    unknown = [name for name in estimators if name not in ESTIMATORS]
    if unknown or not estimators or isinstance(estimators, str):
        raise InputError("estimators", f"{estimators!r} are not known", f"choose among {', '.join(ESTIMATORS)}")
    return tuple(estimators)
