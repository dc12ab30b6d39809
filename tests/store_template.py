"""A migrated MLflow store, made once per test session and copied: the migrations take seconds, a copy does not."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import pytest

from recil.track.store import Store, prepare_store, resolve_store

# MLflow's own code uses a loader that SQLAlchemy 2.1 deprecates; nothing of ours can change that.
MLFLOW_WARNINGS = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")


@functools.cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="recil-store-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    store = resolve_store(f"sqlite:///{folder / 'mlflow.db'}")
    prepare_store(store)
    assert store.path is not None
    return store.path


def fresh_store(folder: Path, name: str = "mlflow.db") -> Store:
    """A store of one's own in this folder."""
    shutil.copyfile(_template(), folder / name)
    return resolve_store(f"sqlite:///{folder / name}")
