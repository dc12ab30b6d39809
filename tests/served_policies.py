"""Policies to serve: one that looks at every column, one that looks at none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from logs_for_policies import log_with_all_columns

from recil.logs.session_log import Column, SessionLog
from recil.policies.encoders import EncoderConfig
from recil.policies.softmax import SoftmaxPolicy
from recil.policies.storage import save
from recil.track.serve_columns import Columns


def attentive(folder: Path, seed: int = 3, named: bool = True) -> SessionLog:
    """Saves a policy whose slates depend on all a session tells, and returns a log with its columns."""
    log = log_with_all_columns()
    policy = SoftmaxPolicy.for_log(log, EncoderConfig("gru", 8), seed=seed)
    with torch.no_grad():
        for weight in policy.output.parameters():
            weight.mul_(30)
    save(policy, folder)
    if named:
        Columns.of_log(log).save(folder)
    return log


def requests_of(log: SessionLog, sessions: int) -> list[dict[str, Any]]:
    """The log's first sessions as a client would send them, asking for the slate after their last step."""
    asked = []
    for session in range(sessions):
        rows = range(int(log.offsets[session]), int(log.offsets[session + 1]))
        asked.append(
            {
                "session_id": f"s{session}",
                "history": [_step(log, row) for row in rows],
                "user": {name: _value(column, session) for name, column in log.user_features.items()},
            }
        )
    return asked


def _step(log: SessionLog, row: int) -> dict[str, Any]:
    shown = [slot for slot in range(log.slate_size) if log.items[row, slot] >= 0]
    return {
        "items": [log.item_ids[log.items[row, slot]].item() for slot in shown],
        "reward": [float(log.reward[row, slot]) for slot in shown],
        "feedback": {name: [_value(column, (row, slot)) for slot in shown] for name, column in log.feedback.items()},
        "context": {name: _value(column, row) for name, column in log.context.items()},
    }


def _value(column: Column, place: Any) -> Any:
    value = column.values[place].item()
    if column.categories is None:
        return value
    return None if value < 0 else column.categories[value]


def with_whole_number_ids(log: SessionLog) -> SessionLog:
    return replace(log, item_ids=np.arange(log.catalogue) * 10)
