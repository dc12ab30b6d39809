"""A content hash of a log, for the lineage of data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np

from recil.logs.exact_rewards import narrowest
from recil.logs.history import PAD
from recil.logs.session_log import SessionLog


def content_digest(log: SessionLog) -> str:
    """sha256 (hex) over every array with its name and shape, as little-endian bytes; pads count as pads only."""
    digest = hashlib.sha256()
    for name, value in _parts(log):
        if isinstance(value, np.ndarray):
            header = json.dumps([name, value.dtype.newbyteorder("<").str, list(value.shape)])
            digest.update(header.encode())
            digest.update(np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<")).data)
        else:
            digest.update(json.dumps([name, value]).encode())
    return digest.hexdigest()


def _parts(log: SessionLog) -> Iterator[tuple[str, Any]]:
    """What counts, in the types of the contract: a maker's int32 ids are those that are read back as int64."""
    shown = log.items != PAD
    yield "reward_name", log.reward_name
    yield "item_ids", _ids(log.item_ids)
    yield "items", log.items.astype(np.int32)
    yield "reward", narrowest(np.where(shown, log.reward, 0))
    yield "offsets", log.offsets.astype(np.int64)
    yield "session_ids", _ids(log.session_ids)
    yield "propensity", None if log.propensity is None else np.where(shown, log.propensity, 1).astype(np.float32)
    for name, values in sorted(log.propensity_of.items()):
        yield f"propensity of {name}", np.where(shown, values, 1).astype(np.float32)
    yield "timestamp", None if log.timestamp is None else log.timestamp.astype(np.int64)
    yield "user_ids", None if log.user_ids is None else _ids(log.user_ids)
    yield "terminated", None if log.terminated is None else log.terminated.astype(bool)
    for name, column in sorted(log.feedback.items()):
        fill = column.values.dtype.type(0 if column.categories is None else PAD)
        yield f"feedback {name}", np.where(shown, column.values, fill)
        yield f"feedback {name} categories", column.categories
    sides = (("context", log.context), ("user", log.user_features), ("item", log.item_features))
    for kind, name, column in chain.from_iterable(
        ((kind, name, column) for name, column in sorted(columns.items())) for kind, columns in sides
    ):
        yield f"{kind} {name}", column.values
        yield f"{kind} {name} categories", column.categories


def _ids(ids: np.ndarray) -> np.ndarray | list[str]:
    return ids.astype(np.int64) if ids.dtype.kind in "iu" else ids.tolist()
