"""One column of a table at a time: ids, whole numbers, times, numbers and categories, with the rows that do not fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.api import types

from recil.errors import InputError
from recil.logs.exact_rewards import narrowest
from recil.logs.session_log import Column

LARGEST_EXACT = 2**53  # beyond it a float no longer holds every whole number


@dataclass(frozen=True)
class Ids:
    """A column of ids. codes: int64 [R] into `values`, -1 where null; values: int64 or str [V], by first appearance."""

    codes: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Parsed:
    """A column of values. values: [R]; bad: bool [R], the value does not fit; rounded: values changed by rounding."""

    values: np.ndarray
    bad: np.ndarray
    categories: tuple[str, ...] | None = None
    rounded: int = 0

    def column(self, rows: np.ndarray) -> Column:
        return Column(self.values[rows], self.categories)


def plain(column: pd.Series) -> pd.Series:
    """The column with a default index and, where it is categorical, with the values behind its codes."""
    column = column.reset_index(drop=True)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object).infer_objects()
    return column


def shown(column: pd.Series, row: int) -> str:
    """The value in this row as a message shows it."""
    value = column.iloc[row]
    return repr(value.item() if isinstance(value, np.generic) else value)


def read_ids(column: pd.Series, name: str, place: str) -> Ids:
    """Ids keep their type: whole numbers as int64, text as str. Raises InputError for any other type."""
    column = plain(column)
    null = column.isna().to_numpy()
    kind = types.infer_dtype(column, skipna=True) if column.dtype == object else ""
    if types.is_bool_dtype(column.dtype):
        raise _not_ids(column, name, place, 0)
    if types.is_numeric_dtype(column.dtype) or kind == "integer":
        return _whole_ids(column, null, name, place)
    if types.is_string_dtype(column.dtype) and kind in ("", "string", "empty"):
        codes, values = pd.factorize(column)
        return Ids(codes.astype(np.int64), np.asarray(values, dtype=str))
    kinds = column.map(_kind_of_id).to_numpy()
    odd = ~null & ((kinds != kinds[int(np.argmin(null))]) | (kinds == ""))
    raise _not_ids(column, name, place, int(np.argmax(odd)))


def _kind_of_id(value: object) -> str:
    if isinstance(value, str):
        return "text"
    return "whole" if isinstance(value, (int, np.integer)) and not isinstance(value, bool) else ""


def _whole_ids(column: pd.Series, null: np.ndarray, name: str, place: str) -> Ids:
    if types.is_float_dtype(column.dtype):
        # A column of whole numbers with gaps arrives as floats.
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        odd = ~null & ~(np.isfinite(values) & (np.floor(values) == values) & (np.abs(values) <= LARGEST_EXACT))
        whole = np.where(null | odd, 0, values).astype(np.int64)
    else:
        filled = column.fillna(0) if null.any() else column
        odd = (filled > np.iinfo(np.int64).max).to_numpy(dtype=bool)
        whole = filled.mask(odd, 0).to_numpy(dtype=np.int64) if odd.any() else filled.to_numpy(dtype=np.int64)
    if odd.any():
        raise _not_ids(column, name, place, int(np.argmax(odd)))
    codes, values = pd.factorize(whole)
    if null.any():
        codes, values = pd.factorize(pd.Series(whole).where(~null).astype("Int64"))
    return Ids(codes.astype(np.int64), np.asarray(values, dtype=np.int64))


def _not_ids(column: pd.Series, name: str, place: str, row: int) -> InputError:
    return InputError(
        place,
        f"column {name!r}, row {row} (counted from 0): {shown(column, row)} is not an id like the others",
        "give ids that are all whole numbers or all text",
    )


def read_whole(column: pd.Series) -> Parsed:
    """Whole numbers as int64; text that reads as a number counts as one. bad: no number, or not whole."""
    column = plain(column)
    if types.is_integer_dtype(column.dtype) and not column.isna().any():
        return Parsed(column.to_numpy(dtype=np.int64), np.zeros(len(column), dtype=bool))
    values = _floats(column)
    bad = ~(np.isfinite(values) & (np.floor(values) == values) & (np.abs(values) <= LARGEST_EXACT))
    return Parsed(np.where(bad, -1, values).astype(np.int64), bad)


def read_times(column: pd.Series) -> Parsed:
    """Time stamps as int64: whole numbers in their own unit, dates (also as ISO text) as microseconds since 1970."""
    column = plain(column)
    if not types.is_numeric_dtype(column.dtype):
        dates = column
        if not types.is_datetime64_any_dtype(column.dtype):
            whole = read_whole(column)
            if not whole.bad.all():
                return whole
            dates = pd.to_datetime(column, utc=True, errors="coerce", format="ISO8601")
        bad = dates.isna().to_numpy()
        if dates.dt.tz is not None:
            dates = dates.dt.tz_convert("UTC").dt.tz_localize(None)
        stamps = dates.to_numpy().astype("datetime64[us]").astype(np.int64)
        return Parsed(np.where(bad, 0, stamps), bad)
    return read_whole(column)


def read_numbers(column: pd.Series) -> Parsed:
    """Numbers as float32. bad: no number, not finite, or too large for float32."""
    column = plain(column)
    exact = _floats(column)
    with np.errstate(over="ignore"):
        values = exact.astype(np.float32)
    bad = ~np.isfinite(values)
    # Whole numbers that float32 cannot hold are most likely ids or codes: worth a word.
    rounded = int((~bad & (np.floor(exact) == exact) & (values.astype(np.float64) != exact)).sum())
    return Parsed(np.where(bad, np.float32(0), values), bad, rounded=rounded)


def read_rewards(column: pd.Series) -> Parsed:
    """Numbers as float32 or float64, whichever is the narrowest that changes none. bad: no number, or not finite."""
    column = plain(column)
    exact = _floats(column)
    bad = ~np.isfinite(exact)
    rounded = 0
    if types.is_integer_dtype(column.dtype) and not bad.any() and np.abs(exact).max(initial=0) > LARGEST_EXACT:
        rounded = int((exact.astype(object).astype(int) != column.to_numpy(dtype=object)).sum())
    return Parsed(narrowest(np.where(bad, 0.0, exact)), bad, rounded=rounded)


def _floats(column: pd.Series) -> np.ndarray:
    if types.is_bool_dtype(column.dtype) and not column.isna().any():
        return column.to_numpy(dtype=np.float64)
    if is_unusable(column):
        return np.full(len(column), np.nan)
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def read_flags(column: pd.Series) -> Parsed:
    """True or False (also 1 and 0, or the words). bad: anything else."""
    column = plain(column)
    if types.is_bool_dtype(column.dtype) and not column.isna().any():
        return Parsed(column.to_numpy(dtype=bool), np.zeros(len(column), dtype=bool))
    words = column.astype(str).str.strip().str.lower()
    yes = words.isin(["true", "1", "1.0"]).to_numpy()
    no = words.isin(["false", "0", "0.0"]).to_numpy()
    return Parsed(yes, ~(yes | no) | column.isna().to_numpy())


def read_categories(column: pd.Series) -> Parsed:
    """Categories as int32 codes, -1 where missing. A categorical column keeps its categories, used or not."""
    column = column.reset_index(drop=True)
    if not isinstance(column.dtype, pd.CategoricalDtype):
        if types.is_float_dtype(column.dtype):
            whole = column.dropna()
            column = column.astype("Int64") if (whole % 1 == 0).all() else column
        if column.dtype == object:
            column = column.where(column.isna(), column.astype(str))
        column = column.astype("category")
    codes = column.cat.codes.to_numpy(dtype=np.int32)
    names = tuple(str(category) for category in column.cat.categories)
    return Parsed(codes, np.zeros(len(column), dtype=bool), names)


def read_side(column: pd.Series, categorical: bool = False) -> Parsed:
    """A column beside the required ones: numbers and flags as float32, text and categories as codes."""
    if categorical or isinstance(column.dtype, pd.CategoricalDtype):
        return read_categories(column)
    if column.dtype == object:
        column = column.infer_objects()
    if types.is_numeric_dtype(column.dtype) or types.is_bool_dtype(column.dtype):
        return read_numbers(column)
    if column.dtype == object and types.infer_dtype(column, skipna=True) in (
        "integer",
        "floating",
        "mixed-integer-float",
    ):
        return read_numbers(column)
    return read_categories(column)


def is_unusable(column: pd.Series) -> bool:
    """Whether a column holds neither numbers nor categories: dates, lists or other objects."""
    if types.is_datetime64_any_dtype(column.dtype) or types.is_timedelta64_dtype(column.dtype):
        return True
    if column.dtype != object:
        return not (
            types.is_numeric_dtype(column.dtype)
            or types.is_string_dtype(column.dtype)
            or isinstance(column.dtype, pd.CategoricalDtype)
        )
    return any(isinstance(value, (list, tuple, set, dict, np.ndarray)) for value in column)


def read_sets(rows: Iterable[Iterable[object]]) -> Column:
    """Several categories per row: int32 codes [A, M] in the order given, each once, padded by -1."""
    kept = [list(dict.fromkeys(str(name) for name in row)) for row in rows]
    names = sorted({name for row in kept for name in row})
    index = {name: code for code, name in enumerate(names)}
    values = np.full((len(kept), max([1, *map(len, kept)])), -1, dtype=np.int32)
    for row, found in enumerate(kept):
        values[row, : len(found)] = [index[name] for name in found]
    return Column(values, tuple(names))
