"""Which estimator to believe on a log like this one: all of them tried where the truth is known.

Logs of the logging policy are simulated in a world, as long as the log itself, and every policy is valued on each by
every estimator; what it is worth there is simulated too, with other users.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from recil.errors import InputError
from recil.evaluate.estimates import WIDTH, Estimates, reasons_below
from recil.evaluate.estimators import Estimator, find_all
from recil.evaluate.facts_of_log import facts_of
from recil.evaluate.intervals import student_interval
from recil.evaluate.on_log import estimates_of
from recil.evaluate.pass_over import PassConfig, pass_over
from recil.evaluate.simulate import simulate, simulated_value
from recil.evaluate.verdict import Thresholds, Verdict
from recil.logs.session_log import SessionLog
from recil.policies.environment import Environment, warrant_of
from recil.policies.protocol import Policy
from recil.random import stable_hash

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ("error", "doubt", "bias", "rank", "regret", "coverage", "refused")


@dataclass(frozen=True)
class Trial:
    """One estimator over all logs and policies; refused estimates take part with their raw values.

    error     root mean squared error over the mean size of the true values; doubt: its standard error over logs
    bias      mean error over the same
    rank      mean rank correlation (Spearman) of estimated and true values over logs; nan for a single policy
    regret    what the policy that looks best is worth less than the best one, over the best one's value, mean over logs
    coverage  share of intervals that hold the truth
    shown_coverage  the same of those that are not refused; nan where all are
    refused   share of estimates that are refused
    answers   logs times policies
    tied      its error is not clearly larger than that of the first (paired over logs)
    """

    estimator: str
    error: float
    doubt: float
    bias: float
    rank: float
    regret: float
    coverage: float
    shown_coverage: float
    refused: float
    answers: int
    tied: bool = True

    @property
    def coverage_error(self) -> float:
        """One standard error of the coverage, logs taken as independent and policies too."""
        return math.sqrt(self.coverage * (1.0 - self.coverage) / self.answers)


@dataclass(frozen=True)
class Choice:
    """Estimators by error, smallest first, those refused in half of their answers or more last.

    What is `tied` with the first may be as good: twenty logs tell errors apart roughly.

    truth            policy -> simulated value in the world, and its standard error
    logs, sessions   how many logs were simulated, and of how many sessions each
    verdict, reasons the world's own: whether what holds there may be taken to hold on the log
    """

    rows: tuple[Trial, ...]
    truth: Mapping[str, tuple[float, float]]
    logs: int
    sessions: int
    confidence: float
    verdict: Verdict = "trust"
    reasons: tuple[str, ...] = ()

    @property
    def best(self) -> str:
        """The estimator to quote on the log: the first of the rows."""
        return self.rows[0].estimator

    @property
    def mostly_refused(self) -> bool:
        """Even the best was refused in half of its answers or more: expect a refusal on the log."""
        return self.rows[0].refused >= 0.5

    def __getitem__(self, estimator: str) -> Trial:
        for row in self.rows:
            if row.estimator == estimator:
                return row
        raise KeyError(f"{estimator}: not among {', '.join(row.estimator for row in self.rows)}")

    def to_frame(self) -> pd.DataFrame:
        """One row per estimator."""
        import pandas as pd

        return pd.DataFrame([vars(row) for row in self.rows])

    def __str__(self) -> str:
        width = max(10, *(len(row.estimator) + 1 for row in self.rows))
        lines = [f"{'estimator':<{width}}" + "".join(f"{name:>10}" for name in _COLUMNS)]
        for row in self.rows:
            lines.append(f"{row.estimator:<{width}}" + "".join(_shown(name, getattr(row, name)) for name in _COLUMNS))
        policies = f"{len(self.truth)} {'policy' if len(self.truth) == 1 else 'policies'}"
        lines.append(
            f"{policies} on {self.logs} simulated logs of {self.sessions:,} sessions, {self.confidence:.0%} intervals"
        )
        tied = [row.estimator for row in self.rows if row.tied]
        if len(tied) > 1:
            lines += textwrap.wrap(f"as good as the first, as far as these logs tell: {', '.join(tied[1:])}", WIDTH)
        if self.mostly_refused:
            most = f"{self.best} was refused in {self.rows[0].refused:.0%} of its answers: expect a refusal on the log"
            lines += textwrap.wrap(most, WIDTH)
        lines += reasons_below([("world", self.verdict, self.reasons)])
        return "\n".join(line[:WIDTH] for line in lines)


def _shown(name: str, value: float) -> str:
    if math.isnan(value):
        return f"{'-':>10}"
    return f"{value:>10.3f}" if name == "rank" else f"{value:>10.1%}"


def choose_estimator(
    policies: Mapping[str, Policy],
    log: SessionLog,
    world: Environment,
    behaviour: Policy,
    *,
    estimators: Sequence[str | Estimator] | None = None,
    logs: int = 20,
    sessions: int | None = None,
    truth_sessions: int = 20_000,
    gamma: float = 1.0,
    replicates: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
    cap: float | None = None,
    thresholds: Thresholds | None = None,
    category: str | None = None,
) -> Choice:
    """Tries estimators on logs like `log` in a world where the truth is known.

    policies   name -> policy to be valued on the log
    world      users fitted to the log (`recil.World`), or any other
    behaviour  the logging policy or its clone, which serves in the world; its propensities there are exact, so that
               what a clone gets wrong is not in the trial
    logs, sessions, truth_sessions  logs simulated, sessions of each (None: as many as `log` has), users for the truth
    Other options as in `evaluate`. Raises InputError where the world has another catalogue than the log.
    """
    tried = tuple(estimator for estimator in find_all(estimators) if estimator.target)
    sessions = log.sessions if sessions is None else sessions
    _check(policies, log, world, tried, logs, sessions)
    config = PassConfig(
        gamma=gamma,
        cap=cap,
        replicates=replicates,
        seed=seed,
        model=any(estimator.needs_model for estimator in tried),
        estimators=tried,
        category=category,
    )
    truth = _truth(policies, world, truth_sessions, stable_hash(seed, "choose: truth"), gamma)
    found = []
    for place in range(logs):
        simulated = simulate(behaviour, world, sessions, stable_hash(seed, "choose: log", place), log.item_ids)
        simulated = replace(simulated, item_features=log.item_features)
        found.append(_valued(policies, simulated, behaviour, config, confidence, thresholds))
    known = np.array([truth[name][0] for name in policies])
    trials = [_trial(place, estimator.name, found, known) for place, estimator in enumerate(tried)]
    order = sorted(range(len(trials)), key=lambda place: (trials[place].refused >= 0.5, trials[place].error))
    squared = [_squared_errors(place, found, known) for place in range(len(trials))]
    trials = [replace(trials[place], tied=_tied(squared[order[0]], squared[place])) for place in order]
    warrant = warrant_of(world)
    return Choice(tuple(trials), truth, logs, sessions, confidence, warrant.verdict, warrant.reasons)


def _valued(
    policies: Mapping[str, Policy],
    log: SessionLog,
    behaviour: Policy,
    config: PassConfig,
    confidence: float,
    thresholds: Thresholds | None,
) -> list[Estimates]:
    """In the order of the policies."""
    facts = facts_of(log, behaviour, gamma=config.gamma)
    passed = pass_over(policies, log, behaviour, config, facts)
    return [
        estimates_of(
            passed[name],
            config.estimators,
            facts,
            gamma=config.gamma,
            confidence=confidence,
            thresholds=thresholds,
            # What they suppose is what is tried here.
            assume=config.estimators,
        )
        for name in policies
    ]


def _check(
    policies: Mapping[str, Policy],
    log: SessionLog,
    world: Environment,
    tried: Sequence[Estimator],
    logs: int,
    sessions: int,
) -> None:
    if not policies:
        raise InputError("policies", "none given", "give a dict of name -> policy")
    if not tried:
        raise InputError("estimators", "none values a target", "name one that does, such as snips")
    if logs < 1 or sessions < 1:
        raise InputError("choose_estimator", f"{logs} logs of {sessions} sessions", "give 1 or more of each")
    if world.catalogue != log.catalogue:
        raise InputError(
            "world", f"it has {world.catalogue} items, the log {log.catalogue}", "use users fitted to this catalogue"
        )


def _truth(
    policies: Mapping[str, Policy], world: Environment, sessions: int, seed: int, gamma: float
) -> dict[str, tuple[float, float]]:
    """Value and standard error in the world itself, not over the members of an ensemble: the logs are of it too."""
    found = {}
    for name, policy in policies.items():
        returns = simulated_value(policy, world, sessions, seed, gamma=gamma).returns
        found[name] = (float(returns.mean()), float(returns.std()) / math.sqrt(len(returns)))
    return found


def _trial(place: int, name: str, found: Sequence[Sequence[Estimates]], truth: np.ndarray) -> Trial:
    """truth [P]; found: by log and policy."""
    rows = [[estimates.rows[place] for estimates in of_log] for of_log in found]
    value, low, high = np.moveaxis(np.array([[row.raw for row in of_log] for of_log in rows]), 2, 0)
    wrong = np.where(np.isnan(value), -truth, value - truth)
    squared = _squared_errors(place, found, truth)
    error = math.sqrt(float(squared.mean()))
    holds = (low <= truth) & (truth <= high)
    shown = np.array([[not row.refused for row in of_log] for of_log in rows])
    size = max(float(np.abs(truth).mean()), 1e-300)
    best = float(truth.max())
    guessed = np.where(np.isnan(value), -math.inf, value).argmax(1)
    return Trial(
        estimator=name,
        error=error / size,
        doubt=_standard_error(squared) / max(2 * error, 1e-300) / size,
        bias=float(wrong.mean()) / size,
        rank=float(np.mean([_rank_correlation(of_log, truth) for of_log in value])) if len(truth) > 1 else math.nan,
        regret=float((best - truth[guessed]).mean()) / max(abs(best), 1e-300),
        coverage=float(holds.mean()),
        shown_coverage=float(holds[shown].mean()) if shown.any() else math.nan,
        refused=float(1.0 - shown.mean()),
        answers=value.size,
    )


def _squared_errors(place: int, found: Sequence[Sequence[Estimates]], truth: np.ndarray) -> np.ndarray:
    """Of each log, mean over policies, float64 [logs]; what is undefined errs by the whole value."""
    value = np.array([[estimates.rows[place].raw.value for estimates in of_log] for of_log in found])
    return np.square(np.where(np.isnan(value), -truth, value - truth)).mean(1)


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _tied(first: np.ndarray, other: np.ndarray) -> bool:
    """The other's squared errors are not clearly larger, paired over logs."""
    apart = other - first
    if len(apart) < 2 or not apart.any():
        return True
    return student_interval(apart)[1] <= 0


def _rank_correlation(values: np.ndarray, truth: np.ndarray) -> float:
    """Spearman's, 0 where all values are equal; what is undefined ranks last."""
    ranks = stats.rankdata(np.where(np.isnan(values), -math.inf, values)), stats.rankdata(truth)
    if any(np.ptp(rank) == 0 for rank in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])
