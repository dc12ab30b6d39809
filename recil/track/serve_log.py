"""What was served, row by row, and what it brought: two tables that make a log with exact propensities."""

from __future__ import annotations

import csv
import io
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.track.serve import Answer, ServedPolicy
from recil.track.serve_columns import Columns, Kind
from recil.track.serve_request import Asked, checked_session_id

SERVED = ("session_id", "step", "position", "item_id", "propensity", "timestamp", "policy", "draw")
PLACE = ("session_id", "step", "position")


def rewards_file(served: Path) -> Path:
    """Where the rewards of what is in `served` are written."""
    return served.with_name(f"{served.stem}.rewards.csv")


class ServedLog:
    """Appends what is served, and what it brought, to two CSV tables: `file`, and beside it the rewards'.

    An answer is written before it is sent, in one piece; several threads may write.
    """

    def __init__(self, file: Path, columns: Columns) -> None:
        """Raises InputError where the file cannot be written or holds another table."""
        self._columns = columns
        self._sides = [*columns.context, *columns.user]
        self._served = _Table(file, [*SERVED, *self._sides])
        self._rewards = _Table(rewards_file(file), [*PLACE, columns.reward, *columns.feedback])

    def served(self, asked: Sequence[Asked], answers: Sequence[Answer]) -> None:
        now = time.time_ns() // 1_000_000
        rows: list[list[Any]] = []
        for session, answer in zip(asked, answers, strict=True):
            sides = [session.shown.get(name, "") for name in self._sides]
            for position, (item, chance) in enumerate(zip(answer.items, answer.propensity, strict=True)):
                place = [answer.session_id, answer.step, position]
                rows.append([*place, item, repr(chance), now, answer.policy, answer.draw, *sides])
        self._served.append(rows)

    def rewarded(self, body: Any) -> int:
        """Keeps what a slate brought: `{"session_id", "step", "reward": [...], "feedback": {name: [...]}}`.

        reward, feedback: by position. Returns how many rewards. Raises InputError that names the place.
        """
        session, step, reward, feedback = _reward_of(body, self._columns)
        named = [feedback.get(name, [""] * len(reward)) for name in self._columns.feedback]
        rows = [[session, step, position, *row] for position, row in enumerate(zip(reward, *named, strict=True))]
        self._rewards.append(rows)
        return len(rows)

    def close(self) -> None:
        self._served.close()
        self._rewards.close()


class _Table:
    """A CSV file that is appended to, whole rows at a time."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        head = _lines([list(columns)])
        try:
            if path.exists() and path.stat().st_size:
                with path.open(encoding="utf-8", newline="") as lines:
                    found = lines.readline()
                if found != head:
                    remedy = "give a new file, or the one of an earlier `recil serve` of a policy with these columns"
                    raise InputError(str(path), f"it begins with {found.strip()!r}, not with {head.strip()!r}", remedy)
                head = ""
            self._file = path.open("a", encoding="utf-8", newline="")
        except OSError as error:
            raise InputError(str(path), f"cannot be written ({error.strerror})", "give another --log") from error
        self._lock = threading.Lock()
        self._write(head)

    def append(self, rows: Sequence[Sequence[Any]]) -> None:
        self._write(_lines(rows))

    def _write(self, text: str) -> None:
        with self._lock:
            self._file.write(text)
            self._file.flush()

    def close(self) -> None:
        self._file.close()


def served_log(served: str | Path, policy: ServedPolicy, rewards: str | Path | None = None) -> SessionLog:
    """A log of what was served and what it brought, to evaluate on, over the policy's catalogue and columns.

    served: a table of `recil serve --log`; rewards: a table with session_id, step, position and the reward, the one
    beside it when None. Items without a reported reward brought 0. Of a slate that was asked for twice, the last one
    before the session went on counts. Sessions of which a slate is not there, and those that break a rule of logs, are
    left out. The notes count all of this.
    """
    served = Path(served)
    rows, notes = _last_slates(_read_served(served, policy))
    frame, whole = _without_gaps(rows)
    notes["sessions left out, an earlier slate is not in the table"] = whole
    if frame.empty:
        raise InputError(str(served), "no session is complete in it", "serve with --log from a session's first slate")
    frame, counted = _joined(frame, _rewards(served, rewards, policy.columns), policy.columns)
    notes |= counted
    notes["slates that were greedy: nothing can be learned of other items there"] = int(
        ((frame["draw"] == "greedy") & (frame["position"] == 0)).sum()
    )
    frame = policy.columns.coded(frame.drop(columns=["draw", "policy"]))
    items = pd.DataFrame({"item_id": policy.item_ids})
    log = SessionLog.from_frame(frame, items, policy.columns.reward, place=str(served), quarantine=True)
    return replace(log, notes={**log.notes, **{note: count for note, count in notes.items() if count}})


def _read_served(served: Path, policy: ServedPolicy) -> pd.DataFrame:
    """The table as it was written: ids keep their type, categories are text."""
    text: dict[str, Any] = {"session_id": str, "policy": str, "draw": str}
    text["item_id"] = str if policy.item_ids.dtype.kind == "U" else np.int64
    frame = _csv(served, text | {name: str for name, kind in policy.columns if kind.categories is not None})
    lacking = [name for name in SERVED if name not in frame.columns]
    if lacking:
        raise InputError(str(served), f"it has no column {lacking[0]!r}", "give a table of `recil serve --log`")
    numbers = {name: kind.absent for name, kind in policy.columns if kind.categories is None and name in frame.columns}
    return frame.fillna(numbers)


def _csv(path: Path, types: Mapping[str, Any]) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=dict(types), keep_default_na=False, na_values=_gaps(path))
    except FileNotFoundError:
        raise InputError(str(path), "no such file", "give a table of `recil serve --log`") from None
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(str(path), f"cannot be read ({first})", "give a table of `recil serve --log`") from error


def _gaps(path: Path) -> dict[str, list[str]]:
    """An empty cell is a gap in every column but those of ids; a category may be named NA."""
    head = pd.read_csv(path, nrows=0).columns
    return {name: [""] for name in head if name not in ("session_id", "item_id")}


def _last_slates(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Of slates asked for twice, the last one before its session went on: that is what the user then saw."""
    slate = (frame["position"] == 0).cumsum()
    slates = frame[["session_id", "step"]].groupby(slate).first()
    slates["order"] = slates.index
    first = slates.groupby(["session_id", "step"])["order"].min()
    by_session = first[::-1].groupby("session_id")
    went_on = by_session.cummin().groupby("session_id").shift(1, fill_value=len(slates) + 1)
    known = slates.join(went_on.rename("went_on"), on=["session_id", "step"])
    before = known[known["order"] < known["went_on"]]
    kept = before.groupby(["session_id", "step"])["order"].max()
    again = {"slates asked for again, the last before the session went on counts": len(slates) - len(kept)}
    return frame[slate.isin(kept)], again


