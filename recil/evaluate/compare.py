"""Which policy is better, and may one say so: paired differences with intervals, and a ranking with ties."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.evaluate.bootstrap import check_confidence
from recil.evaluate.comparison import Compared, Comparison, Difference, ranked
from recil.evaluate.components import EnsembleDifference
from recil.evaluate.estimates import PREFERENCE, Estimate, Estimates, Interval, interval_of
from recil.evaluate.estimators import Estimator, find, find_all
from recil.evaluate.facts import LogFacts
from recil.evaluate.facts_of_log import facts_of
from recil.evaluate.intervals import student_interval
from recil.evaluate.loggers import balanced_where_known
from recil.evaluate.on_log import estimates_of
from recil.evaluate.pass_over import PassConfig, check, pass_over
from recil.evaluate.propensities import behaviours_of, over_behaviours
from recil.evaluate.simulate import SimulatedValue, independent, simulated_value
from recil.evaluate.verdict import Thresholds
from recil.logs.session_log import SessionLog
from recil.policies.environment import Environment
from recil.policies.protocol import Policy

__all__ = ["Compared", "Comparison", "Difference", "compare", "paired_over_seeds", "rank"]

LOGGED = "logged"
# Relative error of a value out of float32 log-probabilities: a policy and its own log differ by that much.
_ROUNDING = 1e-5


def compare(
    policies: Mapping[str, Policy],
    source: SessionLog | Environment,
    *,
    behaviour: Policy | Sequence[Policy] | None = None,
    estimator: str | Estimator | None = None,
    gamma: float = 1.0,
    replicates: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    cap: float | None = None,
    sessions: int = 10_000,
    thresholds: Thresholds | None = None,
    state: str | None = None,
    category: str | None = None,
    cluster: str | None = None,
    reward_range: tuple[float, float] | None = None,
    assume: Collection[str | Estimator] = (),
) -> Comparison:
    """Policies by name, held against each other on one log or in one world.

    On a log all are valued by one estimator (None: the first of PREFERENCE that refuses the fewest), in the same
    bootstrap replicates, beside the logging policy itself as `logged`. A difference is clear where its interval, with
    what the log cannot show of either policy, leaves out 0; policies whose estimates are refused have none. Options as
    for `evaluate` (several clones in `behaviour` widen the intervals of differences, too). In a world all meet the same
    `sessions` users, and are refused where the world is.
    """
    check_confidence(confidence)
    if not policies:
        raise InputError("policies", "none given", "give a dict of name -> policy")
    if isinstance(source, SessionLog):
        candidates = find_all(PREFERENCE if estimator is None else [estimator])
        config = PassConfig(
            gamma=gamma,
            cap=cap,
            replicates=replicates,
            seed=seed,
            model=any(candidate.needs_model for candidate in candidates),
            estimators=candidates,
            state=state,
            category=category,
        )
        source = balanced_where_known(source)
        behaviours = behaviours_of(behaviour, source)
        check(policies, source, behaviours[0])
        facts = facts_of(source, behaviours[0], gamma=gamma, cluster=cluster, reward_range=reward_range)
        judged = (confidence, thresholds, assume)
        return _compare_on_log(policies, source, behaviours, candidates, config, facts, *judged)
    simulated = {
        name: simulated_value(policy, source, sessions, seed, gamma=gamma, confidence=confidence)
        for name, policy in policies.items()
    }
    return _of_one_meeting(simulated)


def rank(values: Mapping[str, SimulatedValue]) -> Comparison:
    """Values by name, simulated earlier, held against each other as by `compare`.

    Raises InputError where they are not of one world, or not of the same users of it: such values are not ranked.
    """
    if not values:
        raise InputError("rank", "no values", "give a dict of name -> simulated value")
    (first, one), *others = values.items()
    for name, value in values.items():
        if value.meeting is None or value.meeting.world is None:
            raise InputError(f"rank: {name}", "nothing tells its world", "use compare(policies, world)")
    for name, other in others:
        assert one.meeting is not None and other.meeting is not None
        if one.meeting.world != other.meeting.world:
            worlds = f"{first} was met by {one.meeting.world}, {name} by {other.meeting.world}"
            raise InputError("rank", worlds, "values from different worlds are not ranked: simulate both in one")
        met = [(value.meeting, value.sessions, value.confidence) for value in (one, other)]
        if met[0] != met[1]:
            raise InputError(
                f"rank: {first}, {name}",
                "they met other users, or are measured otherwise",
                "simulate with one seed, and the same sessions, gamma and confidence",
            )
    return _of_one_meeting(values)


def _of_one_meeting(simulated: Mapping[str, SimulatedValue]) -> Comparison:
    """Values of the same users, paired."""
    some = next(iter(simulated.values()))
    population = 1 if some.meeting is None else some.meeting.population
    pairs = []
    for first, second in combinations([name for name, value in simulated.items() if not value.refused], 2):
        pairs.append(Difference(first, second, *_apart(simulated[first], simulated[second], population)))
    values = {name: Interval(result.value, result.low, result.high) for name, result in simulated.items()}
    verdicts = {name: (result.verdict, result.reasons) for name, result in simulated.items()}
    return ranked(values, verdicts, pairs, f"{some.sessions:,} simulated users", some.confidence)


def _apart(first: SimulatedValue, second: SimulatedValue, population: int) -> tuple[float, float, float]:
    """The paired difference and its interval; over members of an ensemble too, where both have met them."""
    apart = first.returns - second.returns
    if first.ensemble is None:
        return student_interval(independent(apart, population), first.confidence)
    found = EnsembleDifference.of(np.stack([apart, *(first.member_returns - second.member_returns)]), first.confidence)
    return found.value, found.low, found.high


def paired_over_seeds(
    values_a: Sequence[float], values_b: Sequence[float], confidence: float = 0.95
) -> tuple[float, float, float]:
    """Mean of a - b with its Student t interval over seeds; entry i of both comes from seed i."""
    if len(values_a) != len(values_b):
        raise InputError("paired_over_seeds", f"{len(values_a)} values against {len(values_b)}", "give one per seed")
    return student_interval(np.asarray(values_a, dtype=float) - np.asarray(values_b, dtype=float), confidence)


def _compare_on_log(
    policies: Mapping[str, Policy],
    log: SessionLog,
    behaviours: Sequence[Policy | None],
    candidates: Sequence[Estimator],
    config: PassConfig,
    facts: LogFacts,
    confidence: float,
    thresholds: Thresholds | None,
    assume: Collection[str | Estimator],
) -> Comparison:
    passes = [pass_over(policies, log, behaviour, config, facts) for behaviour in behaviours]
    passed = {policy: [one[policy] for one in passes] for policy in policies}
    found: dict[str, Estimates] = {
        policy: estimates_of(
            one,
            tuple(dict.fromkeys((*candidates, find(LOGGED)))),
            facts,
            gamma=config.gamma,
            confidence=confidence,
            thresholds=thresholds,
            others=[other.sums for other in others],
            assume=assume,
        )
        for policy, (one, *others) in passed.items()
    }
    names = [candidate.name for candidate in candidates]
    chosen = min(names, key=lambda name: sum(estimates[name].refused for estimates in found.values()))
    estimator = candidates[names.index(chosen)]
    rows: dict[str, Estimate] = {policy: estimates[chosen] for policy, estimates in found.items()}
    values = {policy: torch.stack([estimator.value(one.sums) for one in parts]) for policy, parts in passed.items()}
    if LOGGED not in rows:
        rows[LOGGED] = next(iter(found.values()))[LOGGED]
        values[LOGGED] = torch.stack([find(LOGGED).value(one.sums) for one in next(iter(passed.values()))])
    shown = [policy for policy, row in rows.items() if not row.refused]
    pairs = [_pair(one, other, rows, values, confidence) for one, other in combinations(shown, 2)]
    verdicts = {policy: (row.verdict, row.reasons) for policy, row in rows.items()}
    return ranked({policy: row.raw for policy, row in rows.items()}, verdicts, pairs, chosen, confidence)


def _pair(
    first: str, second: str, rows: Mapping[str, Estimate], values: Mapping[str, Tensor], confidence: float
) -> Difference:
    """values: by policy, with the propensities of each of M models, [M, R+1]."""
    apart, between = over_behaviours(values[first] - values[second])
    margins = rows[first].margins.minus(rows[second].margins)
    value, low, high = interval_of(apart, confidence, margins, between, len(values[first]))
    rounding = _ROUNDING * max(float(values[name][:, 0].mean().abs()) for name in (first, second))
    return Difference(first, second, value, low, high, rounding)
