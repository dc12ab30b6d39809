"""What is wrong with a table: every violation is counted and the first of each kind is shown, before anything stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from recil.errors import InputError
from recil.logs.columns import shown
from recil.logs.files import write_table

QUARANTINE_REASON = "quarantine_reason"


@dataclass(frozen=True)
class Violation:
    """Rows of one column that break one rule. rows: int64, in the table's order, at least one."""

    column: str
    rows: np.ndarray
    rule: str
    remedy: str


@dataclass
class Findings:
    """The violations found so far in a table whose rows belong to `session` (int64 [R], -1 where the id is null)."""

    frame: pd.DataFrame
    session: np.ndarray
    place: str
    violations: list[Violation] = field(default_factory=list)

    def add(self, column: str, bad: np.ndarray, rule: str, remedy: str) -> None:
        """Note the rows where `bad` (bool [R]) holds."""
        if bad.any():
            self.violations.append(Violation(column, np.flatnonzero(bad), rule, remedy))

    def bad_rows(self) -> np.ndarray:
        """bool [R]: the rows of every session with a violation."""
        touched = np.unique(np.concatenate([self.session[v.rows] for v in self.violations]))
        return np.isin(self.session, touched)

    def describe(self, violation: Violation) -> str:
        row = int(violation.rows[0])
        value = shown(self.frame[violation.column], row)
        session = self.frame["session_id"].iloc[row]
        rows, sessions = len(violation.rows), len(np.unique(self.session[violation.rows]))
        return (
            f"column {violation.column!r}, row {row} (counted from 0, session {session}): {value} {violation.rule}; "
            f"{_count(rows, 'row')} in {_count(sessions, 'session')}"
        )

    def error(self) -> InputError:
        """All violations as the one error."""
        aside = "or set such sessions aside with quarantine"
        if len(self.violations) == 1:
            only = self.violations[0]
            return InputError(self.place, self.describe(only), f"{only.remedy}, {aside}")
        lines = "".join(f"\n  {self.describe(v)} -> {v.remedy}" for v in self.violations)
        sessions = len(np.unique(self.session[self.bad_rows()]))
        return InputError(
            self.place,
            f"{len(self.violations)} kinds of violation in {_count(sessions, 'session')}{lines}\n ",
            f"mend these, {aside}",
        )

    def reasons(self) -> np.ndarray:
        """str [R]: what is wrong with each row, empty where nothing is (its session then has another bad row)."""
        reasons = np.full(len(self.frame), "", dtype=object)
        for violation in self.violations:
            reasons[violation.rows] += f"{violation.column} {violation.rule}; "
        return reasons


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def set_aside(findings: Findings) -> tuple[pd.DataFrame, dict[str, int]]:
    """The table without the sessions that have a violation, and the counts. Raises InputError where none is left."""
    bad = findings.bad_rows()
    if bad.all():
        error = findings.error()
        raise InputError(error.place, f"every session has a violation; {error.problem}", error.remedy)
    counts = {f"rows with {v.column} that {v.rule}": len(v.rows) for v in findings.violations}
    counts |= {"rows quarantined": int(bad.sum()), "sessions quarantined": len(np.unique(findings.session[bad]))}
    return findings.frame[~bad].reset_index(drop=True), counts


def refuse_existing(quarantine: Path) -> None:
    """Raises InputError where the file for the sessions set aside is already there."""
    if quarantine.exists():
        raise InputError(str(quarantine), "the file for quarantined sessions is already there", "delete or rename it")


def write_quarantine(findings: Findings, path: Path) -> None:
    """The rows of the sessions set aside, each with what is wrong with it, as .csv or .parquet."""
    bad = findings.bad_rows()
    write_table(findings.frame[bad].assign(**{QUARANTINE_REASON: findings.reasons()[bad]}), path)


def require_columns(frame: pd.DataFrame, required: Sequence[str], place: str, reward: str) -> None:
    """Raises InputError for an empty table, a missing column or one that is there twice."""
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise InputError(place, f"column {twice[0]!r} is there twice", "rename or drop one of them")
    missing = [name for name in required if name not in frame.columns]
    if missing:
        near = get_close_matches(missing[0], [str(name) for name in frame.columns], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        remedy = "name the reward column with reward=" if missing == [reward] else "rename the column that holds it"
        raise InputError(
            place,
            f"no column {', '.join(map(repr, missing))} among {', '.join(map(str, frame.columns[:20])) or 'none'}",
            hint + remedy,
        )
    if not len(frame):
        raise InputError(place, "the log is empty: it has columns but no row", "give at least one session")


def differs_within(values: np.ndarray, order: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """bool [R]: rows whose value differs from that of the first row of their group.

    values: [R]; order: int64 [R], rows sorted by group; starts: bool [R], true where a group starts in that order.
    """
    first = order[np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))]
    bad = np.zeros(len(order), dtype=bool)
    bad[order] = values[order] != values[first]
    return bad
