"""Simulated batches as a log: real and simulated sessions cannot be told apart by type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from recil.errors import InputError
from recil.logs.history import PAD, History
from recil.logs.session_log import Column, SessionLog


def log_of(
    histories: Sequence[History], item_ids: np.ndarray, categories: Mapping[str, tuple[str, ...]] | None = None
) -> SessionLog:
    """Padded batches of sessions as one log, in their order; each session's id is its address."""
    empty = sum(int((history.length == 0).sum()) for history in histories)
    if empty:
        raise InputError("simulated sessions", f"{empty} ended before a slate was shown", "a log cannot hold them")
    first, names = histories[0], categories or {}

    def flat(part: str) -> np.ndarray:
        return np.concatenate([getattr(history, part)[history.happened].numpy() for history in histories])

    def column(part: str, name: str) -> Column:
        return _column(histories, part, name, names.get(name))

    items = flat("items").astype(np.int32)
    lengths = np.concatenate([history.length.numpy() for history in histories])
    propensity = None if first.propensity is None else flat("propensity").astype(np.float32)
    return SessionLog(
        item_ids=item_ids,
        items=items,
        reward=np.where(items != PAD, flat("reward"), 0.0).astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        session_ids=np.concatenate([history.session.numpy() for history in histories]),
        propensity=None if propensity is None else np.where(items != PAD, propensity, 1.0).astype(np.float32),
        terminated=None
        if first.terminated is None
        else np.concatenate([history.terminated.numpy() for history in histories if history.terminated is not None]),
        feedback={name: column("feedback", name) for name in first.feedback},
        context={name: column("context", name) for name in first.context},
        user_features={name: column("user", name) for name in first.user},
    )


def _column(histories: Sequence[History], part: str, name: str, categories: tuple[str, ...] | None) -> Column:
    """One feedback, context or user column of all the sessions, without padding."""
    blocks = []
    for history in histories:
        values = getattr(history, part)[name]
        blocks.append((values if part == "user" else values[:, : history.steps][history.happened]).numpy())
    values = np.concatenate(blocks)
    if np.issubdtype(values.dtype, np.floating):
        return Column(values.astype(np.float32))
    codes = categories or tuple(str(code) for code in range(int(values.max(initial=-1)) + 1))
    return Column(values.astype(np.int32), codes)