def _without_gaps(frame: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The sessions whose steps are 0, 1, ..., and how many others there are."""
    steps = frame.groupby("session_id")["step"]
    complete = steps.transform("nunique") == steps.transform("max") + 1
    return frame[complete], frame.loc[~complete, "session_id"].nunique()


def _rewards(served: Path, rewards: str | Path | None, columns: Columns) -> pd.DataFrame | None:
    file = rewards_file(served) if rewards is None else Path(rewards)
    if rewards is None and not file.exists():
        return None
    text = {name: str for name, kind in columns.feedback.items() if kind.categories is not None}
    found = _csv(file, {"session_id": str} | text)
    for name in (*PLACE, columns.reward):
        if name not in found.columns:
            raise InputError(str(file), f"it has no column {name!r}", f"give {', '.join(PLACE)}, {columns.reward}")
    return found.drop_duplicates(list(PLACE), keep="last")


def _joined(frame: pd.DataFrame, rewards: pd.DataFrame | None, columns: Columns) -> tuple[pd.DataFrame, dict[str, int]]:
    """The rows with what they brought."""
    if rewards is None:
        return frame.assign(**{columns.reward: 0.0}), {"items shown without a reported reward": len(frame)}
    wanted = [*PLACE, columns.reward, *(name for name in columns.feedback if name in rewards.columns)]
    joined = frame.merge(rewards[wanted], how="left", on=list(PLACE), validate="one_to_one")
    silent = int(joined[columns.reward].isna().sum())
    numbers = {name: columns.feedback[name].absent for name in wanted[4:] if columns.feedback[name].categories is None}
    lost = len(rewards) - (len(joined) - silent)
    notes = {"items shown without a reported reward": silent, "rewards of items that are not in the log": lost}
    return joined.fillna({columns.reward: 0.0} | numbers), notes


def _reward_of(body: Any, columns: Columns) -> tuple[str, int, list[float], dict[str, list[Any]]]:
    keys = ("session_id", "step", "reward", "feedback")
    if not isinstance(body, Mapping):
        raise InputError("request", f"{type(body).__name__} where an object was expected", "give {...}")
    for key in body:
        if key not in keys:
            raise InputError(f"request.{key}", "unknown key", f"the keys here are {', '.join(keys)}")
    session, step, reward = body.get("session_id"), body.get("step"), body.get("reward")
    if session is None:
        raise InputError("request.session_id", "missing", "give the session_id of the answer")
    if isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise InputError("request.step", f"{step!r}", "give the step of the answer, a whole number from 0")
    if not isinstance(reward, list) or not reward or any(value is None for value in reward):
        raise InputError("request.reward", f"{reward!r:.60}", "give a list with a number for each item of the slate")
    numbers = Kind().codes_of(reward, "request.reward")
    feedback = body.get("feedback") or {}
    for name, values in feedback.items():
        place = f"request.feedback.{name}"
        if name not in columns.feedback:
            raise InputError(place, "no such column", f"the policy's are {', '.join(columns.feedback) or 'none'}")
        if not isinstance(values, list) or len(values) != len(reward):
            raise InputError(place, f"{values!r:.60}", f"give a list of {len(reward)} values")
        columns.feedback[name].codes_of(values, place)
    named = {name: ["" if value is None else value for value in values] for name, values in feedback.items()}
    return checked_session_id(session, "request"), step, numbers, named


def _lines(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
