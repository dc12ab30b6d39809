"""What units read: the two parts of the log, the known world, the fitted users. Kept in the work folder, read once."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from recil.errors import InputError
from recil.logs.read import read_log
from recil.logs.session_log import SessionLog
from recil.sim.ensemble import UserEnsemble
from recil.sim.generate import Truth, load_settings
from recil.sim.storage import load_users
from recil.sim.users import UserModel


def keep_log(log: SessionLog, folder: Path) -> None:
    """Writes a log into the work folder unless it is there."""
    if not (folder / "log.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        log.save(folder)


@lru_cache(maxsize=4)
def kept_log(folder: Path) -> SessionLog:
    """The log kept in this folder, read once per process."""
    return read_log(folder)


@lru_cache(maxsize=2)
def truth_of(settings: Path) -> Truth:
    """The known world and recommender behind a generated log."""
    return Truth(load_settings(settings))


def check_truth(truth: Truth, log: SessionLog, place: str) -> None:
    """Refuses a known world that cannot have written this log."""
    if [str(item) for item in truth.world.item_ids] != [str(item) for item in log.item_ids]:
        raise InputError(
            place,
            f"its world has {truth.world.catalogue} items, the log {log.catalogue}, or they are named otherwise",
            "give the settings the log was generated with, or leave [truth] out",
        )


@lru_cache(maxsize=1)
def kept_users(folder: Path) -> UserModel:
    """The fitted users kept in this folder, read once per process."""
    return load_users(folder)


@lru_cache(maxsize=1)
def kept_ensemble(folder: Path) -> UserEnsemble:
    """The ensemble kept in this folder, read once per process."""
    return UserEnsemble.load(folder)


def write_json(path: Path, content: Any) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    fresh.write_text(json.dumps(content, indent=1), encoding="utf-8")
    fresh.replace(path)
