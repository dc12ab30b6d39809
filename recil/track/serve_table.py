"""Requests as the table that MLflow's models take, one row per session, and slates as the table they return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from recil.errors import InputError
from recil.track.serve import ServedPolicy

SESSION_COLUMNS = ("session_id", "history", "context", "user")


def answer_table(served: ServedPolicy, table: pd.DataFrame, params: Mapping[str, Any]) -> pd.DataFrame:
    """One slate per row: session_id, step, items, propensity, policy, draw, seed.

    table: history (a list of steps, each with items and reward, feedback, context) and, optional, session_id, context,
    user; params: k, draw ("sample", "greedy"), seed. Raises InputError that names the row.
    """
    frame = table if isinstance(table, pd.DataFrame) else pd.DataFrame(table)
    unknown = [str(name) for name in frame.columns if name not in SESSION_COLUMNS]
    if unknown:
        raise InputError(f"column {unknown[0]}", "unknown", f"the columns are {', '.join(SESSION_COLUMNS)}")
    rows = [
        {str(name): plain(value) for name, value in row.items() if not _absent(value)}
        for row in frame.to_dict("records")
    ]
    seed = params.get("seed")
    body = {"sessions": rows, "k": plain(params.get("k")) or None, "draw": params.get("draw") or None}
    answers = served.answer(served.reader().read(body), int(seed or 0))
    return pd.DataFrame([answer.to_dict() for answer in answers])


def plain(value: Any) -> Any:
    """The same value out of lists, dicts and Python's own numbers; MLflow hands over numpy's."""
    if isinstance(value, np.ndarray):
        return [plain(part) for part in value.tolist()]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items() if part is not None}
    return value


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA
