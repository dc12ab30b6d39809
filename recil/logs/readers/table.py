"""The generic table: the long table of the data contract as Parquet, CSV or a folder of Parquet shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recil.logs.files import read_table
from recil.logs.session_log import SessionLog
from recil.logs.table import from_frame


def read(
    path: Path,
    reward: str = "click",
    items: str | Path | None = None,
    quarantine: str | Path | bool | None = None,
    categorical: Sequence[str] = (),
) -> SessionLog:
    """A log from a .parquet, .csv or .csv.gz file or a folder of Parquet shards, which may divide a session.

    items: the file of the items table. categorical: columns of numbers that are codes. Rows in errors count from 0,
    so that row 0 is the second line of a CSV file. Raises InputError.
    """
    table = None if items is None else read_table(Path(items), ids=("item_id",))
    return from_frame(read_table(path), table, reward, place=str(path), quarantine=quarantine, categorical=categorical)
