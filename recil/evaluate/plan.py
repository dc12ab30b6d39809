"""What more sessions, or a share of sessions served by the target, would do for an estimate: before they are collected.

A plan takes today's estimate and works out what its interval and its diagnostics would be: from the moments of
`recil.evaluate.exploration`, by the same margins and thresholds by which `evaluate` judges. What does not get better
with more sessions is found by judging with very many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from recil.errors import InputError
from recil.evaluate.bootstrap import check_confidence
from recil.evaluate.estimates import PREFERENCE, Estimate
from recil.evaluate.estimators import Estimator, find
from recil.evaluate.exploration import PLANNED, Centre, moments_of
from recil.evaluate.facts import LogFacts
from recil.evaluate.facts_of_log import facts_of
from recil.evaluate.log_checks import check_log
from recil.evaluate.missing import Missing
from recil.evaluate.on_log import estimates_of
from recil.evaluate.outlook import MOST_SESSIONS, Outlook
from recil.evaluate.pass_over import PassConfig, Passed, check, pass_over
from recil.evaluate.planned import Plan
from recil.evaluate.unseen import price
from recil.evaluate.verdict import Thresholds
from recil.logs.session_log import SessionLog
from recil.ops.returns import discounts
from recil.policies.protocol import Policy

EXPLORE = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_TIMES = (1, 2, 5, 10, 100)
# Shares among which the least that is enough is looked for, beside those asked for.
_BETWEEN = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.015, 0.03, 0.04, 0.075, 0.15, 0.3)


def plan(
    policy: Policy,
    log: SessionLog,
    *,
    behaviour: Policy | None = None,
    estimator: str | Estimator | None = None,
    gamma: float = 1.0,
    replicates: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    thresholds: Thresholds | None = None,
    cluster: str | None = None,
    reward_range: tuple[float, float] | None = None,
    sessions: Sequence[int] | None = None,
    explore: Sequence[float] = EXPLORE,
) -> Plan:
    """How wide the interval would be, and what verdict to expect, with more sessions or with exploration.

    Exploration: the target serves a share of sessions, drawn by chance, the logging policy the others, and weights are
    balanced over both. It is worked out from the weights and rewards in this log, and holds as far as they show what
    more sessions would be like.

    Args:
        policy: the target.
        log: sessions that the policy was not trained on.
        behaviour, gamma, replicates, confidence, seed, thresholds, cluster, reward_range: as in `evaluate`.
        estimator: out of pdwis, dr, snips, pdis and ips; None: the one that `evaluate` would quote today.
        sessions: sizes of the log to show; None: today's, and 2, 5, 10 and 100 times as many sessions.
        explore: shares of sessions that the target serves, each below 1.

    Raises:
        InputError: as `evaluate`, and sizes, shares and estimators that no plan can be made for.
    """
    check_confidence(confidence)
    candidates = [find(name) for name in (PREFERENCE if estimator is None else [estimator])]
    shares, sizes = _shares_asked(explore), _sizes_asked(sessions)
    if any(candidate.name not in PLANNED for candidate in candidates):
        raise InputError("estimator", f"no plan is made for {candidates[0].name}", f"choose among {', '.join(PLANNED)}")
    check({"policy": policy}, log, behaviour)
    facts = facts_of(log, behaviour, gamma=gamma, cluster=cluster, reward_range=reward_range)
    model = any(candidate.needs_model for candidate in candidates)
    config = PassConfig(gamma=gamma, replicates=replicates, seed=seed, model=model, estimators=tuple(candidates))
    passed = pass_over({"policy": policy}, log, behaviour, config, facts)["policy"]
    judged = {"gamma": gamma, "confidence": confidence, "thresholds": thresholds}
    found = estimates_of(passed, (*candidates, "logged"), facts, **judged)  # type: ignore[arg-type]
    today, chosen = found.best, find(found.best.estimator)
    mass, centre = _mass(chosen, passed, facts, today, gamma), Centre.of(passed, facts, today.raw.value)
    tried = sorted({0.0, *shares, *(share for share in _BETWEEN if share < max(shares))})
    config = replace(config, replicates=2, model=chosen.needs_model, estimators=(chosen,))
    explored = moments_of(policy, log, behaviour, chosen, config, facts, centre, mass, tried)
    outlook = Outlook(
        today=today,
        facts=facts,
        moments={one.share: one for one in explored.moments},
        centre=centre,
        missing=Missing.of(log, mass, explored.drawn, explored.slates),
        sum_of_propensities=_sum_above_one(log, behaviour, cluster),
        counts=_counts(chosen, passed, gamma),
        confidence=confidence,
        thresholds=thresholds or Thresholds(),
    )
    sizes = sizes or [times * log.sessions for times in _TIMES]
    return Plan(
        today=today,
        sessions=log.sessions,
        units=facts.units_in_words,
        cells=tuple(outlook.cell(size, share) for size in sizes for share in shares),
        ways=tuple(outlook.way(share) for share in dict.fromkeys((0.0, *shares))),
        least=next((share for share in tried if outlook.cell(log.sessions, share).verdict == "trust"), None),
        short=outlook.cell(log.sessions, max(shares)).reasons,
        mass=mass,
        confidence=confidence,
    )


def _mass(estimator: Estimator, passed: Passed, facts: LogFacts, today: Estimate, gamma: float) -> float:
    value = today.raw.value if math.isfinite(today.raw.value) else float(facts.rewards.mean.sum())
    return price(estimator, passed.sums, passed.support.most, facts.rewards, value, gamma).mass


def _sum_above_one(log: SessionLog, behaviour: Policy | None, cluster: str | None) -> str:
    """What `check_log` says where propensities add up to more than 1, as they do where items are withheld."""
    rows = check_log(log, behaviour, cluster=cluster).rows
    return next((row.reason for row in rows if row.name == "sum of propensities" and row.found > 1), "")


def _counts(estimator: Estimator, passed: Passed, gamma: float) -> torch.Tensor:
    """[T], as `diagnose` counts the weights at each step."""
    steps, alive = passed.sums.steps, passed.sums.alive
    if estimator.leans_on == "session":
        return torch.eye(steps, dtype=torch.float64)[-1]
    counts = discounts(steps, gamma, alive) * alive
    return counts / counts.sum()


def _shares_asked(explore: Sequence[float]) -> list[float]:
    shares = list(dict.fromkeys(float(share) for share in explore))
    if not shares or not all(0.0 <= share < 1.0 for share in shares):
        raise InputError("explore", f"{', '.join(map(str, explore)) or 'nothing'}", "give shares from 0 to below 1")
    return shares


def _sizes_asked(sessions: Sequence[int] | None) -> list[int] | None:
    if sessions is None:
        return None
    sizes = list(dict.fromkeys(int(size) for size in sessions))
    if not sizes or not all(1 <= size <= MOST_SESSIONS for size in sizes):
        raise InputError(
            "sessions", f"{', '.join(map(str, sessions)) or 'none'}", "give numbers of sessions, 1 or more"
        )
    return sizes
