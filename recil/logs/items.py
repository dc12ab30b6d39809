"""The items table: the catalogue's ids in its order, and what is known of each item."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from recil.errors import InputError
from recil.logs.checks import require_columns
from recil.logs.columns import is_unusable, read_ids, read_sets, read_side, shown
from recil.logs.session_log import Column, SessionLog


@dataclass(frozen=True)
class Catalogue:
    """ids: int64 or str [A]; features: name -> Column [A] or [A, M]; notes: what was counted."""

    ids: np.ndarray
    features: dict[str, Column]
    notes: dict[str, int] = field(default_factory=dict)


def read_items(items: pd.DataFrame, place: str = "the items table", categorical: Sequence[str] = ()) -> Catalogue:
    """The catalogue of a table with `item_id` and columns `item_*`; other columns are left out and counted.

    A feature is numeric, categorical, or a set of categories: a column of lists, text with commas or bars, or text of
    several number codes ("214 035"). Raises InputError for a missing, repeated or null id and for a gap in numbers.
    """
    require_columns(items, ["item_id"], place, reward="")
    ids = read_ids(items["item_id"], "item_id", place)
    null = ids.codes < 0
    if null.any():
        raise InputError(place, f"column 'item_id', row {int(np.argmax(null))} (counted from 0) is null", "give its id")
    if len(ids.values) < len(items):
        row = int(np.argmax(items["item_id"].duplicated().to_numpy()))
        rest = len(items) - len(ids.values)
        raise InputError(
            place,
            f"column 'item_id', row {row} (counted from 0): item {ids.values[ids.codes[row]]} is there twice; "
            f"{rest} such rows",
            "keep one row per item",
        )
    names = [name for name in items.columns if str(name).startswith("item_") and name != "item_id"]
    features, notes = {}, {}
    for name in names:
        features[str(name)], rounded = _feature(items[name], str(name), place, name in categorical)
        if rounded:
            notes[f"values of {name} rounded to float32"] = rounded
    left_out = len(items.columns) - len(names) - 1
    if left_out:
        notes["columns of the items table without the prefix item_ left out"] = left_out
    return Catalogue(ids.values, features, notes)


def _feature(column: pd.Series, name: str, place: str, categorical: bool) -> tuple[Column, int]:
    sets = None if categorical else as_sets(column)
    if sets is not None:
        return read_sets(sets), 0
    if is_unusable(column):
        raise InputError(place, f"column {name!r} holds {column.dtype} values", "give numbers, text or lists of text")
    parsed = read_side(column, categorical)
    if parsed.bad.any():
        row = int(np.argmax(parsed.bad))
        raise InputError(
            place,
            f"column {name!r}, row {row} (counted from 0): {shown(column, row)} is no finite number; "
            f"{int(parsed.bad.sum())} such rows",
            "fill the gaps, or give the column as text to keep a gap as a gap",
        )
    return parsed.column(np.arange(len(column))), parsed.rounded


def as_sets(column: pd.Series) -> list[Iterable[object]] | None:
    """The column's rows as several categories each, or None where it is a column of single values."""
    if isinstance(column.dtype, pd.CategoricalDtype) or types.is_numeric_dtype(column.dtype):
        return None
    known = column.dropna()
    if len(known) and known.map(lambda value: isinstance(value, (list, tuple, set, np.ndarray))).all():
        rows = [() if missing else value for value, missing in zip(column, column.isna(), strict=True)]
        return [sorted(row, key=str) if isinstance(row, set) else row for row in rows]
    if not types.is_string_dtype(column.dtype) or not len(known):
        return None
    text = column.fillna("").str.strip()
    if text.str.contains(r"[,|]").any():
        return [[part.strip() for part in row if part.strip()] for row in text.str.split(r"[,|]", regex=True)]
    if text.str.contains(" ").any() and text.str.fullmatch(r"[0-9 ]*").all():
        return text.str.split().tolist()
    return None


def items_frame(log: SessionLog) -> pd.DataFrame:
    """The catalogue as a table, one row per item: item_id and the item features, sets as lists."""
    columns: dict[str, object] = {"item_id": log.item_ids}
    for name, column in log.item_features.items():
        if not name.startswith("item_") or name == "item_id":
            raise InputError("the log", f"item feature {name!r} cannot be told from another column", "name it item_*")
        if column.values.ndim == 1:
            columns[name] = values_of(column, np.arange(log.catalogue))
        else:
            names = np.array(column.categories, dtype=object)
            columns[name] = pd.Series([names[row[row >= 0]].tolist() for row in column.values], dtype=object)
    return pd.DataFrame(columns)


def values_of(column: Column, at: Any) -> np.ndarray | pd.Categorical:
    """The column's values at these places, categories by name."""
    values = column.values[at]
    if column.categories is None:
        return values
    return pd.Categorical.from_codes(values, categories=list(column.categories))
