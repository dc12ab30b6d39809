"""May this estimate be shown? All thresholds and all reasons are here.

`trust`: the 95% interval holds the value in 93.5% of logs or more. `caution`: in 90% or more; read the reasons. What
can promise neither is `refuse`. docs/coverage.md has what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from recil.evaluate.diagnostics import Diagnostics
from recil.evaluate.facts import Faults
from recil.policies.environment import WarrantVerdict

Verdict = WarrantVerdict
VERDICTS: tuple[Verdict, ...] = ("trust", "caution", "refuse")


@dataclass(frozen=True)
class Thresholds:
    """Each pair: beyond the first value the verdict is at most caution, beyond the second refuse.

    units           effective number of independent units: users, where the log names them
    ess             effective sample size, in units
    ess_share       its share of all units; at shares of .1 to .4 the upper tail of the weights is not in the sample:
                    95% intervals of simulated logs covered 86 to 92%, and 94.6% above .5
    largest_share   the heaviest unit's share of the weight
    mean_weight_over  by how much the mean weight lies above 1, where it is also more than mean_weight_errors standard
                    errors: the propensities are wrong, and by what else nobody knows
    mean_weight_errors
    priced          the bias that what is not shown may bring at most, in half widths of the interval
    tail_index      of the sizes of rewards, less than, where skewness is also beyond tail_skewness
    tail_skewness
    skewness        a bound on the skewness of the estimate, where rewards are not of one size
    capped_share    share of weights changed by the cap
    shrunk_share    share of all weight that the estimator shrinks away
    lost_of_width   value shrunk away with no model in its place, in half widths of the interval: bias beyond its noise
    bias_of_width   distance of an estimate that is less biased, in half widths of the interval, beyond what
                    bias_errors standard errors of that distance explain
    bias_errors
    rewarded        effective number of sessions with reward, where rewards lie on both sides of 0
    """

    units: tuple[float, float] = (30.0, 30.0)
    ess: tuple[float, float] = (200.0, 30.0)
    ess_share: tuple[float, float] = (0.4, 0.05)
    largest_share: tuple[float, float] = (0.05, 0.2)
    mean_weight_over: tuple[float, float] = (0.01, 0.02)
    mean_weight_errors: tuple[float, float] = (3.0, 4.0)
    priced: tuple[float, float] = (0.1, 1.0)
    tail_index: tuple[float, float] = (2.0, 2.0)
    tail_skewness: tuple[float, float] = (0.12, 0.12)
    skewness: tuple[float, float] = (0.3, 0.3)
    capped_share: tuple[float, float] = (0.02, 0.3)
    shrunk_share: tuple[float, float] = (0.02, 0.3)
    lost_of_width: tuple[float, float] = (0.1, 1.0)
    bias_of_width: tuple[float, float] = (0.1, 1.0)
    bias_errors: tuple[float, float] = (1.0, 2.5)
    rewarded: tuple[float, float] = (30.0, 30.0)


def judge(
    value: float,
    low: float,
    high: float,
    diagnostics: Diagnostics,
    thresholds: Thresholds,
    faults: Faults | None = None,
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict and its reasons, gravest first; a trusted estimate needs none."""
    findings = [*_findings(value, low, high, diagnostics, thresholds), *_of_log(diagnostics, faults or Faults())]
    findings.sort(key=lambda finding: -finding[0])
    worst = max((grade for grade, _ in findings), default=0)
    return VERDICTS[worst], tuple(dict.fromkeys(reason for _, reason in findings))


def _of_log(seen: Diagnostics, faults: Faults) -> Iterator[tuple[int, str]]:
    weighs = seen.mean_weight_error > 0 or not math.isnan(seen.unseen_share)
    for verdict, reason in (*faults.sessions, *(faults.propensities if weighs else ())):
        yield VERDICTS.index(verdict), reason


def _findings(value: float, low: float, high: float, seen: Diagnostics, limit: Thresholds) -> Iterator[tuple[int, str]]:
    """Grade (1 caution, 2 refuse) and reason of everything that speaks against the estimate."""
    if not all(math.isfinite(number) for number in (value, low, high)):
        yield 2, "undefined: the target never shows what the log holds"
    yield from _size_findings(seen, limit)
    yield from _weight_findings(seen, limit)
    yield from _reward_findings(seen, limit)
    yield from _model_findings(seen, limit)


