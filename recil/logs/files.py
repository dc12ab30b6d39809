"""Tables from and to files: Parquet, CSV and gzipped CSV, each fault as one InputError, nothing half-written."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recil.errors import InputError

ID_COLUMNS = ("session_id", "item_id", "user_id")
# The usual spellings of a gap; not for ids, where "NA" may well be an id.
GAPS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")


def is_csv(path: Path) -> bool:
    return path.name.lower().endswith((".csv", ".csv.gz"))


def is_parquet(path: Path) -> bool:
    return path.name.lower().endswith((".parquet", ".pq"))


def read_table(path: Path, ids: Sequence[str] = ID_COLUMNS) -> pd.DataFrame:
    """A .parquet, .csv or .csv.gz file, or a folder of Parquet shards in the order of their names."""
    if not path.exists():
        raise InputError(str(path), "there is no such file or folder", "check the path")
    if path.is_dir():
        shards = sorted(shard for shard in path.iterdir() if is_parquet(shard))
        if not shards:
            raise InputError(str(path), "the folder holds no .parquet file and no log of a known format", "give a file")
        return to_pandas(concatenate([read_arrow(shard) for shard in shards], str(path)))
    if is_parquet(path):
        return to_pandas(read_arrow(path))
    if is_csv(path):
        return read_csv(path, ids=ids)
    raise InputError(str(path), "the file's name says no format", "use .parquet, .csv or .csv.gz")


def read_arrow(path: Path) -> pa.Table:
    """One Parquet file; a truncated or foreign file is an InputError."""
    try:
        return pq.read_table(path, partitioning=None)
    except (pa.ArrowException, OSError) as fault:
        text = str(fault).splitlines()[0][:120]
        raise InputError(str(path), f"not a whole Parquet file ({text})", "write or copy the file anew") from None


def concatenate(tables: list[pa.Table], place: str) -> pa.Table:
    try:
        return pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()
    except pa.ArrowException as fault:
        text = str(fault).splitlines()[0][:120]
        raise InputError(
            place, f"the shards' columns do not fit together ({text})", "give them the same types"
        ) from None


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Without the index that pandas may have stored: rows count from 0. Whole numbers with gaps stay whole."""
    frame = table.to_pandas(ignore_metadata=True, integer_object_nulls=True)
    return frame.drop(columns=[name for name in frame.columns if str(name).startswith("__index_level_")])


def read_csv(
    path: Path, ids: Sequence[str] = (), columns: Sequence[str] | None = None, rows: int | None = None
) -> pd.DataFrame:
    """A UTF-8 CSV file. ids: columns that stay text unless every value is a plain whole number ("007" is text).

    columns: those to read, of which a missing one is an InputError; all when None. rows: how many; all when None.
    """
    try:
        header = list(pd.read_csv(path, nrows=0, encoding="utf-8").columns)
        _require(columns or (), header, path)
        text = [name for name in ids if name in header]
        frame = pd.read_csv(
            path,
            usecols=None if columns is None else list(columns),
            dtype=dict.fromkeys(text, str),
            na_values={name: [""] if name in text else list(GAPS) for name in header},
            keep_default_na=False,
            encoding="utf-8",
            low_memory=False,
            nrows=rows,
        )
    except UnicodeDecodeError as fault:
        byte = fault.object[fault.start]
        raise InputError(str(path), f"not UTF-8 (byte 0x{byte:02x})", "save the file as UTF-8") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as fault:
        raise InputError(str(path), f"not a CSV table ({str(fault).strip()})", "check the file's lines") from None
    except (OSError, EOFError, gzip.BadGzipFile, zlib.error) as fault:
        raise InputError(str(path), f"cannot be read ({fault})", "copy the file anew or check its rights") from None
    for name in text:
        frame[name] = whole_where_plain(frame[name])
    return frame


def _require(columns: Sequence[str], header: list[str], path: Path) -> None:
    missing = [name for name in columns if name not in header]
    if missing:
        raise InputError(
            str(path),
            f"no column {', '.join(map(repr, missing))} among {', '.join(map(str, header[:20]))}",
            "give the file as it was published",
        )


def whole_where_plain(column: pd.Series) -> pd.Series:
    """Text as whole numbers where nothing is lost by it, else as it is."""
    known = column.dropna()
    if not len(known) or not known.str.fullmatch(r"0|-?[1-9][0-9]{0,17}").all():
        return column
    return column.astype("Int64") if len(known) < len(column) else column.astype(np.int64)


def temporary_beside(path: Path) -> Path:
    """A hidden name in the same folder, so that the last step is a rename."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write .parquet, .csv or .csv.gz, whole or not at all."""
    if not (is_csv(path) or is_parquet(path)):
        raise InputError(str(path), "the file's name says no format", "use .parquet, .csv or .csv.gz")
    part = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_parquet(path):
            pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), part, compression="zstd")
        else:
            compression = "gzip" if path.name.lower().endswith(".gz") else None
            frame.to_csv(part, index=False, compression=compression)
        part.replace(path)
    except OSError as fault:
        raise InputError(str(path), f"cannot be written ({fault})", "choose a folder you may write to") from None
    except pa.ArrowException:
        # Columns of mixed types, which is often why rows are set aside, have no Parquet type.
        raise InputError(str(path), "these rows have no Parquet type", "use a .csv name for them") from None
    finally:
        part.unlink(missing_ok=True)
