"""KuaiRand: short videos shown one by one, with clicks, likes and more (Gao et al. 2022, arXiv:2208.10696).

A session is a user's whole trajectory, because consecutive rows are not consecutive impressions: only the exposures of
some candidate videos were published. Rows are ordered by time_ms; those that tie stay in the file's order. Propensities
are unknown, and so is whether the user left.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from recil.logs.files import read_csv
from recil.logs.readers.published import numeric, optional_columns, order_within, published_files
from recil.logs.session_log import SessionLog
from recil.logs.table import from_frame

LOG, USERS, VIDEOS = "log_standard*.csv*", "user_features*.csv*", "video_features_basic*.csv*"
NEEDED = ("user_id", "video_id", "time_ms", "is_click", "tab")
SIGNALS = ("is_click", "long_view", "is_like", "is_follow", "is_comment", "is_forward", "is_profile_enter", "is_hate")
# Ranges in place of the raw counts they were made from; is_lowactive_period is constant in the published table.
USER_COLUMNS = (
    *("user_active_degree", "is_live_streamer", "is_video_author", "follow_user_num_range", "fans_user_num_range"),
    *("friend_user_num_range", "register_days_range", *(f"onehot_feat{number}" for number in range(18))),
)


def recognises(folder: Path) -> bool:
    return any(folder.glob(LOG)) and any(folder.glob(VIDEOS))


def read(path: Path, reward: str = "click", quarantine: str | Path | bool | None = None) -> SessionLog:
    """The log of a folder with log_standard*.csv[.gz], user_features_*.csv[.gz] and video_features_basic_*.csv[.gz].

    reward: a column such as is_like or long_view; "click" is is_click. The other signals and the time played (log of
    1 + seconds) are feedback; the tab is context. The catalogue is the video table, shown or not. Raises InputError.
    """
    files = published_files(path, LOG, "log_standard*.csv")
    reward = "is_click" if reward == "click" else reward
    wanted = [name for name in (*SIGNALS, "play_time_ms") if name != reward]
    logs = [
        read_csv(file, columns=[*dict.fromkeys((*NEEDED, reward)), *optional_columns(file, wanted)]) for file in files
    ]
    rows = pd.concat(logs, ignore_index=True) if len(logs) > 1 else logs[0]
    frame = pd.DataFrame(
        {
            "session_id": rows["user_id"],
            "step": order_within(rows["user_id"], rows["time_ms"]),
            "item_id": rows["video_id"],
            reward: rows[reward],
            "timestamp": rows["time_ms"],
            "user_id": rows["user_id"],
            "context_tab": rows["tab"].astype("category"),
            **{name: rows[name] for name in SIGNALS if name in rows and name in wanted},
        }
    )
    if "play_time_ms" in rows and "play_time_ms" in wanted:
        frame["play_seconds_log"] = np.log1p(numeric(rows["play_time_ms"]) / 1000)
    frame = frame.join(_users(path, rows["user_id"]))
    return from_frame(frame, _videos(path), reward, place=str(path), quarantine=quarantine)


def _users(path: Path, of_row: pd.Series) -> pd.DataFrame:
    """The user features of each row, categorical; a user without any has gaps."""
    file = published_files(path, USERS, "user_features_pure.csv")[0]
    users = read_csv(file, columns=["user_id", *optional_columns(file, USER_COLUMNS)])
    row = pd.Index(users.pop("user_id")).get_indexer(of_row)
    columns = {}
    for name in users.columns:
        column = _category(users[name])
        codes = np.append(column.cat.codes.to_numpy(), -1)[row]
        prefixed = name if name.startswith("user_") else f"user_{name}"
        columns[prefixed] = pd.Categorical.from_codes(codes, categories=column.cat.categories)
    return pd.DataFrame(columns, index=of_row.index)


def _videos(path: Path) -> pd.DataFrame:
    file = published_files(path, VIDEOS, "video_features_basic_pure.csv")[0]
    wanted = ["video_type", "upload_type", "music_type", "video_duration", "tag"]
    videos = read_csv(file, columns=["video_id", *optional_columns(file, wanted)])
    items = pd.DataFrame({"item_id": videos["video_id"]})
    for name in ("video_type", "upload_type", "music_type"):
        if name in videos:
            items[f"item_{name}"] = _category(videos[name])
    if "video_duration" in videos:
        items["item_duration"] = _duration(videos["video_duration"])
    if "tag" in videos:
        tags = videos["tag"].astype(str).where(videos["tag"].notna(), "")
        items["item_tag"] = [[tag.strip().removesuffix(".0") for tag in row.split(",") if tag] for row in tags]
    return items


def _category(column: pd.Series) -> pd.Series:
    """Codes that arrive as 9.0 because of gaps become 9."""
    if pd.api.types.is_float_dtype(column.dtype) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return column.astype("category")


def _duration(milliseconds: pd.Series) -> pd.Series:
    """Powers of two of seconds as categories, a gap where the duration is unknown."""
    seconds = numeric(milliseconds).to_numpy(dtype=np.float64) / 1000
    power = np.floor(np.log2(np.maximum(seconds, 1)))
    return _category(pd.Series(power, index=milliseconds.index)).cat.rename_categories(
        lambda value: f"{2 ** int(value)}-{2 ** (int(value) + 1)} s"
    )
