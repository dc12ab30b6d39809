"""May this estimate be shown? All thresholds and all reasons are here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from recil.evaluate.diagnostics import Diagnostics

Verdict = Literal["trust", "caution", "refuse"]
VERDICTS: tuple[Verdict, ...] = ("trust", "caution", "refuse")


@dataclass(frozen=True)
class Thresholds:
    """Each pair: beyond the first value the verdict is at most caution, beyond the second refuse.

    ess             effective sample size, sessions
    ess_share       its share of all sessions; at shares of .1 to .4 the upper tail of the weights is not in the sample:
                    95% intervals of simulated logs covered 86 to 92%, and 94.6% above .5
    largest_share   the heaviest session's share of the weight
    mean_weight_off distance of the mean weight from 1, where it is also more than mean_weight_errors standard errors
    mean_weight_errors
    capped_share    share of weights changed by the cap
    shrunk_share    share of all weight that the estimator shrinks away
    lost_of_width   value shrunk away with no model in its place, in half widths of the interval: bias beyond its noise
    bias_of_width   distance of an estimate that is less biased, in half widths of the interval, beyond what
                    bias_errors standard errors of that distance explain
    bias_errors
    unseen_share    share of the target's items that the log never shows
    rewarded        sessions with reward, counted and effective
    """

    ess: tuple[float, float] = (200.0, 30.0)
    ess_share: tuple[float, float] = (0.4, 0.005)
    largest_share: tuple[float, float] = (0.05, 0.3)
    mean_weight_off: tuple[float, float] = (0.02, 0.15)
    mean_weight_errors: tuple[float, float] = (3.0, 3.0)
    capped_share: tuple[float, float] = (0.02, 0.3)
    shrunk_share: tuple[float, float] = (0.02, 0.3)
    lost_of_width: tuple[float, float] = (0.1, 1.0)
    bias_of_width: tuple[float, float] = (0.1, 1.0)
    bias_errors: tuple[float, float] = (1.0, 2.5)
    unseen_share: tuple[float, float] = (0.05, 0.5)
    rewarded: tuple[float, float] = (30.0, 1.0)


def judge(
    value: float, low: float, high: float, diagnostics: Diagnostics, thresholds: Thresholds
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict and its reasons, gravest first; a trusted estimate needs none."""
    found = sorted(_findings(value, low, high, diagnostics, thresholds), key=lambda finding: -finding[0])
    worst = max((grade for grade, _ in found), default=0)
    return VERDICTS[worst], tuple(reason for _, reason in found)


def _findings(value: float, low: float, high: float, seen: Diagnostics, limit: Thresholds) -> Iterator[tuple[int, str]]:
    """Grade (1 caution, 2 refuse) and reason of everything that speaks against the estimate."""
    if not all(math.isfinite(number) for number in (value, low, high)):
        yield 2, "undefined: the target never shows what the log holds"
    few = _grade_below(seen.ess, limit.ess)
    thin = _grade_below(seen.ess_share, limit.ess_share)
    if few or thin:
        yield max(few, thin), f"rests on {seen.ess:,.1f} effective of {seen.sessions:,} sessions"
    if grade := _grade_above(seen.largest_share, limit.largest_share):
        yield grade, f"one session carries {seen.largest_share:.0%} of the weight"
    yield from _weight_findings(seen, limit)
    if grade := _grade_above(seen.unseen_share, limit.unseen_share):
        yield grade, f"{seen.unseen_share:.0%} of the target's items are never shown in the log"
    yield from _reward_findings(seen, limit)
    if seen.model_alone:
        yield 1, "a fitted model alone answers; the interval has the noise of its fit, not what it gets wrong"
    bounds = zip(limit.bias_of_width, limit.bias_errors, strict=True)
    if grade := sum(seen.bias_of_width - errors * seen.bias_error > bound for bound, errors in bounds):
        far = f"{seen.bias_of_width:.2g} ± {seen.bias_error:.2g}"
        yield grade, f"a less biased estimate lies {far} half widths of the interval away"
    if seen.supposes:
        yield 1, f"supposes that {seen.supposes}"
    if seen.fitted_propensities:
        yield 1, _fitted(seen)


def _fitted(seen: Diagnostics) -> str:
    if math.isnan(seen.between_fits):
        return "propensities are a fitted model's; the interval leaves out its error"
    return "propensities are fitted models'; the interval holds what differs between them, not what all get wrong"


def _weight_findings(seen: Diagnostics, limit: Thresholds) -> Iterator[tuple[int, str]]:
    if grade := _grade_above(seen.capped_share, limit.capped_share):
        yield (
            grade,
            f"the cap changed {seen.capped_share:.0%} of the weights, which biases the estimate",
        )
    lost = _grade_above(seen.lost_of_width, limit.lost_of_width)
    if grade := max(lost, _grade_above(seen.shrunk_share, limit.shrunk_share)):
        yield grade, f"{seen.shrunk_share:.1%} of the weight is shrunk away, which biases the estimate"
    off = seen.mean_weight - 1.0
    bounds = zip(limit.mean_weight_off, limit.mean_weight_errors, strict=True)
    grade = sum(abs(off) > max(distance, errors * seen.mean_weight_error) for distance, errors in bounds)
    if grade:
        mean = f"{seen.mean_weight:.2f} ± {seen.mean_weight_error:.2f}"
        lost_to_cap = off < 0 < seen.capped_share
        cause = "what the cap takes away is lost" if lost_to_cap else "wrong propensities or an unseen tail"
        yield grade, f"mean weight {mean} is not 1: {cause}"


def _reward_findings(seen: Diagnostics, limit: Thresholds) -> Iterator[tuple[int, str]]:
    if seen.rewarded < limit.rewarded[0]:
        yield _grade_below(seen.rewarded, limit.rewarded), f"{seen.rewarded} sessions have any reward"
    elif seen.rewarded_ess < limit.rewarded[0]:
        yield _grade_below(seen.rewarded_ess, limit.rewarded), f"{seen.rewarded_ess:,.1f} effective rewarded sessions"


def _grade_below(value: float, limits: tuple[float, float]) -> int:
    return sum(value < limit for limit in limits)


def _grade_above(value: float, limits: tuple[float, float]) -> int:
    """nan is above nothing: what was not measured speaks neither way."""
    return sum(value > limit for limit in limits)
