"""A card as files: card.md and card.html to read, card.json to go on with; never a pickle."""

from __future__ import annotations

import json
import math
import os
import types
import typing
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from recil.errors import InputError
from recil.logs.clusters import SESSION
from recil.sim.card.result import SimulatorCard

SCHEMA = 2


def write_card(card: SimulatorCard, folder: Path) -> None:
    """Write the three files into the folder, each whole or not at all, the JSON last."""
    kept = {"recil_card": SCHEMA, **_plain(card), "table": card.table}
    _write(folder / "card.md", card.markdown())
    _write(folder / "card.html", card.html())
    _write(folder / "card.json", json.dumps(kept, indent=1, allow_nan=False))


def read_card(path: str | Path) -> SimulatorCard:
    """The card in this file (a card.json), or in the folder that holds one. InputError where it is none, or damaged."""
    path = Path(path)
    path = path / "card.json" if path.is_dir() else path
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        schema = found.pop("recil_card", None)
        if schema == 1:
            found = _of_sessions(found)
        elif schema != SCHEMA:
            raise ValueError(f"schema {schema}, this version reads {SCHEMA}")
        found.pop("table", None)  # for those who read the file without recil; made anew from the figures
        return _made(SimulatorCard, found)
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        problem = f"cannot be read ({type(error).__name__}: {error})"
        raise InputError(f"card {path}", problem, "validate the users again") from error


def _of_sessions(found: dict[str, Any]) -> dict[str, Any]:
    """A card of the first schema, whose errors count sessions, in today's words."""
    limits = {**found["thresholds"], "least_units": 0}
    return {**found, "thresholds": limits, "cluster": SESSION, "units": found["sessions"]}


def card_beside(folder: str | Path) -> SimulatorCard | None:
    """The card that lies in this folder, None where there is none. InputError where it is damaged."""
    return read_card(folder) if (Path(folder) / "card.json").exists() else None


def _plain(value: Any) -> Any:
    """What JSON can hold; nan becomes null."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else math.copysign(1.7976931348623157e308, value)
    return value


def _made(kind: Any, value: Any, name: str = "card") -> Any:
    """A value of this type out of JSON, checked all the way down. TypeError names the place."""
    if typing.get_origin(kind) is types.UnionType:
        inner, _ = typing.get_args(kind)
        return None if value is None else _made(inner, value, name)
    if typing.get_origin(kind) is tuple:
        return _made_tuple(typing.get_args(kind), value, name)
    if is_dataclass(kind):
        if not isinstance(value, dict):
            raise TypeError(f"{name} is {value!r}, wanted an object")
        kinds = typing.get_type_hints(kind)
        if set(kinds) != set(value):
            raise TypeError(f"{name} has the fields {sorted(value)}, wanted {sorted(kinds)}")
        make: Any = kind
        return make(**{field: _made(kinds[field], part, f"{name}.{field}") for field, part in value.items()})
    if kind is float:
        return float("nan") if value is None else float(_plainly((int, float), value, name))
    return _plainly(kind, value, name)


def _made_tuple(kinds: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{name} is {value!r}, wanted a list")
    each = [kinds[0]] * len(value) if kinds[1:] == (...,) else list(kinds)
    if len(each) != len(value):
        raise TypeError(f"{name} has {len(value)} parts, wanted {len(each)}")
    return tuple(
        _made(kind, part, f"{name}[{place}]") for place, (kind, part) in enumerate(zip(each, value, strict=True))
    )


def _plainly(kind: Any, value: Any, name: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name} is {value!r}")
    return value


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise InputError(str(path), f"cannot be written ({error})", "give a folder to write to") from error
