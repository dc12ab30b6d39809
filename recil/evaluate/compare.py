"""Which policy is better, and may one say so: paired differences with intervals, and a ranking with ties."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from recil.errors import InputError
from recil.evaluate.bootstrap import check_confidence, percentile_interval
from recil.evaluate.components import EnsembleDifference
from recil.evaluate.estimates import PREFERENCE, WIDTH, Estimate, Estimates, Interval, number, reasons_below
from recil.evaluate.estimators import Estimator, find, find_all
from recil.evaluate.intervals import student_interval
from recil.evaluate.on_log import estimates_of
from recil.evaluate.pass_over import PassConfig, pass_over
from recil.evaluate.simulate import SimulatedValue, independent, simulated_value
from recil.evaluate.verdict import VERDICTS, Thresholds, Verdict
from recil.logs.session_log import SessionLog
from recil.policies.environment import Environment
from recil.policies.protocol import Policy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LOGGED = "logged"
# Relative error of a value out of float32 log-probabilities: a policy and its own log differ by that much.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Difference:
    """value of `better` minus value of `worse`, as named, with its paired interval.

    rounding: what single-precision propensities can make of a difference that is 0
    """

    better: str
    worse: str
    value: float
    low: float
    high: float
    rounding: float = 0.0

    @property
    def clear(self) -> bool:
        """The interval leaves out 0, and what is 0 but for rounding."""
        return self.low > self.rounding or self.high < -self.rounding

    def reversed(self) -> Difference:
        return Difference(self.worse, self.better, -self.value, -self.high, -self.low, self.rounding)


@dataclass(frozen=True)
class Compared:
    """One policy's row. rank: 1 + the number of policies clearly better, None when its estimate is refused."""

    policy: str
    raw: Interval
    verdict: Verdict
    reasons: tuple[str, ...]
    rank: int | None

    @property
    def value(self) -> float:
        return math.nan if self.verdict == "refuse" else self.raw.value

    @property
    def low(self) -> float:
        return math.nan if self.verdict == "refuse" else self.raw.low

    @property
    def high(self) -> float:
        return math.nan if self.verdict == "refuse" else self.raw.high


