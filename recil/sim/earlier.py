"""What went before: the sessions of a log, led in by their own earlier steps from another part of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recil.errors import InputError
from recil.logs.session_log import Column, SessionLog


def with_earlier(log: SessionLog, before: SessionLog | None) -> tuple[SessionLog, np.ndarray]:
    """The log with each session led in by the steps of the session of the same id in `before`; and where its rows are.

    A split in time divides sessions: whoever predicts the later part may know the earlier one. Sessions stand in the
    order of `log`; those that only `before` has are left out. rows: int64 [N], the joined log's row of each row of
    `log`. before: None where nothing is known of what went before.
    Raises InputError where the two are no parts of one log: another catalogue, other columns or slates.
    """
    if before is None:
        return log, np.arange(log.steps)
    _check_alike(log, before)
    order = np.argsort(before.session_ids, kind="stable")
    place = np.searchsorted(before.session_ids, log.session_ids, sorter=order).clip(max=before.sessions - 1)
    source = order[place]
    known = before.session_ids[source] == log.session_ids
    led = np.where(known, before.lengths[source], 0)
    offsets = np.append(0, np.cumsum(led + log.lengths))
    mine = np.repeat(offsets[:-1] + led - log.offsets[:-1], log.lengths) + np.arange(log.steps)
    steps = np.empty(offsets[-1], dtype=np.int64)
    steps[mine] = before.steps + np.arange(log.steps)
    starts = np.repeat(offsets[:-1], led)
    within = np.arange(len(starts)) - np.repeat(np.cumsum(led) - led, led)
    steps[starts + within] = np.repeat(before.offsets[:-1][source], led) + within
    return _stacked(before, log, steps, offsets), mine


def _stacked(before: SessionLog, log: SessionLog, steps: np.ndarray, offsets: np.ndarray) -> SessionLog:
    """Sessions of `log` with these steps out of the rows of both, one after the other."""

    def rows(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
        return None if first is None or second is None else np.concatenate([first, second])[steps]

    def columns(name: str) -> dict[str, Column]:
        earlier, later = getattr(before, name), getattr(log, name)
        return {
            key: Column(np.concatenate([earlier[key].values, column.values])[steps], column.categories)
            for key, column in later.items()
        }

    items, reward = rows(before.items, log.items), rows(before.reward, log.reward)
    assert items is not None and reward is not None
    return replace(
        log,
        items=items,
        reward=reward,
        offsets=offsets,
        propensity=rows(before.propensity, log.propensity),
        timestamp=rows(before.timestamp, log.timestamp),
        feedback=columns("feedback"),
        context=columns("context"),
    )


def _check_alike(log: SessionLog, before: SessionLog) -> None:
    remedy = "give the two parts of one split"
    if not np.array_equal(log.item_ids, before.item_ids) or log.slate_size != before.slate_size:
        raise InputError("before", "has another catalogue or other slates than the log", remedy)
    if log.session_ids.dtype.kind != before.session_ids.dtype.kind:
        raise InputError("before", "its session ids are of another type than the log's", remedy)
    for name in ("feedback", "context"):
        mine, theirs = getattr(log, name), getattr(before, name)
        for key, column in mine.items():
            if key not in theirs or theirs[key].categories != column.categories:
                raise InputError("before", f"column {key} is missing or has other categories", remedy)
