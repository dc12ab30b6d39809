"""The independent units of a log: users where it names them, else sessions.

Sessions of one user are alike, so that twenty of them tell less than twenty sessions of twenty users. Whatever is
counted, drawn, folded or held out is counted, drawn, folded or held out by unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.random import stable_hashes

USER, SESSION = "user", "session"


@dataclass(frozen=True)
class Clusters:
    """Which unit each of S sessions belongs to.

    name     what the units are: user, session, or a column
    of       int64 [S], the unit of each session, 0 to count - 1; None where every session is a unit of its own
    keys     int64 [S], the unit's address, which depends on its name alone: parts of a log keep theirs
    count    number of units
    """

    name: str
    of: np.ndarray | None
    keys: np.ndarray
    count: int

    @property
    def plural(self) -> str:
        return f"{self.name}s"

    @property
    def numbers(self) -> np.ndarray:
        """int64 [S], `of` written out."""
        return np.arange(len(self.keys)) if self.of is None else self.of


def clusters_of(log: SessionLog, cluster: str | None = None) -> Clusters:
    """The units of a log.

    Args:
        log: S sessions.
        cluster: "user", "session", or the name of a user feature or of a context column, of which a session's first
            step counts. None: users where the log has them, else sessions.

    A session whose user or category is missing is a unit of its own.

    Raises:
        InputError: the log names no users, or has no such column.
    """
    name = cluster or (SESSION if log.user_ids is None else USER)
    if name == SESSION:
        return Clusters(SESSION, None, keys_of(log.session_ids), log.sessions)
    values = _values(log, name)
    keys, missing = keys_of(values), _missing(values)
    if missing.any():
        keys[missing] = stable_hashes(log.session_ids[missing].tolist(), "nobody")
    of, count = _numbered(keys)
    return Clusters(name, None if count == log.sessions else of, keys, count)


def _numbered(keys: np.ndarray) -> tuple[np.ndarray, int]:
    """int64 [S]: the number of each key, 0 to count - 1; count."""
    first = int(keys.min())
    if int(keys.max()) - first < 4 * len(keys):
        present = np.zeros(int(keys.max()) - first + 1, dtype=bool)
        present[keys - first] = True
        number = np.cumsum(present) - 1
        return number[keys - first], int(number[-1]) + 1
    number, units = pd.factorize(keys)
    return number.astype(np.int64), len(units)


def keys_of(names: np.ndarray) -> np.ndarray:
    """int64 [S]: whole numbers as they are, other names by the hash of their text."""
    if np.issubdtype(names.dtype, np.integer):
        return names.astype(np.int64, copy=False)
    place, different = pd.factorize(names.astype(object), use_na_sentinel=False)
    return stable_hashes(different.tolist())[place]


def _values(log: SessionLog, name: str) -> np.ndarray:
    if name == USER:
        if log.user_ids is None:
            raise InputError("cluster", "the log names no users", 'add a column user_id, or use cluster="session"')
        return log.user_ids
    if (column := log.user_features.get(name)) is not None:
        codes = column.values
    elif (column := log.context.get(name)) is not None:
        codes = column.values[log.offsets[:-1]]
    else:
        known = ", ".join([USER, SESSION, *log.user_features, *log.context])
        raise InputError("cluster", f"{name!r} is no column of the log", f"choose among {known}")
    if codes.ndim != 1:
        raise InputError("cluster", f"{name!r} has several values a session", "name a column with one")
    return codes if column.categories is None else np.array([*column.categories, None], dtype=object)[codes]


def _missing(values: np.ndarray) -> np.ndarray:
    """bool [S]: null, not a number, or empty text."""
    if np.issubdtype(values.dtype, np.integer):
        return np.zeros(len(values), dtype=bool)
    return pd.isna(values) | (values.astype(object) == "")
