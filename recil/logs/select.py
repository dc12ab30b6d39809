"""Parts of a log over the same catalogue."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recil.errors import InputError
from recil.logs.session_log import SessionLog


def select(log: SessionLog, sessions: np.ndarray) -> SessionLog:
    """The log of these sessions: positions int [B], in this order, or a mask bool [S]."""
    chosen = np.flatnonzero(sessions) if sessions.dtype == bool else sessions.astype(np.int64)
    if len(chosen) and (chosen.min() < 0 or chosen.max() >= log.sessions):
        worst = int(chosen.max() if chosen.max() >= log.sessions else chosen.min())
        raise InputError("select", f"session {worst} of a log with {log.sessions}", "give positions from 0")
    lengths = log.lengths[chosen]
    return cut(log, chosen, log.offsets[chosen], lengths)


def cut(log: SessionLog, sessions: np.ndarray, first: np.ndarray, lengths: np.ndarray) -> SessionLog:
    """`lengths` [B] steps (0: none of the session) from step row `first` [B] on, of each of these sessions [B]."""
    kept = lengths > 0
    sessions, first, lengths = sessions[kept], first[kept], lengths[kept]
    if not len(sessions):
        raise InputError("select", "no session is left", "choose at least one")
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int64)
    steps = np.repeat(first - offsets[:-1], lengths) + np.arange(offsets[-1])
    return replace(
        log,
        items=log.items[steps],
        reward=log.reward[steps],
        offsets=offsets,
        session_ids=log.session_ids[sessions],
        propensity=None if log.propensity is None else log.propensity[steps],
        timestamp=None if log.timestamp is None else log.timestamp[steps],
        user_ids=None if log.user_ids is None else log.user_ids[sessions],
        terminated=None if log.terminated is None else log.terminated[sessions],
        feedback={name: column.take(steps) for name, column in log.feedback.items()},
        context={name: column.take(steps) for name, column in log.context.items()},
        propensity_of={name: values[steps] for name, values in log.propensity_of.items()},
        user_features={name: column.take(sessions) for name, column in log.user_features.items()},
    )
