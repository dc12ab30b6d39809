"""What a policy is worth by segment of a log: each with its own verdict, and held against the rest.

Who looks at ten segments finds a wrong one among ten 90% intervals. Here all hold at once with the confidence asked
for: each of m intervals leaves out 1 / m of what they may all leave out (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.evaluate.bootstrap import check_confidence
from recil.evaluate.compare import compare
from recil.evaluate.estimates import PREFERENCE, Estimate, Estimates, Interval, interval_of
from recil.evaluate.estimators import Estimator, find_all
from recil.evaluate.loggers import balanced_where_known
from recil.evaluate.on_log import evaluate
from recil.evaluate.segment_results import ComparedSegments, Segment, Segments, confidence_of_each
from recil.logs.session_log import Column, SessionLog
from recil.policies.protocol import Policy

MISSING = "(missing)"
_MOST_NUMBERS, _MOST_SEGMENTS = 20, 50
# So many replicates lie beyond each end of an interval, lest the end be read off one or two.
_BEYOND = 10


def evaluate_by(
    policy: Policy,
    log: SessionLog,
    by: str,
    *,
    estimator: str | Estimator | None = None,
    confidence: float = 0.95,
    replicates: int = 1000,
    **options: Any,
) -> Segments:
    """The policy's value in each segment of the log, and how each differs from the rest.

    by          a column `user_*`, a context column (a session's first step counts) or `policy`; a numeric one may have
                20 values
    estimator   one for all; None: the first of PREFERENCE that refuses the fewest
    confidence  with which all intervals of values hold at once, and all those of differences
    replicates  at least; there are as many as leave ten beyond each end of an interval
    options     as for `evaluate`; every segment, and every rest, is a log of its own
    Raises InputError for a column that makes no segments, and as `evaluate`.
    """
    check_confidence(confidence)
    names, of = segments_of(log, by)
    each = confidence_of_each(confidence, len(names))
    asked = find_all(PREFERENCE if estimator is None else [estimator])
    options |= {"estimators": asked, "confidence": each, "replicates": max(replicates, replicates_for(each))}

    def estimates(sessions: np.ndarray) -> Estimates:
        return evaluate(policy, balanced_where_known(log.select(sessions)), **options)

    inside = [estimates(of == number) for number in range(len(names))]
    if len(names) < 3:
        outside = inside[::-1] if len(names) == 2 else []
    else:
        outside = [estimates(of != number) for number in range(len(names))]
    chosen = min((one.name for one in asked), key=lambda name: sum(part[name].refused for part in (*inside, *outside)))
    rests: list[Estimate | None] = [part[chosen] for part in outside] or [None]
    rows = [
        Segment(name, part.sessions, part[chosen], _apart(part[chosen], rest, confidence, len(names)))
        for name, part, rest in zip(names, inside, rests, strict=True)
    ]
    return Segments(by, tuple(rows), chosen, confidence)


def compare_by(
    policies: Mapping[str, Policy],
    log: SessionLog,
    by: str,
    *,
    confidence: float = 0.95,
    replicates: int = 1000,
    **options: Any,
) -> ComparedSegments:
    """Policies held against each other in each segment of the log.

    by, replicates as for `evaluate_by`, options as for `compare`. confidence: with which the intervals of a pair of
    policies hold in all segments at once; as with `compare`, pairs are not counted.
    """
    check_confidence(confidence)
    names, of = segments_of(log, by)
    each = confidence_of_each(confidence, len(names))
    options |= {"confidence": each, "replicates": max(replicates, replicates_for(each))}
    rows = []
    for number, name in enumerate(names):
        part = balanced_where_known(log.select(of == number))
        rows.append((name, part.sessions, compare(policies, part, **options)))
    return ComparedSegments(by, tuple(rows), confidence)


def segments_of(log: SessionLog, by: str) -> tuple[tuple[str, ...], np.ndarray]:
    """The segments that hold any session, in the order of the categories or numbers, and each session's, int64 [S].

    Raises InputError where the log has no such column, or it has too many values.
    """
    column, values = _values_of(log, by)
    if column.categories is None:
        different, of = np.unique(values, return_inverse=True)
        names = tuple(np.format_float_positional(value, trim="-") for value in different)
        if len(names) > _MOST_NUMBERS:
            problem = f"column {by!r} has {len(names):,} different numbers, and may have {_MOST_NUMBERS}"
            raise InputError("by", problem, "group them first, such as by quarters")
        return names, of.astype(np.int64)
    different, of = np.unique(values, return_inverse=True)
    if len(different) > _MOST_SEGMENTS:
        problem = f"column {by!r} has {len(different):,} values, and may have {_MOST_SEGMENTS}"
        raise InputError("by", problem, "group them: intervals corrected for so many segments say nothing")
    return tuple(column.categories[code] if code >= 0 else MISSING for code in different), of.astype(np.int64)


def _values_of(log: SessionLog, by: str) -> tuple[Column, np.ndarray]:
    """The column, and its value in each session."""
    if (column := log.user_features.get(by)) is not None:
        return column, column.values
    if (column := log.context.get(by)) is not None:
        return column, column.values[log.offsets[:-1]]
    known = ", ".join([*log.user_features, *log.context]) or "the log has none"
    raise InputError("by", f"{by!r} is no column of users or contexts", f"choose among these: {known}")


def replicates_for(confidence: float) -> int:
    """As many as leave ten beyond each end of an interval."""
    return math.ceil(2 * _BEYOND / (1.0 - confidence) - 1e-6)


def _apart(one: Estimate, rest: Estimate | None, confidence: float, segments: int) -> Interval | None:
    """None where there is no rest, or either may not be shown."""
    if rest is None or one.refused or rest.refused:
        return None
    # Two segments have one difference, whichever is named first.
    return difference(one, rest, confidence if segments == 2 else confidence_of_each(confidence, segments))


def difference(one: Estimate, other: Estimate, confidence: float) -> Interval:
    """The first minus the second, of two parts of a log by one estimator.

    Both have their replicates by the same addresses, so that units with sessions in both parts are paired. What their
    intervals hold beyond the replicates counts here too; of fitted propensities, as if errors in one part went against
    those in the other.
    """
    values = _with_replicates(one) - _with_replicates(other)
    between = one.diagnostics.between_fits + other.diagnostics.between_fits
    return interval_of(values, confidence, one.margins.minus(other.margins), between, one.models)


def _with_replicates(estimate: Estimate) -> Tensor:
    return torch.cat([estimate.replicates.new_tensor([estimate.raw.value]), estimate.replicates])
