"""The long table, one row per item shown, to and from a SessionLog."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from recil.errors import InputError
from recil.logs.checks import refuse_existing, require_columns, set_aside, write_quarantine
from recil.logs.exact_rewards import as_written
from recil.logs.history import PAD
from recil.logs.items import Catalogue, read_items, values_of
from recil.logs.rows import NAMED, OF_POLICY, Rows, read_rows
from recil.logs.session_log import POLICY, Column, SessionLog

WIDEST_SLATE = 1000  # beyond it a position is more likely an id than a place in a slate


def from_frame(
    frame: pd.DataFrame,
    items: pd.DataFrame | None = None,
    reward: str = "click",
    place: str = "the table",
    quarantine: str | Path | bool | None = None,
    categorical: Sequence[str] = (),
    slate_size: int | None = None,
) -> SessionLog:
    """A SessionLog from a table with one row per item shown, in any order.

    frame: session_id, step, item_id and the column named by `reward`; optional position (from 0), propensity,
    timestamp, user_id, terminated, context_* (one value per step, known before the slate), user_* (one per session),
    policy (who logged the session), propensity_* (the item's probability under that policy, whoever logged it); every
    other column is feedback. items: item_id and item_* columns, its order is the catalogue's; without it the catalogue
    is the sorted ids of the table. place: how errors name the table. quarantine: set sessions with a
    violation aside, into this .csv or .parquet file (True: nowhere), and count them in the notes. categorical: columns
    of numbers that are codes. slate_size: at least this many slots.

    Raises InputError with every violation counted; rows are counted from 0 in the order of the table.
    """
    if isinstance(quarantine, (str, Path)):
        refuse_existing(Path(quarantine))
    require_columns(frame, ["session_id", "step", "item_id", reward], place, reward)
    catalogue = None if items is None else read_items(items, f"{place}, items", categorical)
    findings, rows = read_rows(frame.reset_index(drop=True), catalogue, reward, place, categorical)
    if findings.violations and quarantine:
        kept, counts = set_aside(findings)
        log = from_frame(kept, items, reward, place, None, categorical, slate_size)
        if isinstance(quarantine, (str, Path)):
            write_quarantine(findings, Path(quarantine))
        return replace(log, notes={**log.notes, **counts})
    if findings.violations:
        raise findings.error()
    return _assemble(rows, catalogue, reward, place, slate_size)


@dataclass(frozen=True)
class _Layout:
    """Where the rows go. rows [R]: sorted; step, slot [R]: their place; first_of_step [N], first_of_session [S]."""

    rows: np.ndarray
    step: np.ndarray
    slot: np.ndarray
    first_of_step: np.ndarray
    first_of_session: np.ndarray
    offsets: np.ndarray
    shape: tuple[int, int]

    def grid(self, values: np.ndarray, fill: float) -> np.ndarray:
        """[N, K] from values in the table's order [R]."""
        grid = np.full(self.shape, fill, dtype=values.dtype)
        grid[self.step, self.slot] = values[self.rows]
        return grid


def _layout(rows: Rows, place: str, slate_size: int | None) -> _Layout:
    order, new_step, new_session = rows.order, rows.new_step, rows.new_session
    step = np.cumsum(new_step) - 1
    slot = rows.position[order]
    widest = int(slot.max()) + 1
    largest = int(np.bincount(step).max())
    if widest > max(WIDEST_SLATE, 10 * largest):
        raise InputError(
            place,
            f"column 'position' reaches {widest - 1}, though no slate shows more than {largest} items",
            "number the positions of a slate from 0",
        )
    starts = np.flatnonzero(new_session)
    return _Layout(
        rows=order,
        step=step,
        slot=slot,
        first_of_step=order[new_step],
        first_of_session=order[new_session],
        offsets=np.append(step[starts], step[-1] + 1).astype(np.int64),
        shape=(int(step[-1]) + 1, max(widest, slate_size or 1)),
    )


def _assemble(rows: Rows, catalogue: Catalogue | None, reward: str, place: str, slate_size: int | None) -> SessionLog:
    layout = _layout(rows, place, slate_size)
    notes = dict(rows.notes) | (catalogue.notes if catalogue else {})
    steps = rows.step[layout.first_of_step]
    dense = np.arange(len(steps)) - np.repeat(layout.offsets[:-1], np.diff(layout.offsets))
    gaps = int(np.add.reduceat(steps != dense, layout.offsets[:-1]).astype(bool).sum())
    if gaps:
        notes["sessions whose steps had gaps and were numbered anew"] = gaps
    if layout.slot.min() > 0:
        notes["first slots that no slate fills (positions count from 0)"] = int(layout.slot.min())

    def at(values: np.ndarray | None, where: np.ndarray) -> np.ndarray | None:
        return None if values is None else values[where]

    return SessionLog(
        item_ids=rows.item_ids,
        items=layout.grid(rows.item, PAD),
        reward=layout.grid(rows.reward, 0.0),
        offsets=layout.offsets,
        session_ids=rows.session_ids[rows.session[layout.first_of_session]],
        propensity=None if rows.propensity is None else layout.grid(rows.propensity, 1.0),
        timestamp=at(rows.timestamp, layout.first_of_step),
        user_ids=at(rows.user_ids, layout.first_of_session),
        terminated=at(rows.terminated, layout.first_of_session),
        feedback={
            name: Column(layout.grid(side.values, 0.0 if side.categories is None else PAD), side.categories)
            for name, side in rows.feedback.items()
        },
        context={name: side.column(layout.first_of_step) for name, side in rows.context.items()},
        user_features={name: side.column(layout.first_of_session) for name, side in rows.user.items()},
        item_features={} if catalogue is None else catalogue.features,
        propensity_of={name: layout.grid(values, 1.0) for name, values in rows.propensity_of.items()},
        notes=notes,
        reward_name=reward,
    )


def to_frame(log: SessionLog) -> pd.DataFrame:
    """The long table of a log, one row per item shown, by session, step and position: the inverse of from_frame.

    Categorical columns are pandas categoricals that keep categories no row has. The items table is `items_frame(log)`.
    Raises InputError where a column's name would be read as something else.
    """
    step, slot = np.nonzero(log.items != PAD)
    session = np.repeat(np.arange(log.sessions), log.lengths)
    of_row = session[step]
    columns: dict[str, object] = {
        "session_id": log.session_ids[of_row],
        "step": (np.arange(log.steps) - log.offsets[:-1][session])[step],
        "position": slot,
        "item_id": log.item_ids[log.items[step, slot]],
        log.reward_name: as_written(log.reward[step, slot]),
    }
    if log.propensity is not None:
        columns["propensity"] = log.propensity[step, slot]
    for name, values in log.propensity_of.items():
        columns[f"{OF_POLICY}{name}"] = values[step, slot]
    if log.timestamp is not None:
        columns["timestamp"] = log.timestamp[step]
    if log.user_ids is not None:
        columns["user_id"] = log.user_ids[of_row]
    if log.terminated is not None:
        columns["terminated"] = log.terminated[of_row]
    for name, column in log.context.items():
        columns[name if name == POLICY else _checked(name, "context_", columns)] = values_of(column, step)
    for name, column in log.user_features.items():
        columns[_checked(name, "user_", columns)] = values_of(column, of_row)
    for name, column in log.feedback.items():
        columns[_checked(name, "", columns)] = values_of(column, (step, slot))
    return pd.DataFrame(columns)


def _checked(name: str, prefix: str, taken: dict[str, object]) -> str:
    misread = not name.startswith(prefix) if prefix else name.startswith(("context_", "user_", "item_", OF_POLICY))
    if misread or name in taken or name in NAMED:
        kind = f"a column of the kind {prefix}*" if prefix else "feedback"
        raise InputError("the log", f"column {name!r} cannot be told from another as {kind}", "rename it")
    return name
