"""A request for slates: sessions so far as JSON has them, checked, and as tensors that policies read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.exact_rewards import narrowest
from recil.logs.history import PAD, History
from recil.random import stable_hash
from recil.track.serve_columns import Columns, Kind

Draw = Literal["sample", "greedy"]
DRAWS: tuple[Draw, ...] = get_args(Draw)
MOST_STEPS = 10_000
_SESSION_KEYS = ("session_id", "history", "context", "user")
_STEP_KEYS = ("items", "reward", "feedback", "context")


@dataclass(frozen=True)
class Step:
    """A slate that was shown. items: catalogue indices; reward: as many; feedback: name -> codes or numbers."""

    items: tuple[int, ...]
    reward: tuple[float, ...]
    feedback: Mapping[str, Sequence[float]] = field(default_factory=dict)
    context: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """One session that wants a slate.

    session_id  its draws are addressed by it: the same session asks again and gets the same slate
    context     of the coming step, codes or numbers; shown: user and context as given, for the log of what was served
    """

    session_id: str
    steps: tuple[Step, ...]
    k: int
    draw: Draw
    context: Mapping[str, float] = field(default_factory=dict)
    user: Mapping[str, float] = field(default_factory=dict)
    shown: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reader:
    """Reads requests for one policy. index: item id -> catalogue index; k, draw: where a request leaves them open."""

    index: Mapping[Any, int]
    columns: Columns
    k: int
    draw: Draw = "sample"

    def read(self, body: Any) -> list[Asked]:
        """Sessions of `{"sessions": [...], "k": 10, "draw": "sample"}`, or of one session with k and draw beside it.

        Raises InputError that names the place in the request.
        """
        if not isinstance(body, Mapping):
            raise InputError("request", f"{type(body).__name__} where an object was expected", "give {...}")
        top = {key: value for key, value in body.items() if key not in ("k", "draw")}
        k, draw = self.checked_k(body.get("k")), self.checked_draw(body.get("draw"))
        if "sessions" not in top:
            return [self.session(top, k, draw, "request")]
        _known(top, ("sessions", "k", "draw"), "request")
        sessions = _list(top["sessions"], "sessions")
        if not sessions:
            raise InputError("sessions", "none given", "give at least one")
        return [self.session(session, k, draw, f"sessions[{place}]") for place, session in enumerate(sessions)]

    def checked_k(self, k: Any) -> int:
        if k is None:
            return self.k
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= len(self.index):
            raise InputError("k", f"{k!r}", f"give a whole number from 1 to {len(self.index)}, the catalogue's size")
        return k

    def checked_draw(self, draw: Any) -> Draw:
        if draw is None:
            return self.draw
        if draw not in DRAWS:
            raise InputError("draw", f"{draw!r} is unknown", f"give one of {', '.join(DRAWS)}")
        return draw

    def session(self, session: Any, k: int, draw: Draw, place: str) -> Asked:
        """One session, checked. Without a session_id it gets one, which its later requests should carry."""
        _known(_object(session, place), _SESSION_KEYS, place)
        history = _list(session.get("history") or [], f"{place}.history")
        if len(history) > MOST_STEPS:
            raise InputError(f"{place}.history", f"{len(history)} steps", f"give at most {MOST_STEPS}")
        given = {group: session.get(group) or {} for group in ("context", "user")}
        kinds = {"context": self.columns.context, "user": self.columns.user}
        coded = {group: _single(given[group], kinds[group], f"{place}.{group}") for group in given}
        return Asked(
            session_id=checked_session_id(session.get("session_id"), place),
            steps=tuple(self._step(step, f"{place}.history[{row}]") for row, step in enumerate(history)),
            k=k,
            draw=draw,
            context=coded["context"],
            user=coded["user"],
            shown={name: value for group in given.values() for name, value in group.items()},
        )

    def _step(self, step: Any, place: str) -> Step:
        _known(_object(step, place), _STEP_KEYS, place)
        items = self._items(step.get("items"), f"{place}.items")
        reward = step.get("reward")
        reward = [0.0] * len(items) if reward is None else _list(reward, f"{place}.reward")
        if len(reward) != len(items):
            raise InputError(f"{place}.reward", f"{len(reward)} rewards for {len(items)} items", "give one per item")
        feedback = {}
        for name, values in _object(step.get("feedback") or {}, f"{place}.feedback").items():
            where = f"{place}.feedback.{name}"
            kind = _kind(self.columns.feedback, name, where)
            given = _list(values, where)
            if len(given) != len(items):
                raise InputError(where, f"{len(given)} values for {len(items)} items", "give one per item")
            feedback[name] = kind.codes_of(given, where)
        context = _single(step.get("context") or {}, self.columns.context, f"{place}.context")
        return Step(tuple(items), tuple(_numbers(reward, f"{place}.reward")), feedback, context)

    def _items(self, items: Any, place: str) -> list[int]:
        given = _list([] if items is None else items, place)
        if not given:
            raise InputError(place, "no item was shown", "leave out steps that showed nothing")
        found = []
        for row, item in enumerate(given):
            known = self.index.get(item) if isinstance(item, (str, int)) and not isinstance(item, bool) else None
            if known is None:
                some = next(iter(self.index))
                raise InputError(f"{place}[{row}]", f"item {item!r} is not in the catalogue", f"ids look like {some!r}")
            found.append(known)
        return found


def history_of(asked: Sequence[Asked], columns: Columns) -> History:
    """The sessions as one batch, padded; [B, T, K] with the longest history and the widest slate."""
    rows, steps = len(asked), max(len(session.steps) for session in asked)
    width = max([1, *(len(step.items) for session in asked for step in session.steps)])
    items = np.full((rows, steps, width), PAD, dtype=np.int64)
    reward = np.zeros((rows, steps, width))
    feedback = {name: np.full((rows, steps, width), kind.fill) for name, kind in columns.feedback.items()}
    context = {name: np.full((rows, steps + 1), kind.fill) for name, kind in columns.context.items()}
    user = {name: np.full(rows, kind.fill) for name, kind in columns.user.items()}
    for row, session in enumerate(asked):
        for number, step in enumerate(session.steps):
            items[row, number, : len(step.items)] = step.items
            reward[row, number, : len(step.items)] = step.reward
            for name, values in step.feedback.items():
                feedback[name][row, number, : len(values)] = values
            for name, value in step.context.items():
                context[name][row, number] = value
        for name, value in session.context.items():
            context[name][row, len(session.steps)] = value
        for name, value in session.user.items():
            user[name][row] = value
    return History(
        items=torch.from_numpy(items),
        reward=torch.from_numpy(narrowest(reward)),
        length=torch.tensor([len(session.steps) for session in asked]),
        session=torch.tensor([stable_hash("served", session.session_id) for session in asked]),
        feedback=_tensors(feedback, columns.feedback),
        context=_tensors(context, columns.context),
        user=_tensors(user, columns.user),
    )


def _tensors(values: Mapping[str, np.ndarray], kinds: Mapping[str, Kind]) -> dict[str, Tensor]:
    return {name: kinds[name].tensor(column) for name, column in values.items()}


def checked_session_id(given: Any, place: str) -> str:
    """The id as text; one made up where none is given."""
    if given is None:
        return uuid4().hex
    if isinstance(given, bool) or not isinstance(given, (str, int)) or given == "":
        raise InputError(f"{place}.session_id", f"{given!r}", "give text or a whole number, or leave it out")
    text = str(given)
    if len(text) > 500 or not text.isprintable():
        raise InputError(f"{place}.session_id", "over 500 or unprintable characters", "give a shorter id")
    return text


def _single(values: Any, kinds: Mapping[str, Kind], place: str) -> dict[str, float]:
    """One value per column, as codes or numbers; those left out are missing."""
    found = {}
    for name, value in _object(values, place).items():
        where = f"{place}.{name}"
        found[name] = _kind(kinds, name, where).codes_of([value], where)[0]
    return found


def _kind(kinds: Mapping[str, Kind], name: str, place: str) -> Kind:
    if name not in kinds:
        raise InputError(place, "no such column", f"the policy's are {', '.join(kinds) or 'none'}")
    return kinds[name]


def _object(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(place, f"{value!r:.60} where an object was expected", "give {...}")
    return value


def _list(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(place, f"{value!r:.60} where a list was expected", "give [...]")
    return value


def _numbers(values: Sequence[Any], place: str) -> list[float]:
    kind = Kind()
    if any(value is None for value in values):
        raise InputError(place, "a reward is null", "give 0 where there was none")
    return kind.codes_of(list(values), place)


def _known(given: Mapping[str, Any], keys: Sequence[str], place: str) -> None:
    for key in given:
        if key not in keys:
            raise InputError(f"{place}.{key}", "unknown key", f"the keys here are {', '.join(keys)}")
