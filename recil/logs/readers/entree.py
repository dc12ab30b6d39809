"""Entree Chicago: a restaurant recommender used by critiquing (Burke 2002; UCI machine learning repository).

At each step the system shows a restaurant and the user answers with an operation: L browse, N nicer, M cheaper,
R livelier, Q creative, P traditional, S quieter. The next restaurant shown is the system's decision. The file has one
row per answer: `item_shown` is what the answer was given to and `next_item_shown` is what came of it, which is the
`item_shown` of the next row and, in a session's last row (`is_last`), the restaurant where the session ended, empty
where it is unknown. So a session of n answers has n steps, and one more where its end is known; that step has no
operation, and its reward is 1: the user stopped at what was shown. All other rewards are 0. The session is over at its
end, so `terminated` is true. `entry_point` is 0 for a query form, else the restaurant the user came from: a number and
a letter for the city.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from recil.errors import InputError
from recil.logs.files import read_csv
from recil.logs.readers.published import numeric, published_files
from recil.logs.session_log import SessionLog
from recil.logs.table import from_frame

STEPS, ITEMS = "steps_*.csv*", "items_*.csv*"
COLUMNS = ("session_id", "user_id", "session_start", "entry_point", "step", "item_shown", "user_op")
ENDINGS = ("next_item_shown", "is_last")


def recognises(folder: Path) -> bool:
    return any(folder.glob(STEPS)) and any(folder.glob(ITEMS))


def read(path: Path, reward: str = "click", quarantine: str | Path | bool | None = None) -> SessionLog:
    """The log of a folder with steps_*.csv[.gz] and items_*.csv.

    The reward is 1 where the session ends on a known restaurant; the operation is feedback, missing at that last step;
    time stamps are the session's start in seconds since 1970, the same for all its steps. Item features are sets of
    feature numbers. Raises InputError.
    """
    if reward not in ("click", "ended_here"):
        raise InputError(str(path), f"no column {reward!r} to be the reward", 'leave reward="click"')
    files = published_files(path, STEPS, "steps_1996Q3_1998Q3.csv.gz")
    answers = pd.concat([read_csv(file, columns=[*COLUMNS, *ENDINGS]) for file in files], ignore_index=True)
    frame = pd.concat([_shown(answers), _ends(answers)], ignore_index=True)
    frame = frame.assign(terminated=True, operation=frame["operation"].astype("category"))
    return from_frame(frame, _restaurants(path), "ended_here", place=str(path), quarantine=quarantine)


def _shown(answers: pd.DataFrame) -> pd.DataFrame:
    """One row per answer: the restaurant that it was given to."""
    start = pd.to_datetime(answers["session_start"], errors="coerce", format="ISO8601")
    seconds = start.to_numpy().astype("datetime64[s]").astype(np.int64)
    entry = answers["entry_point"].astype(str)
    city = np.where(entry == "0", "form", entry.str[-1])
    return pd.DataFrame(
        {
            "session_id": answers["session_id"],
            "step": answers["step"],
            "item_id": answers["item_shown"],
            "ended_here": 0.0,
            "timestamp": pd.Series(seconds, index=answers.index).where(start.notna()),
            "user_id": answers["user_id"],
            "user_entry_city": pd.Series(city, index=answers.index).astype("category"),
            "user_entry_point": entry.astype("category"),
            "operation": answers["user_op"],
        }
    )


def _ends(answers: pd.DataFrame) -> pd.DataFrame:
    """One row per session whose last restaurant is known."""
    known = (numeric(answers["is_last"]) == 1) & answers["next_item_shown"].notna()
    ends = _shown(answers)[known]
    return ends.assign(
        step=numeric(ends["step"]) + 1,
        item_id=answers["next_item_shown"][known].astype(answers["item_shown"].dtype),
        ended_here=1.0,
        operation=None,
    )


def _restaurants(path: Path) -> pd.DataFrame:
    file = published_files(path, ITEMS, "items_chicago.csv")[0]
    items = read_csv(file, ids=("feature_ids",), columns=["item_id", "feature_ids"])
    return pd.DataFrame({"item_id": items["item_id"], "item_features": items["feature_ids"].fillna("").str.split()})
