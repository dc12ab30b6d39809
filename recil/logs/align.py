"""One log in the words of another: the same catalogue, columns and codes, so that what was learnt on one reads both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from recil.errors import InputError
from recil.logs.history import PAD
from recil.logs.session_log import POLICY, Column, SessionLog


def align(log: SessionLog, like: SessionLog) -> SessionLog:
    """`log` with the catalogue, item features, side columns and category codes of `like`.

    Categories that `like` does not know become missing (-1), columns it does not have are left out; both are counted in
    the notes. Who logged a session is the log's own and stays. Raises InputError for an item shown that `like` lacks, a
    column that `log` lacks, a reward of another name, or a column that is numeric in one and categorical in the other.
    """
    if log.reward_name != like.reward_name:
        raise InputError(
            "align", f"the rewards are {log.reward_name} and {like.reward_name}", "read both with one reward"
        )
    notes = dict(log.notes)
    sides = {
        kind: _columns(_shared(log, kind), _shared(like, kind), kind, notes)
        for kind in ("feedback", "context", "user_features")
    }
    sides["context"] |= {name: column for name, column in log.context.items() if name == POLICY}
    return replace(
        log,
        item_ids=like.item_ids,
        items=_items(log, like),
        item_features=like.item_features,
        notes=notes,
        **sides,  # type: ignore[arg-type]
    )


def _items(log: SessionLog, like: SessionLog) -> np.ndarray:
    if log.item_ids.dtype.kind != like.item_ids.dtype.kind:
        raise InputError("align", "item ids are whole numbers in one log and text in the other", "give both one type")
    code = np.append(pd.Index(like.item_ids).get_indexer(pd.Index(log.item_ids)), PAD).astype(np.int32)
    items = code[log.items]
    lost = (items == PAD) & (log.items != PAD)
    if lost.any():
        step, slot = (int(where[0]) for where in np.nonzero(lost))
        raise InputError(
            "align",
            f"item {log.item_ids[log.items[step, slot]]} is not in the other log's catalogue; "
            f"{int(lost.sum())} items shown are not",
            "read both logs with one items table",
        )
    return items


def _shared(log: SessionLog, kind: str) -> Mapping[str, Column]:
    columns: Mapping[str, Column] = log.known_context if kind == "context" else getattr(log, kind)
    return columns


def _columns(
    mine: Mapping[str, Column], like: Mapping[str, Column], kind: str, notes: dict[str, int]
) -> dict[str, Column]:
    lacking = [name for name in like if name not in mine]
    if lacking:
        raise InputError("align", f"the log has no {kind} column {', '.join(lacking)}", "read both logs alike")
    surplus = len(mine.keys() - like.keys())
    if surplus:
        notes[f"{kind} columns the other log lacks, left out"] = surplus
    return {name: _recoded(mine[name], like[name], name, notes) for name in like}


def _recoded(mine: Column, like: Column, name: str, notes: dict[str, int]) -> Column:
    if (mine.categories is None) != (like.categories is None):
        raise InputError(
            "align", f"column {name!r} is numeric in one log and categorical in the other", "read both alike"
        )
    if mine.categories is None or like.categories is None or mine.categories == like.categories:
        return mine
    index = {category: code for code, category in enumerate(like.categories)}
    code = np.array([*(index.get(category, PAD) for category in mine.categories), PAD], dtype=np.int32)
    values = code[mine.values]
    unknown = int(((values == PAD) & (mine.values != PAD)).sum())
    if unknown:
        notes[f"values of {name} the other log does not know, taken as missing"] = unknown
    return Column(values, like.categories)
