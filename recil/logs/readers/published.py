"""What the readers of published folders share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from recil.errors import InputError
from recil.logs.files import read_csv


def published_files(folder: Path, pattern: str, example: str) -> list[Path]:
    """The files of the folder that match, by name. Raises InputError where there is none."""
    found = sorted(file for file in folder.glob(pattern) if file.is_file()) if folder.is_dir() else []
    if not found:
        raise InputError(str(folder), f"holds no file {pattern}", f"give the folder as published, with {example}")
    return found


def optional_columns(file: Path, names: Sequence[str]) -> list[str]:
    """Those of the columns that the CSV file has; older and newer releases differ."""
    header = read_csv(file, rows=0).columns
    return [name for name in names if name in header]


def numeric(column: pd.Series) -> pd.Series:
    """Numbers for arithmetic, a gap where the text is none; the checks of `from_frame` find the gaps."""
    return pd.to_numeric(column, errors="coerce")


def order_within(group: pd.Series, time: pd.Series) -> np.ndarray:
    """int64 [R]: the place of each row in its group by time, from 0; rows that tie stay in the file's order.

    Rows without a time come last.
    """
    rows = pd.DataFrame({"group": pd.factorize(group)[0], "time": numeric(time).to_numpy()})
    ordered = rows.sort_values(["group", "time"], kind="stable")
    place = np.empty(len(rows), dtype=np.int64)
    place[ordered.index.to_numpy()] = ordered.groupby("group").cumcount().to_numpy()
    return place
