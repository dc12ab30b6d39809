"""MovieLens: ratings without exposures (Harper & Konstan 2015), for cloning only.

A session is a user's ratings in the order of time; ratings that tie stay in the file's order. A rated film counts as
shown, which is no exposure: propensities and counterfactual values have no meaning here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from recil.errors import InputError
from recil.logs.files import read_csv
from recil.logs.readers.published import order_within, published_files
from recil.logs.session_log import SessionLog
from recil.logs.table import from_frame

LIKED = 4.0  # stars, of 5


def recognises(folder: Path) -> bool:
    return (folder / "ratings.csv").is_file() and (folder / "movies.csv").is_file()


def read(path: Path, reward: str = "click", quarantine: str | Path | bool | None = None) -> SessionLog:
    """The log of a folder with ratings.csv and movies.csv.

    reward: "click" is 1 where the rating is 4 stars or more, and the rating is feedback; "rating" is the rating itself.
    The catalogue is movies.csv, with genres as sets. Raises InputError.
    """
    if reward not in ("click", "rating"):
        raise InputError(str(path), f"no column {reward!r} to be the reward", 'use reward="click" or reward="rating"')
    ratings_file = published_files(path, "ratings.csv", "ratings.csv")[0]
    ratings = read_csv(ratings_file, columns=["userId", "movieId", "rating", "timestamp"])
    frame = pd.DataFrame(
        {
            "session_id": ratings["userId"],
            "step": order_within(ratings["userId"], ratings["timestamp"]),
            "item_id": ratings["movieId"],
            "rating": ratings["rating"],
            "timestamp": ratings["timestamp"],
            "user_id": ratings["userId"],
        }
    )
    if reward == "click" and pd.api.types.is_numeric_dtype(ratings["rating"]):
        liked = (ratings["rating"] >= LIKED).astype(np.float64)
        frame["click"] = liked.where(ratings["rating"].notna())
    elif reward == "click":
        frame["click"] = ratings["rating"]  # text: the checks name the row
    log = from_frame(frame, _films(path), reward, place=str(ratings_file), quarantine=quarantine)
    return replace(log, notes={**log.notes, "ratings taken as exposures": log.impressions})


def _films(path: Path) -> pd.DataFrame:
    films = read_csv(published_files(path, "movies.csv", "movies.csv")[0], columns=["movieId", "genres"])
    genres = films["genres"].fillna("").replace("(no genres listed)", "")
    return pd.DataFrame(
        {"item_id": films["movieId"], "item_genres": [[name for name in row.split("|") if name] for row in genres]}
    )
