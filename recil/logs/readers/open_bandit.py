"""Open Bandit Dataset: impressions of a fashion shop with known propensities (Saito et al. 2021, arXiv:2008.07146).

The folder of one policy and campaign. Each row is an impression of one item at one of three positions; the rows are a
subsample, so that the other items of a slate are unknown: each row is a session of one step whose slate holds one item
at its position and nothing elsewhere. The affinities between user and item (one column per item) are left out.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from recil.errors import InputError
from recil.logs.files import read_csv
from recil.logs.readers.published import numeric, optional_columns, published_files
from recil.logs.session_log import SessionLog
from recil.logs.table import from_frame

POSITIONS = 3
USER_COLUMNS = tuple(f"user_feature_{number}" for number in range(4))
CATEGORICAL_ITEM_COLUMNS = tuple(f"item_feature_{number}" for number in range(1, 4))


def recognises(folder: Path) -> bool:
    return (folder / "item_context.csv").is_file()


def read(path: Path, reward: str = "click", quarantine: str | Path | bool | None = None) -> SessionLog:
    """The log of a folder with item_context.csv and the campaign's file (all.csv, men.csv or women.csv).

    Propensities are those of the item at its position; time stamps are in microseconds. Raises InputError.
    """
    context = published_files(path, "item_context.csv", "item_context.csv")[0]
    found = [file for file in published_files(path, "*.csv", "men.csv") if file != context]
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise InputError(str(path), f"wanted one log beside item_context.csv, found {names}", "give one campaign")
    file = found[0]
    users = optional_columns(file, USER_COLUMNS)
    needed = ["timestamp", "item_id", "position", reward, "propensity_score"]
    rows = read_csv(file, columns=[*needed, *users])
    frame = pd.DataFrame(
        {
            "session_id": range(len(rows)),
            "step": 0,
            "item_id": rows["item_id"],
            "position": numeric(rows["position"]) - 1,
            reward: rows[reward],
            "propensity": rows["propensity_score"],
            "timestamp": rows["timestamp"],
            **{name: rows[name].astype("category") for name in users},
        }
    )
    log = from_frame(frame, _items(context), reward, str(file), quarantine, slate_size=POSITIONS)
    left_out = sum(name.startswith("user-item_affinity_") for name in read_csv(file, rows=0).columns)
    return replace(log, notes={**log.notes, "columns of user-item affinity left out": left_out})


def _items(context: Path) -> pd.DataFrame:
    wanted = optional_columns(context, ("item_feature_0", *CATEGORICAL_ITEM_COLUMNS))
    items = read_csv(context, columns=["item_id", *wanted])
    return items.assign(**{name: items[name].astype("category") for name in CATEGORICAL_ITEM_COLUMNS if name in items})
