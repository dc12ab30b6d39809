"""What runs of a claim have found, arm by arm and seed by seed, and the intervals that its points are judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from recil.errors import InputError


@dataclass(frozen=True)
class ArmRun:
    """One MLflow run: an arm with one seed."""

    arm: str
    part: str
    seed: int
    values: Mapping[str, float]
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]]
    factors: Mapping[str, str]


@dataclass(frozen=True)
class Mean:
    """Over seeds, with a Student t interval; of one seed, or of what has no chance in it, the interval is nan."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return said(self.value) if np.isnan(self.low) else f"{said(self.value)} [{said(self.low)}, {said(self.high)}]"


@dataclass(frozen=True)
class Found:
    """All runs of one sweep. seeds: those asked for; confidence: of all intervals."""

    runs: tuple[ArmRun, ...]
    seeds: tuple[int, ...]
    confidence: float = 0.95

    @property
    def arms(self) -> tuple[str, ...]:
        """In the order in which parts name them."""
        return tuple(dict.fromkeys(run.arm for run in self.runs))

    def has(self, *arms: str) -> bool:
        return set(arms) <= set(self.arms)

    def of(self, arm: str) -> tuple[ArmRun, ...]:
        """Its runs by seed. InputError where there are none."""
        runs = tuple(sorted((run for run in self.runs if run.arm == arm), key=lambda run: run.seed))
        if not runs:
            raise InputError(f"arm {arm!r}", "was not run", f"there are {', '.join(self.arms) or 'none'}")
        return runs

    def factor(self, arm: str, name: str) -> str | None:
        return self.of(arm)[0].factors.get(name)

    def values(self, arm: str, measure: str) -> np.ndarray:
        """Over seeds, float64 [seeds]."""
        return np.array([run.values[measure] for run in self.of(arm) if measure in run.values])

    def mean(self, arm: str, measure: str) -> Mean:
        return mean_of(self.values(arm, measure), self.confidence)

    def difference(self, first: str, second: str, measure: str) -> Mean:
        """first - second, paired by seed."""
        others = {run.seed: run.values for run in self.of(second)}
        pairs = [(run.values[measure], others[run.seed][measure]) for run in self.of(first) if run.seed in others]
        return mean_of(np.array([one - other for one, other in pairs]), self.confidence)

    def curve(self, arm: str, measure: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps int64 [n] that all seeds have, and numbers float64 [seeds, n]."""
        curves = [run.curves[measure] for run in self.of(arm) if measure in run.curves]
        if not curves:
            raise InputError(f"arm {arm!r}", f"has no curve {measure!r}")
        steps = curves[0][0]
        for other, _ in curves[1:]:
            steps = np.intersect1d(steps, other)
        return steps, np.stack([values[np.isin(own, steps)] for own, values in curves])

    def at(self, arm: str, measure: str, step: int) -> Mean:
        """A curve's mean at one of its steps."""
        steps, values = self.curve(arm, measure)
        return mean_of(values[:, steps == step][:, 0], self.confidence)


def mean_of(values: np.ndarray | Sequence[float], confidence: float) -> Mean:
    """InputError where there are none."""
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        raise InputError("claim", "there is no value to average", "run it with a seed at least")
    value = float(values.mean())
    if len(values) == 1:
        return Mean(value, float("nan"), float("nan"))
    half = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Mean(value, value - half, value + half)


def above(mean: Mean, bound: float) -> bool | None:
    """Whether it is above the bound, clear of its interval; None where the interval holds the bound."""
    if np.isnan(mean.low):
        return mean.value > bound
    return True if mean.low > bound else False if mean.high <= bound else None


def below(mean: Mean, bound: float) -> bool | None:
    """Whether it is below the bound, clear of its interval; None where the interval holds the bound."""
    return above(Mean(-mean.value, -mean.high, -mean.low), -bound)


def near(mean: Mean, truth: float, errors: float = 4.0, seeds: int = 1, slack: float = 1e-9) -> bool:
    """Whether a truth lies within so many standard errors of a mean over `seeds` (a t with one degree less)."""
    if np.isnan(mean.low):
        return abs(mean.value - truth) <= slack
    if seeds < 2:
        raise InputError("near", "a mean with an interval is over several seeds", "say over how many")
    error = (mean.high - mean.low) / 2 / float(stats.t.ppf(0.975, seeds - 1))
    return abs(mean.value - truth) <= errors * error + slack


def all_of(*parts: bool | None) -> bool | None:
    """False where one is, else None where one is, else True."""
    return False if False in parts else None if None in parts else True


def said(value: float) -> str:
    """Four digits that count, without a power of ten where there is no need of one."""
    return f"{value:.4g}" if value == 0 or 1e-4 <= abs(value) < 1e6 else f"{value:.2e}"