def _size_findings(seen: Diagnostics, limit: Thresholds) -> Iterator[tuple[int, str]]:
    if grade := _grade_below(seen.effective_units, limit.units):
        yield grade, f"{seen.effective_units:,.0f} effective {seen.units}: too few for an interval"
    few = _grade_below(seen.ess, limit.ess)
    thin = _grade_below(seen.ess_share, limit.ess_share)
    if few or thin:
        among = "" if seen.unit == "session" else f" by {seen.unit}"
        yield max(few, thin), f"the weights leave {seen.ess:,.1f} effective of {seen.sessions:,} sessions{among}"
    if grade := _grade_above(seen.largest_share, limit.largest_share):
        yield grade, f"one {seen.unit} carries {seen.largest_share:.0%} of the weight"


def _weight_findings(seen: Diagnostics, limit: Thresholds) -> Iterator[tuple[int, str]]:
    if grade := _grade_above(seen.capped_share, limit.capped_share):
        yield grade, f"the cap changed {seen.capped_share:.0%} of the weights, which biases the estimate"
    lost = _grade_above(seen.lost_of_width, limit.lost_of_width)
    if grade := max(lost, _grade_above(seen.shrunk_share, limit.shrunk_share)):
        yield grade, f"{seen.shrunk_share:.1%} of the weight is shrunk away, which biases the estimate"
    over = seen.mean_weight - 1.0
    bounds = zip(limit.mean_weight_over, limit.mean_weight_errors, strict=True)
    if grade := sum(over > max(distance, errors * seen.mean_weight_error) for distance, errors in bounds):
        yield grade, f"mean weight {seen.mean_weight:.3g} ± {seen.mean_weight_error:.2g}: propensities are too small"
    if grade := _grade_above(seen.priced, limit.priced):
        yield grade, _unseen(seen)


def _unseen(seen: Diagnostics) -> str:
    noise = f"what the log does not show may move the estimate by {seen.priced:.2g} half widths"
    if seen.unseen_share > 0:
        return f"{seen.unseen_share:.1%} of the target's slates hold items that the log hardly or never shows: {noise}"
    mean = f"{seen.mean_weight:.3g} ± {seen.mean_weight_error:.2g}"
    return f"mean weight {mean}, below 1: {noise}"


def _reward_findings(seen: Diagnostics, limit: Thresholds) -> Iterator[tuple[int, str]]:
    if not seen.rewarded and not seen.known_range:
        yield 2, "no session has any reward: declare reward_range= to have an interval"
    if seen.two_sided and (grade := _grade_below(seen.rewarded_ess, limit.rewarded)):
        yield grade, f"{seen.rewarded_ess:,.1f} effective sessions with reward, gains and losses"
    if seen.flat:
        return
    heavy = sum(
        seen.tail_index < index and seen.skewness > skewness
        for index, skewness in zip(limit.tail_index, limit.tail_skewness, strict=True)
    )
    if grade := max(heavy, _grade_above(seen.skewness, limit.skewness)):
        shape = f"skewness {seen.skewness:.2g}, tail index {seen.tail_index:.2g}"
        yield grade, f"a few large rewards decide it ({shape}): larger ones may not be in the log"


def _model_findings(seen: Diagnostics, limit: Thresholds) -> Iterator[tuple[int, str]]:
    unless = "" if seen.assumed else "; if you know better, name the estimator in assume="
    if seen.model_alone:
        alone = "a fitted model alone answers; the interval has the noise of its fit, not what it gets wrong"
        yield 1 if seen.assumed else 2, alone + unless
    bounds = zip(limit.bias_of_width, limit.bias_errors, strict=True)
    if grade := sum(seen.bias_of_width - errors * seen.bias_error > bound for bound, errors in bounds):
        far = f"{seen.bias_of_width:.2g} ± {seen.bias_error:.2g}"
        yield grade, f"a less biased estimate lies {far} half widths of the interval away"
    if seen.supposes:
        yield 1 if seen.assumed else 2, f"supposes that {seen.supposes}{unless}"
    if seen.fitted_propensities:
        yield 1, _fitted(seen)


def _fitted(seen: Diagnostics) -> str:
    if math.isnan(seen.between_fits):
        return "propensities are a fitted model's; the interval leaves out its error"
    return "propensities are fitted models'; the interval holds what differs between them, not what all get wrong"


def _grade_below(value: float, limits: tuple[float, float]) -> int:
    return sum(value < limit for limit in limits)


def _grade_above(value: float, limits: tuple[float, float]) -> int:
    """nan is above nothing: what was not measured speaks neither way."""
    return sum(value > limit for limit in limits)
