"""What recil evaluate answers: estimates of the whole log, or of each segment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from recil.errors import InputError

if TYPE_CHECKING:
    from recil.evaluate.estimates import Estimates
    from recil.evaluate.segment_results import Segments
    from recil.evaluate.verdict import Verdict
    from recil.logs.session_log import SessionLog
    from recil.policies.protocol import Policy


class Answer(NamedTuple):
    """What was found, its verdict (by segment the gravest), and what MLflow keeps as metrics."""

    found: Estimates | Segments
    verdict: Verdict
    metrics: Mapping[str, float]


def estimated(policy: Policy, log: SessionLog, by: str | None, estimators: str | None, **options: Any) -> Answer:
    """estimators: names with commas between them; by segment, one name."""
    names = None if estimators is None else [name.strip() for name in estimators.split(",")]
    if by is not None:
        from recil.evaluate.segments import evaluate_by

        if names is not None and len(names) > 1:
            raise InputError("--estimators", f"{len(names)} of them by segment", "name one")
        segments = evaluate_by(policy, log, by, estimator=None if names is None else names[0], **options)
        return Answer(segments, segments.verdict, {})
    from recil.evaluate.on_log import evaluate

    found = evaluate(policy, log, estimators=names, **options)
    metrics = {
        f"ope/{row.estimator}{end}": value
        for row in found
        for end, value in (("", row.value), ("_low", row.low), ("_high", row.high), ("_ess", row.ess))
        if value == value
    }
    return Answer(found, found.best.verdict, metrics)
