"""A log as a folder: log.parquet (the long table), items.parquet (the catalogue) and log.json (what they mean)."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recil.errors import InputError
from recil.logs.files import read_arrow, temporary_beside
from recil.logs.session_log import Column, SessionLog

SCHEMA = 1
FILES = ("log.parquet", "items.parquet", "log.json")
ROW_GROUP = 1_000_000


def is_saved_log(path: Path) -> bool:
    return (path / "log.json").is_file() and (path / "log.parquet").is_file()


def save(log: SessionLog, path: Path) -> Path:
    """Write the log into the folder `path`: the same content gives the same bytes, whole or not at all.

    An older saved log is replaced and other files beside it stay. Raises InputError where `path` is something else or
    cannot be written.
    """
    if path.exists() and not (path.is_dir() and (is_saved_log(path) or not any(path.iterdir()))):
        raise InputError(str(path), "is there and is not a saved log", "choose another folder or delete it")
    part = temporary_beside(path)
    try:
        part.mkdir(parents=True)
        _write(_arrow(log.to_frame()), part / "log.parquet")
        _write(_arrow(log.items_frame()), part / "items.parquet")
        (part / "log.json").write_text(json.dumps(_description(log), indent=1, ensure_ascii=False) + "\n", "utf-8")
        _put_in_place(part, path)
    except OSError as fault:
        raise InputError(str(path), f"cannot be written ({fault})", "choose a folder you may write to") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return path


def _put_in_place(part: Path, path: Path) -> None:
    if not path.exists():
        part.rename(path)
        return
    older = path.with_name(f".{path.name}.{os.getpid()}.older")
    path.rename(older)
    part.rename(path)
    for other in older.iterdir():
        if other.name not in FILES:
            other.rename(path / other.name)
    shutil.rmtree(older)


def _write(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP, store_schema=False)


def _arrow(frame: pd.DataFrame) -> pa.Table:
    """Without pandas' own metadata, which holds its version; categories as text by dictionary encoding."""
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)


def _description(log: SessionLog) -> dict[str, Any]:
    sides = (log.feedback, log.context, log.user_features, log.item_features)
    return {
        "recil_log": SCHEMA,
        "reward": log.reward_name,
        "sessions": log.sessions,
        "steps": log.steps,
        "impressions": log.impressions,
        "items": log.catalogue,
        "slate_size": log.slate_size,
        "digest": log.digest,
        "notes": dict(log.notes),
        # None: numeric; a list: the names behind the codes, also of those that no row has.
        "columns": {name: column.categories for side in sides for name, column in side.items()},
        "sets": {name: column.values.shape[1] for name, column in log.item_features.items() if column.values.ndim == 2},
    }


def load(path: Path) -> SessionLog:
    """The log saved in the folder `path`. Raises InputError where a file is missing, damaged or not the one saved."""
    description = _read_description(path)
    frame, items = (_read(path / name, description) for name in FILES[:2])
    sets = {name: _sets(items.pop(name), description, name) for name in description["sets"]}
    log = SessionLog.from_frame(
        frame, items, description["reward"], place=str(path), slate_size=description["slate_size"]
    )
    features = {**log.item_features, **sets}
    in_order = {name: features[name] for name in description["columns"] if name in features}
    log = replace(log, item_features=in_order, notes=description["notes"])
    if log.digest != description["digest"]:
        raise InputError(str(path), "its tables are not those that were saved (digest differs)", "save the log anew")
    return log


def _read_description(path: Path) -> dict[str, Any]:
    file = path / "log.json"
    try:
        description = json.loads(file.read_text("utf-8"))
        schema = description["recil_log"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(str(file), "is not the description of a saved log", "save the log anew") from None
    if schema != SCHEMA:
        raise InputError(
            str(file), f"has schema {schema}, this version reads {SCHEMA}", "use the version that wrote it"
        )
    needed = {"reward", "slate_size", "digest", "notes", "columns", "sets"} - description.keys()
    if needed:
        raise InputError(str(file), f"lacks {', '.join(sorted(needed))}", "save the log anew")
    return description


def _read(file: Path, description: dict[str, Any]) -> pd.DataFrame:
    if not file.is_file():
        raise InputError(str(file), "is missing", "save the log anew")
    frame = read_arrow(file).to_pandas(ignore_metadata=True)
    for name, categories in description["columns"].items():
        if categories is not None and name in frame.columns and name not in description["sets"]:
            frame[name] = pd.Categorical(frame[name], categories=categories)
    return frame


def _sets(column: pd.Series, description: dict[str, Any], name: str) -> Column:
    names = description["columns"][name]
    codes = {category: code for code, category in enumerate(names)}
    values = np.full((len(column), description["sets"][name]), -1, dtype=np.int32)
    for row, found in enumerate(column):
        values[row, : len(found)] = [codes[category] for category in found]
    return Column(values, tuple(names))
