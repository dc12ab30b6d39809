"""read_log: a saved log, a table, or the folder of a published data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from recil.errors import InputError
from recil.logs import storage
from recil.logs.readers import entree, kuairand, movielens, open_bandit, table
from recil.logs.session_log import SessionLog

READERS: Mapping[str, Callable[..., SessionLog]] = {
    "table": table.read,
    "kuairand": kuairand.read,
    "entree": entree.read,
    "open-bandit": open_bandit.read,
    "movielens": movielens.read,
}
PUBLISHED: Mapping[str, Callable[[Path], bool]] = {
    "kuairand": kuairand.recognises,
    "entree": entree.recognises,
    "open-bandit": open_bandit.recognises,
    "movielens": movielens.recognises,
}


def read_log(path: str | Path, format: str | None = None, reward: str = "click", **options: Any) -> SessionLog:
    """A SessionLog from a folder written by `save`, a table, or a folder as published.

    path: the folder or file. format: "table" (.parquet, .csv, .csv.gz or a folder of Parquet shards), "kuairand",
    "entree", "open-bandit", "movielens"; found out when None. reward: the column that is the reward; "click" stands for
    the one that a saved log or a published format has of its own. options: quarantine= as in `from_frame`, and for
    tables items= (a file) and categorical=.
    Raises InputError where there is nothing to read or it cannot be used.
    """
    source = Path(path)
    if not source.exists():
        raise InputError(str(source), "there is no such file or folder", "check the path")
    if format is not None and format not in READERS:
        raise InputError("format", f"{format!r} is unknown", f"use one of {', '.join(READERS)}")
    if format is None and source.is_dir() and storage.is_saved_log(source):
        return _saved(source, reward, options)
    return READERS[format or _recognised(source)](source, reward=reward, **options)


def _recognised(source: Path) -> str:
    if source.is_dir():
        for name, recognises in PUBLISHED.items():
            if recognises(source):
                return name
    return "table"


def _saved(source: Path, reward: str, options: dict[str, Any]) -> SessionLog:
    if options.keys() - {"quarantine"}:
        raise InputError(str(source), f"a saved log takes no {', '.join(options)}", "leave them out")
    log = storage.load(source)
    if reward in ("click", log.reward_name) and reward not in log.feedback:
        return log
    if reward not in log.feedback:
        raise InputError(
            str(source),
            f"no column {reward!r} to be the reward; it has {', '.join([log.reward_name, *log.feedback])}",
            "choose one of these with reward=",
        )
    other = SessionLog.from_frame(
        log.to_frame(), log.items_frame(), reward, place=str(source), slate_size=log.slate_size
    )
    return replace(other, item_features=log.item_features, notes={**other.notes, **log.notes})
