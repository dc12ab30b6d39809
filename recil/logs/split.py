"""A log in two: what to learn from and what to judge by."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from recil.errors import InputError
from recil.logs.select import cut, select
from recil.logs.session_log import SessionLog
from recil.random import stable_hash


def split(
    log: SessionLog,
    by: Literal["time", "session"] = "time",
    test: float = 0.2,
    at: int | None = None,
    seed: int = 0,
) -> tuple[SessionLog, SessionLog]:
    """(train, test), both over the log's catalogue and categories.

    by="time": steps before `at` (in the unit of the log's timestamps; the (1 - test) quantile of the steps' times when
    None) are train, the others test. A session on both sides is divided: its train part did not end (terminated False),
    both parts keep the session's id, and notes count the divided.
    by="session": each session is drawn into test with probability `test`, by a hash of seed and session id alone, so
    that a session's side depends neither on the order nor on the other sessions.
    Raises InputError where a side would be empty.
    """
    if not 0 < test < 1:
        raise InputError("split", f"test={test} is no share", "give a number between 0 and 1, such as 0.2")
    if by == "session":
        return _by_session(log, test, seed)
    if by == "time":
        return _by_time(log, test, at)
    raise InputError("split", f"by={by!r} is unknown", 'use by="time" or by="session"')


def _by_session(log: SessionLog, test: float, seed: int) -> tuple[SessionLog, SessionLog]:
    limit = int(test * 2**63)
    held_out = np.array([stable_hash("split", seed, name) < limit for name in log.session_ids.tolist()])
    if held_out.all() or not held_out.any():
        side = "train" if held_out.all() else "test"
        raise InputError(
            "split",
            f"the {side} side is empty: {log.sessions} session(s), test={test}, seed={seed}",
            "give more sessions or another share",
        )
    return select(log, ~held_out), select(log, held_out)


def _by_time(log: SessionLog, test: float, at: int | None) -> tuple[SessionLog, SessionLog]:
    if log.timestamp is None:
        raise InputError("split", "the log has no timestamp column to split by time", 'use by="session"')
    if at is None:
        at = int(np.sort(log.timestamp)[min(int((1 - test) * log.steps), log.steps - 1)])
    before = np.add.reduceat((log.timestamp < at).astype(np.int64), log.offsets[:-1])
    after = log.lengths - before
    if not before.any() or not after.any():
        side = "test" if before.any() else "train"
        first, last = int(log.timestamp.min()), int(log.timestamp.max())
        raise InputError(
            "split",
            f"the {side} side is empty: the cut is at {at}, the log runs from {first} to {last}",
            "choose another `at` or share, or split by session",
        )
    everyone, starts = np.arange(log.sessions), log.offsets[:-1]
    divided = (before > 0) & (after > 0)
    notes = dict(log.notes) | {"sessions divided by the split in time": int(divided.sum())}
    train = cut(log, everyone, starts, before)
    held_out = cut(log, everyone, starts + before, after)
    if train.terminated is not None:
        train = replace(train, terminated=train.terminated & ~divided[before > 0])
    return replace(train, notes=notes), replace(held_out, notes=notes)
