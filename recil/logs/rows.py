"""The columns of a long table, read and checked, before they are put in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from recil.errors import InputError
from recil.logs.checks import Findings, differs_within
from recil.logs.columns import (
    Parsed,
    is_unusable,
    read_categories,
    read_flags,
    read_ids,
    read_numbers,
    read_rewards,
    read_side,
    read_times,
    read_whole,
)
from recil.logs.items import Catalogue
from recil.logs.session_log import POLICY

NAMED = ("session_id", "step", "position", "item_id", "propensity", "timestamp", "user_id", "terminated", POLICY)
OF_POLICY = "propensity_"  # and the name of a logging policy
ROUNDING = 1e-6  # a probability of 1 that went through a logarithm in float32


@dataclass
class Rows:
    """R rows in the table's order; `order` sorts them by session, step and position.

    session, item: int codes [R]; step, position: int64 [R]; new_step, new_session: bool [R], in sorted order, where one
    starts; the rest as in SessionLog, per row.
    """

    session_ids: np.ndarray
    session: np.ndarray
    step: np.ndarray
    position: np.ndarray
    order: np.ndarray
    new_session: np.ndarray
    new_step: np.ndarray
    item_ids: np.ndarray
    item: np.ndarray
    reward: np.ndarray
    propensity: np.ndarray | None = None
    timestamp: np.ndarray | None = None
    user_ids: np.ndarray | None = None
    terminated: np.ndarray | None = None
    feedback: dict[str, Parsed] = field(default_factory=dict)
    context: dict[str, Parsed] = field(default_factory=dict)
    user: dict[str, Parsed] = field(default_factory=dict)
    propensity_of: dict[str, np.ndarray] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)


def read_rows(
    frame: pd.DataFrame, catalogue: Catalogue | None, reward: str, place: str, categorical: Sequence[str]
) -> tuple[Findings, Rows]:
    """Every column of `frame` (index 0, 1, …), and all that is wrong with them."""
    sessions = read_ids(frame["session_id"], "session_id", place)
    findings = Findings(frame, sessions.codes, place)
    findings.add("session_id", sessions.codes < 0, "is null", "give every row its session")
    step = _counted(findings, "step", "number the slates of a session 0, 1, 2, …")
    if "position" in frame.columns:
        position = _counted(findings, "position", "number the slots of a slate 0, 1, 2, …")
    else:
        position = np.zeros(len(frame), dtype=np.int64)
    order = _order(sessions.codes, step, position)
    new_session = _starts(sessions.codes[order])
    new_step = new_session | _starts(step[order])
    item_ids, item = _items(findings, catalogue)
    rows = Rows(
        session_ids=sessions.values,
        session=sessions.codes,
        step=step,
        position=position,
        order=order,
        new_session=new_session,
        new_step=new_step,
        item_ids=item_ids,
        item=item,
        reward=np.zeros(0),
    )
    _reward(findings, rows, reward)
    _duplicates(findings, rows)
    _optional(findings, rows)
    _logging_policies(findings, rows)
    _side_columns(findings, rows, reward, categorical)
    return findings, rows


def _counted(findings: Findings, name: str, remedy: str) -> np.ndarray:
    parsed = read_whole(findings.frame[name])
    findings.add(name, parsed.bad, "is not a whole number", remedy)
    findings.add(name, ~parsed.bad & (parsed.values < 0), "is negative", remedy)
    return parsed.values


def _order(session: np.ndarray, step: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Rows by session, step and position; those that tie stay in the table's order."""
    sorted_already = (session[1:] > session[:-1]) | (
        (session[1:] == session[:-1])
        & ((step[1:] > step[:-1]) | ((step[1:] == step[:-1]) & (position[1:] >= position[:-1])))
    )
    return np.arange(len(session)) if sorted_already.all() else np.lexsort((position, step, session))


def _starts(values: np.ndarray) -> np.ndarray:
    """bool [R]: the value differs from the one before."""
    return np.append(True, values[1:] != values[:-1])


