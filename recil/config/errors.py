"""What is wrong with an experiment file, said in the file's own words: key, value, what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_EXPECTED = {
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "text in quotes",
    "bool_type": "true or false",
    "tuple_type": "a list in square brackets",
    "list_type": "a list in square brackets",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "union_tag_not_found": "a key 'kind'",
    "greater_than": "a value above {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "a value below {lt}",
    "less_than_equal": "{le} or less",
    "too_short": "at least {min_length} of them",
    "literal_error": "one of {expected}",
    "union_tag_invalid": "kind to be one of {expected_tags}",
    "string_pattern_mismatch": "letters, digits, '_' and '-' only, beginning with a letter or digit",
    "string_too_long": "at most {max_length} characters",
}


def lines_of(errors: Iterable[Mapping[str, Any]], data: Any, keys: Mapping[str, Sequence[str]]) -> list[str]:
    """One line per error of pydantic: `dotted.key = value -> expected ...`.

    data: what was validated; keys: the keys known in each table, by its dotted name (a method by its kind).
    """
    return [_line(error, data, keys) for error in errors]


def _line(error: Mapping[str, Any], data: Any, keys: Mapping[str, Sequence[str]]) -> str:
    place, table = dotted(error["loc"], data)
    kind, context = error["type"], error.get("ctx") or {}
    if kind == "extra_forbidden":
        return f"{place}: unknown key -> {_nearest(place.rpartition('.')[2], table, keys)}"
    if kind == "missing":
        return f"{place}: missing -> it must be given"
    value = "" if kind.startswith("union_tag") else f" = {shown(error['input'])}"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    expected = _EXPECTED[kind].format(**context) if kind in _EXPECTED else message
    return f"{place}{value} -> expected {expected}"


def dotted(location: Sequence[Any], data: Any) -> tuple[str, str]:
    """A place as the user writes it (methods by their name), and the table it is in (methods by their kind)."""
    parts, table = [str(part) for part in location], ""
    if len(parts) >= 2 and parts[0] == "methods":
        method = data["methods"][int(parts[1])]
        if isinstance(method, Mapping):
            parts[1] = str(method.get("name", parts[1]))
            table = str(method.get("kind", ""))
            del parts[2:3]  # pydantic puts the kind here
    else:
        table = ".".join(parts[:-1])
    return ".".join(parts), table


def _nearest(key: str, table: str, keys: Mapping[str, Sequence[str]]) -> str:
    """Where the key may have been meant to go: the nearest key here, or the same key elsewhere."""
    here = keys.get(table, ())
    close = difflib.get_close_matches(key, here, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    for other, known in keys.items():
        if key in known:
            return f"{key!r} belongs in {_table(other)}"
    return f"the keys here are {', '.join(here)}"


def _table(name: str) -> str:
    from recil.config.kinds import KINDS

    return f"a method of kind {name!r}" if name in KINDS else f"[{name}]" if name else "the top of the file"


def shown(value: Any) -> str:
    """A value as TOML writes it, cut short."""
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, str):
        text = f'"{value}"'
    else:
        text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
