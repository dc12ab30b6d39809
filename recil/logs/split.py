"""A log in two: what to learn from and what to judge by."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from recil.errors import InputError
from recil.logs.clusters import SESSION, USER, clusters_of
from recil.logs.select import cut, select
from recil.logs.session_log import SessionLog
from recil.random import stable_hashes

USERS_ON_BOTH_SIDES = "users on both sides of the split"
DIVIDED = "sessions divided by the split in time"


def split(
    log: SessionLog,
    by: Literal["time", "session", "user"] = "time",
    test: float = 0.2,
    at: int | None = None,
    seed: int = 0,
    cluster: str | None = None,
) -> tuple[SessionLog, SessionLog]:
    """(train, test), both over the log's catalogue and categories.

    by="time": steps before `at` (in the unit of the log's timestamps; the (1 - test) quantile of the steps' times when
    None) are train, the others test. A session on both sides is divided: its train part did not end (terminated False),
    both parts keep the session's id, and notes count the divided, and the users on both sides.
    by="session": each user (each session, where the log names no users) is drawn into test with probability `test`, by
    a hash of seed and name alone, so that a side depends neither on the order nor on the others. No user stands on both
    sides: what is learned of a user would help to predict the user's held-out sessions. `cluster` names other units, as
    in `clusters_of`: "session" or a column may divide users, and notes count them.
    by="user": the same, and refused where the log names no users.
    Raises InputError where a side would be empty.
    """
    if not 0 < test < 1:
        raise InputError("split", f"test={test} is no share", "give a number between 0 and 1, such as 0.2")
    if by not in ("time", "user", "session"):
        raise InputError("split", f"by={by!r} is unknown", 'use by="time", by="user" or by="session"')
    if by != "session" and cluster not in (None, by):
        raise InputError("split", f"by={by!r} takes no cluster={cluster!r}", 'use by="session", or leave cluster out')
    if by == "time":
        return _by_time(log, test, at)
    return _by_unit(log, test, seed, USER if by == "user" else cluster)


def _by_unit(log: SessionLog, test: float, seed: int, cluster: str | None) -> tuple[SessionLog, SessionLog]:
    units = clusters_of(log, cluster)
    names = log.session_ids
    if units.name != SESSION:
        names = np.empty(units.count, dtype=np.int64)
        names[units.numbers] = units.keys
    held_out = stable_hashes(names.tolist(), "split", seed) < int(test * 2**63)
    held_out = held_out if units.of is None else held_out[units.of]
    if held_out.all() or not held_out.any():
        side = "train" if held_out.all() else "test"
        raise InputError(
            "split",
            f"the {side} side is empty: {units.count} {units.name}(s), test={test}, seed={seed}",
            f"give more {units.plural} or another share",
        )
    train, test_side = select(log, ~held_out), select(log, held_out)
    if units.name == USER or log.user_ids is None:
        return train, test_side
    notes = dict(log.notes) | {USERS_ON_BOTH_SIDES: _users_on_both_sides(train, test_side)}
    return replace(train, notes=notes), replace(test_side, notes=notes)


def _users_on_both_sides(train: SessionLog, test: SessionLog) -> int:
    here, there = (pd.unique(clusters_of(part, USER).keys) for part in (train, test))
    return len(np.intersect1d(here, there, assume_unique=True))


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
    notes = dict(log.notes) | {DIVIDED: int(divided.sum())}
    train = cut(log, everyone, starts, before)
    held_out = cut(log, everyone, starts + before, after)
    if log.user_ids is not None:
        notes[USERS_ON_BOTH_SIDES] = _users_on_both_sides(train, held_out)
    if train.terminated is not None:
        train = replace(train, terminated=train.terminated & ~divided[before > 0])
    return replace(train, notes=notes), replace(held_out, notes=notes)