def _items(findings: Findings, catalogue: Catalogue | None) -> tuple[np.ndarray, np.ndarray]:
    """The catalogue and each row's index in it, -1 where the id is null or unknown."""
    ids = read_ids(findings.frame["item_id"], "item_id", findings.place)
    findings.add("item_id", ids.codes < 0, "is null", "name the item that was shown")
    if catalogue is None:
        rank = np.empty(len(ids.values) + 1, dtype=np.int32)
        by_value = np.argsort(ids.values)
        rank[by_value], rank[-1] = np.arange(len(by_value)), -1
        return ids.values[by_value], rank[ids.codes]
    if len(ids.values) and ids.values.dtype.kind != catalogue.ids.dtype.kind:
        words = {"i": "whole numbers", "U": "text"}
        mine, theirs = words[ids.values.dtype.kind], words[catalogue.ids.dtype.kind]
        raise InputError(
            findings.place,
            f"column 'item_id' holds {mine} ({ids.values[0]!s}), the items table {theirs} ({catalogue.ids[0]!s})",
            "give both the same type",
        )
    found = np.append(pd.Index(catalogue.ids).get_indexer(pd.Index(ids.values)), -1).astype(np.int32)
    item = found[ids.codes]
    unknown = (item < 0) & (ids.codes >= 0)
    findings.add("item_id", unknown, "is not in the items table", "add the item to the items table")
    return catalogue.ids, item


def _reward(findings: Findings, rows: Rows, name: str) -> None:
    parsed = read_rewards(findings.frame[name])
    findings.add(name, parsed.bad, "is not a finite number", "give every item shown its reward, 0 where there is none")
    rows.reward = parsed.values
    if parsed.rounded:
        rows.notes[f"values of {name} rounded to float64"] = parsed.rounded


def _duplicates(findings: Findings, rows: Rows) -> None:
    again = np.zeros(len(rows.order), dtype=bool)
    again[rows.order] = ~rows.new_step & ~_starts(rows.position[rows.order])
    same = "position" if "position" in findings.frame.columns else "step"
    remedy = "give each item of a slate its own position, and each slate its own step"
    findings.add(same, again, "stands twice in the same session, step and position", remedy)


def _optional(findings: Findings, rows: Rows) -> None:
    frame = findings.frame
    if "propensity" in frame.columns:
        parsed = read_numbers(frame["propensity"])
        bad = parsed.bad | ~((parsed.values > 0) & (parsed.values <= 1 + ROUNDING))
        remedy = "give the probability with which the item was shown; leave the column out where it is unknown"
        findings.add("propensity", bad, "is not a probability in (0, 1]", remedy)
        rows.propensity = parsed.values
    if "timestamp" in frame.columns:
        parsed = read_times(frame["timestamp"])
        findings.add("timestamp", parsed.bad, "is neither a whole number nor a date", "give whole seconds, say")
        rows.timestamp = parsed.values
        if not parsed.bad.any():
            _constant(findings, rows, "timestamp", parsed.values, rows.new_step, "slate")
            _not_backwards(findings, rows, parsed.values)
    if "user_id" in frame.columns:
        users = read_ids(frame["user_id"], "user_id", findings.place)
        remedy = "name every session's user, or leave the column out"
        findings.add("user_id", users.codes < 0, "is null", remedy)
        rows.user_ids = users.values[users.codes] if len(users.values) else None
        _constant(findings, rows, "user_id", users.codes, rows.new_session, "session")
    if "terminated" in frame.columns:
        parsed = read_flags(frame["terminated"])
        findings.add("terminated", parsed.bad, "is neither true nor false", "leave the column out where it is unknown")
        rows.terminated = parsed.values
        _constant(findings, rows, "terminated", parsed.values, rows.new_session, "session")


