"""The one MLflow store of a run: resolved to an absolute address, made once, refused when it is broken."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from recil.errors import InputError
from recil.track.lock import file_lock

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
_SERVED = ("http://", "https://", "databricks", "postgresql", "mysql", "mssql")
# MLflow's own default is 7 retries with doubling pauses: over four minutes for every call to a server that is gone.
# And it prints addresses on standard output, which is for data.
_MANNERS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass(frozen=True)
class Store:
    """Where runs are kept.

    uri   absolute: sqlite:////folder/mlflow.db, or the address of a server
    path  the SQLite file, or None for a server
    """

    uri: str
    path: Path | None = None

    @property
    def artifacts(self) -> Path | None:
        """Folder of the artifacts beside a SQLite file; None where the server decides."""
        return None if self.path is None else self.path.parent / "mlartifacts"


def resolve_store(tracking_uri: str | None = None, folder: Path | None = None) -> Store:
    """The store: `tracking_uri`, else MLFLOW_TRACKING_URI, else mlflow.db in `folder` (the working folder).

    Nothing is created. Raises InputError for an address MLflow 3 cannot use.
    """
    base = Path.cwd() if folder is None else Path(folder).resolve()
    given = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or ""
    place = "--tracking-uri" if tracking_uri else "MLFLOW_TRACKING_URI"
    if not given:
        path = base / "mlflow.db"
        return Store(_SQLITE + path.as_posix(), path)
    if given.startswith(_SQLITE) and not given.startswith(_SQLITE + ":memory:"):
        name, _, options = given[len(_SQLITE) :].partition("?")
        if name:
            path = (base / name).resolve()
            return Store(_SQLITE + path.as_posix() + (f"?{options}" if options else ""), path)
    if given.startswith(_SERVED):
        return Store(given.rstrip("/"))
    remedy = f"give {_SQLITE}{(base / 'mlflow.db').as_posix()} or the address of a server, http://host:5000"
    raise InputError(place, f"{given!r} is no store that several processes and MLflow 3 can use", remedy)


def prepare_store(store: Store) -> None:
    """Makes the SQLite store when it is missing and checks that it can be used. Call it once, before any fan-out.

    Several processes may call this at the same time: one creates, the others wait. The file appears complete or not
    at all. Raises InputError naming the file and the remedy.
    """
    if store.path is None:
        return _check_answers(store)
    path = store.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if not _exists(path):
            with file_lock(path.with_name(f".{path.name}.lock")):
                if not _exists(path):
                    _create(store, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            str(path), f"the store cannot be written ({reason})", "choose another with --tracking-uri sqlite:///FILE"
        ) from error
    _check_sound(path)
    return _check_answers(store)


def connect(uri: str) -> MlflowClient:
    """A client that gives up on a missing server in seconds and keeps standard output clean, unless told otherwise."""
    from mlflow import MlflowClient

    for name, value in _MANNERS.items():
        os.environ.setdefault(name, value)
    return MlflowClient(uri)


def ensure_experiment(store: Store, name: str) -> str:
    """The id of the experiment of this name, made when missing, its artifacts beside the SQLite file."""
    from mlflow.exceptions import MlflowException

    if "/" in name or not name:
        raise InputError("experiment name", f"{name!r}: the MLflow UI cuts names at '/'", "use '-' instead")
    client = connect(store.uri)
    found = client.get_experiment_by_name(name)
    if found is None:
        place = None if store.artifacts is None else (store.artifacts / _folder_name(name)).as_uri()
        try:
            return client.create_experiment(name, artifact_location=place)
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process was faster
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        remedy = f"mlflow experiments restore --experiment-id {found.experiment_id}, or take another name"
        raise InputError(store.uri, f"the experiment {name!r} was deleted", remedy)
    return found.experiment_id


def _folder_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def _exists(path: Path) -> bool:
    """Whether there is a store; an empty file is what a creation leaves that never began."""
    return path.exists() and (path.is_dir() or path.stat().st_size > 0)


def _create(store: Store, path: Path) -> None:
    """Migrates a fresh database in memory (seconds faster than on disk) and moves a copy into place in one step."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    name = uuid4().hex
    memory = f"file:{name}?mode=memory&cache=shared"
    fresh = path.with_name(f".{path.name}.{name[:8]}.new")
    try:
        with closing(sqlite3.connect(memory, uri=True)) as source, closing(sqlite3.connect(fresh)) as target:
            with _quiet("mlflow.store.db.utils", "alembic"):
                SqlAlchemyStore(f"{_SQLITE}{memory}&uri=true", str(store.artifacts)).engine.dispose()
            source.backup(target)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _check_sound(path: Path) -> None:
    """Refuses a file that is no database, and a store whose creation was broken off."""
    if path.is_dir():
        raise InputError(str(path), "this is a folder, the store is a file", f"give sqlite:///{path / 'mlflow.db'}")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=20)) as database:
            rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            tables = {name for (name,) in rows}
            version = (
                database.execute("SELECT * FROM alembic_version").fetchall() if "alembic_version" in tables else []
            )
    except sqlite3.DatabaseError as error:
        raise InputError(
            str(path), f"not an MLflow store ({error})", "move it away, or choose another with --tracking-uri"
        ) from error
    left_over = sorted(name for name in tables if name.startswith("_alembic_tmp"))
    if left_over or not version:
        sign = f"table {left_over[0]} is left over" if left_over else "it has no schema version"
        remedy = f"delete or move {path}, then run again (if another program is making it now, wait for that first)"
        raise InputError(str(path), f"the store was only half created: {sign}", remedy)


def _check_answers(store: Store) -> None:
    from mlflow.exceptions import MlflowException

    try:
        connect(store.uri).search_experiments(max_results=1)
    except (MlflowException, ImportError) as error:
        first_line = str(error).strip().splitlines()[0]
        remedy = "check the address" if store.path is None else f"mlflow db upgrade {store.uri} brings an older one up"
        raise InputError(store.uri, f"the store does not answer ({first_line})", remedy) from error


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Keeps the migrations' progress lines and SQLAlchemy's deprecations off stderr: they are not news to the user."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
