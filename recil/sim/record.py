"""A simulated batch as a log: real and simulated sessions cannot be told apart by type."""

from __future__ import annotations

import numpy as np

from recil.logs.history import History
from recil.logs.session_log import SessionLog


def log_of(sessions: History, item_ids: np.ndarray) -> SessionLog:
    """The sessions of a batch as a SessionLog; session ids are the addresses that drew them."""
    happened = sessions.happened.numpy()
    lengths = sessions.length.numpy()
    return SessionLog(
        item_ids=item_ids,
        items=sessions.items.numpy()[happened].astype(np.int32),
        reward=sessions.reward.numpy()[happened].astype(np.float32),
        offsets=np.concatenate([[0], lengths.cumsum()]).astype(np.int64),
        session_ids=sessions.session.numpy().copy(),
        propensity=None if sessions.propensity is None else sessions.propensity.numpy()[happened].astype(np.float32),
        terminated=None if sessions.terminated is None else sessions.terminated.numpy().copy(),
    )