@dataclass(frozen=True)
class Comparison:
    """Policies by value, best first, refused ones last.

    differences  of all pairs whose estimates are not refused
    method       the estimator, or the simulation, that all values come from
    """

    rows: tuple[Compared, ...]
    differences: tuple[Difference, ...]
    method: str
    confidence: float

    def __getitem__(self, policy: str) -> Compared:
        for row in self.rows:
            if row.policy == policy:
                return row
        raise KeyError(f"{policy}: not among {', '.join(row.policy for row in self.rows)}")

    def difference(self, first: str, second: str) -> Difference:
        """Value of `first` minus value of `second`; refused where either is."""
        for pair in self.differences:
            if (pair.better, pair.worse) == (first, second):
                return pair
            if (pair.worse, pair.better) == (first, second):
                return pair.reversed()
        refused = [name for name in (first, second) if self[name].verdict == "refuse"]
        raise InputError(
            f"comparison of {first} with {second}",
            f"the estimate of {' and '.join(refused) or first} is refused",
            "see its reasons",
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per policy; refused values are nan."""
        import pandas as pd

        names = ("policy", "rank", "value", "low", "high", "verdict")
        return pd.DataFrame(
            [{name: getattr(row, name) for name in names} | {"reasons": "; ".join(row.reasons)} for row in self.rows]
        )

    def differences_frame(self) -> pd.DataFrame:
        """One row per pair: better, worse, value, low, high, clear."""
        import pandas as pd

        names = ("better", "worse", "value", "low", "high", "clear")
        return pd.DataFrame([{name: getattr(pair, name) for name in names} for pair in self.differences], columns=names)

    def plot(self) -> Figure:
        """Intervals by policy."""
        from recil.evaluate.plots import interval_plot

        rows = [(row.policy, None if row.rank is None else row.raw, row.verdict) for row in self.rows]
        return interval_plot(rows, f"reward per session ({self.method}), {self.confidence:.0%} interval")

    def __str__(self) -> str:
        width = min(24, max([len("policy"), *(len(row.policy) for row in self.rows)]))
        lines = [f"{'rank':>4}  {'policy':<{width}}{'value':>12}{'low':>12}{'high':>12}  verdict"]
        for row in self.rows:
            hidden = row.rank is None
            numbers = "".join(f"{number(part, hidden):>12}" for part in row.raw)
            lines.append(f"{row.rank or '-':>4}  {row.policy[:width]:<{width}}{numbers}  {row.verdict}")
        lines.append(f"reward per session by {self.method}, {self.confidence:.0%} intervals; equal ranks are ties")
        for pair in self.differences:
            interval = f"{pair.value:+.4g} [{pair.low:+.4g}, {pair.high:+.4g}]{'' if pair.clear else ' (tie)'}"
            names = f"{pair.better} - {pair.worse}"
            lines.append(f"  {names[: WIDTH - len(interval) - 4]}: {interval}")
        return "\n".join(lines + reasons_below((row.policy, row.verdict, row.reasons) for row in self.rows))


def compare(
    policies: Mapping[str, Policy],
    source: SessionLog | Environment,
    *,
    behaviour: Policy | None = None,
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
) -> Comparison:
    """Policies by name, held against each other on one log or in one world.

    On a log all are valued by one estimator (None: the first of PREFERENCE that refuses the fewest), in the same
    bootstrap replicates, beside the logging policy itself as `logged`; `state` and `category` as for `evaluate`. In a
    world all meet the same `sessions` users,
    and are refused where the world is.
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
        return _compare_on_log(policies, source, behaviour, candidates, config, confidence, thresholds)
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
    return _ranked(values, verdicts, pairs, f"{some.sessions:,} simulated users", some.confidence)


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
    behaviour: Policy | None,
    candidates: Sequence[Estimator],
    config: PassConfig,
    confidence: float,
    thresholds: Thresholds | None,
) -> Comparison:
    found: dict[str, Estimates] = {}
    for policy, (sums, unseen) in pass_over(policies, log, behaviour, config).items():
        found[policy] = estimates_of(
            sums,
            unseen,
            tuple(dict.fromkeys((*candidates, find(LOGGED)))),
            gamma=config.gamma,
            confidence=confidence,
            impressions=log.impressions,
            fitted_propensities=log.propensity is None,
            thresholds=thresholds,
        )
    names = [candidate.name for candidate in candidates]
    chosen = min(names, key=lambda name: sum(estimates[name].refused for estimates in found.values()))
    rows: dict[str, Estimate] = {policy: estimates[chosen] for policy, estimates in found.items()}
    rows.setdefault(LOGGED, next(iter(found.values()))[LOGGED])
    pairs = []
    for first, second in combinations([policy for policy, row in rows.items() if not row.refused], 2):
        replicates = rows[first].replicates - rows[second].replicates
        one, other = rows[first].raw.value, rows[second].raw.value
        bounds = percentile_interval(replicates, confidence)
        rounding = _ROUNDING * max(abs(one), abs(other))
        pairs.append(Difference(first, second, one - other, *bounds, rounding))
    verdicts = {policy: (row.verdict, row.reasons) for policy, row in rows.items()}
    values = {policy: row.raw for policy, row in rows.items()}
    return _ranked(values, verdicts, pairs, chosen, confidence)


def _ranked(
    values: Mapping[str, Interval],
    verdicts: Mapping[str, tuple[Verdict, tuple[str, ...]]],
    pairs: Sequence[Difference],
    method: str,
    confidence: float,
) -> Comparison:
    """Best first. A policy's rank is 1 + the number of those clearly better: ties share a rank."""
    pointed = [pair if pair.value >= 0 else pair.reversed() for pair in pairs]
    beaten = [pair.worse for pair in pointed if pair.clear]
    rows = [
        Compared(name, interval, *verdicts[name], None if verdicts[name][0] == "refuse" else 1 + beaten.count(name))
        for name, interval in values.items()
    ]
    rows.sort(key=lambda row: (VERDICTS.index(row.verdict) == 2, -row.raw.value if row.rank else 0.0))
    return Comparison(tuple(rows), tuple(pointed), method, confidence)
