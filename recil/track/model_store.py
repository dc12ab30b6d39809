"""MLflow's own model functions, pointed at one store for a while."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from recil.track.store import Store, connect

# MLflow would copy a project's lock file into every model, and search the environment for packages.
_MANNERS = {"MLFLOW_UV_AUTO_DETECT": "false", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}


@contextmanager
def on_store(store: Store) -> Iterator[None]:
    """MLflow's models work on a global address: it is this store's inside, and what it was outside.

    Its advice to whoever writes models is kept off the user's screen.
    """
    import mlflow

    connect(store.uri)
    before = {name: os.environ.get(name) for name in (*_MANNERS, "MLFLOW_TRACKING_URI")}
    logger = logging.getLogger("mlflow")
    level = logger.level
    try:
        os.environ.update(_MANNERS)
        logger.setLevel(logging.ERROR)
        mlflow.set_tracking_uri(store.uri)
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)
        # An address once set is in the environment, too: what the environment says is what it was.
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