def _logging_policies(findings: Findings, rows: Rows) -> None:
    """Who served each session, and how probable the item was under each of those who might have."""
    frame = findings.frame
    if POLICY in frame.columns:
        if is_unusable(frame[POLICY]):
            raise InputError(findings.place, f"column {POLICY!r} holds no names", "give each policy's name or number")
        parsed = read_categories(frame[POLICY])
        unnamed = parsed.values < 0
        findings.add(POLICY, unnamed, "is null", "name the policy of every session, or leave the column out")
        rows.context[POLICY] = parsed
        differs = differs_within(parsed.values, rows.order, rows.new_session) & ~unnamed
        remedy = "start a session where another policy takes over, or give the column another name"
        findings.add(POLICY, differs, "is not the policy that the session began with", remedy)
    for column in frame.columns:
        if str(column).startswith(OF_POLICY):
            parsed = read_numbers(frame[column])
            bad = parsed.bad | ~((parsed.values >= 0) & (parsed.values <= 1 + ROUNDING))
            remedy = "give the item's probability under that policy in every row, or leave the column out"
            findings.add(str(column), bad, "is not a probability in [0, 1]", remedy)
            rows.propensity_of[str(column).removeprefix(OF_POLICY)] = parsed.values
    _note_other_propensities(rows)


def _note_other_propensities(rows: Rows) -> None:
    """Where `propensity` is not that of the row's policy it is a mixture's, or one of the two is wrong."""
    if POLICY not in rows.context or rows.propensity is None:
        return
    names, differ = rows.context[POLICY].categories or (), 0
    for code, name in enumerate(names):
        if name in rows.propensity_of:
            own = rows.context[POLICY].values == code
            differ += int((~np.isclose(rows.propensity[own], rows.propensity_of[name][own], rtol=1e-3, atol=0)).sum())
    if differ:
        rows.notes["rows whose propensity is not that under their policy"] = differ


def _constant(findings: Findings, rows: Rows, name: str, values: np.ndarray, starts: np.ndarray, group: str) -> None:
    bad = differs_within(values, rows.order, starts)
    findings.add(name, bad, f"is not the same throughout the {group}", f"give one value per {group}")


def _not_backwards(findings: Findings, rows: Rows, timestamp: np.ndarray) -> None:
    ordered = timestamp[rows.order]
    bad = np.zeros(len(ordered), dtype=bool)
    bad[rows.order] = ~rows.new_session & np.append(False, ordered[1:] < ordered[:-1]) & rows.new_step
    remedy = "number the steps in the order of time"
    findings.add("timestamp", bad, "is earlier than the step before in its session", remedy)


def _side_columns(findings: Findings, rows: Rows, reward: str, categorical: Sequence[str]) -> None:
    for name in findings.frame.columns:
        text = str(name)
        if name in NAMED or name == reward or text.startswith(OF_POLICY):
            continue
        if text.startswith("Unnamed:") or text == "":
            rows.notes["columns without a name left out"] = rows.notes.get("columns without a name left out", 0) + 1
            continue
        parsed = _side_column(findings, text, findings.frame[name], text in categorical)
        if parsed.rounded:
            rows.notes[f"values of {text} rounded to float32"] = parsed.rounded
        if text.startswith("context_"):
            rows.context[text] = parsed
            _constant(findings, rows, text, parsed.values, rows.new_step, "slate")
        elif text.startswith("user_"):
            rows.user[text] = parsed
            _constant(findings, rows, text, parsed.values, rows.new_session, "session")
        else:
            rows.feedback[text] = parsed


def _side_column(findings: Findings, name: str, column: pd.Series, categorical: bool) -> Parsed:
    if name.startswith("item_"):
        raise InputError(
            findings.place,
            f"column {name!r} describes items, not what happened",
            "give it in the items table, one row per item (items=)",
        )
    if is_unusable(column):
        raise InputError(findings.place, f"column {name!r} holds {column.dtype} values", "give numbers or text")
    parsed = read_side(column, categorical)
    findings.add(name, parsed.bad, "is not a finite number", "fill the gaps, or give the column as text")
    return parsed
