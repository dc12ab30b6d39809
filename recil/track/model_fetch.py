"""Saved policies found again: in a folder, in a run, or in the registry by name and alias."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recil.errors import InputError
from recil.policies.folder import POLICY
from recil.track.model_store import on_store
from recil.track.store import Store, connect

_ADDRESSES = ("models:/", "runs:/")
SAVED_POLICIES = "saved"  # the folder among a run's artifacts that its policy's folder is in, before it is a model


def is_address(source: str) -> bool:
    """Whether this names a model in a store, not a folder."""
    return source.startswith(_ADDRESSES)


@contextmanager
def policy_at(source: str, store: Store) -> Iterator[Path]:
    """The folder of the policy that `source` names, as long as the context lasts.

    source: a folder, `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `models:/MODEL_ID` or `runs:/RUN_ID/policy`.
    Raises InputError where the store has no such model, and where it is no policy of recil's.
    """
    if not is_address(source):
        yield Path(source)
        return
    with tempfile.TemporaryDirectory(prefix="recil-policy-") as place:
        found = sorted(_download(source, store, place).rglob(POLICY.description))
        if not found:
            remedy = "give one logged by log_policy or by recil promote"
            raise InputError(source, "this model is no policy of recil's", remedy)
        yield found[0].parent


def _download(source: str, store: Store, place: str) -> Path:
    from mlflow.exceptions import MlflowException

    try:
        with on_store(store):
            from mlflow.artifacts import download_artifacts

            return Path(download_artifacts(artifact_uri=source, dst_path=place))
    except (MlflowException, OSError) as error:
        first = str(error).strip().splitlines()[0]
        remedy = "check the name; `recil promote` sets aliases, and --tracking-uri names another store"
        raise InputError(source, f"not found in {store.uri} ({first})", remedy) from error


def saved_in_run(store: Store, run_id: str) -> str | None:
    """The address of the policy that lies as plain files among this run's artifacts; None where none does."""
    folder = f"{SAVED_POLICIES}/policy"
    found = connect(store.uri).list_artifacts(run_id, folder)
    return f"runs:/{run_id}/{folder}" if any(Path(file.path).name == POLICY.description for file in found) else None


def run_of_saved(address: str) -> str | None:
    """The run behind an address of `saved_in_run`; None for any other."""
    found = re.fullmatch(rf"runs:/([^/]+)/{SAVED_POLICIES}/policy", address)
    return None if found is None else found[1]


def model_of_run(store: Store, run_id: str) -> str | None:
    """The address of the policy that this run logged last; None where it logged none. InputError: no such run."""
    from mlflow.exceptions import MlflowException

    client = connect(store.uri)
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise InputError(
            run_id, f"no run of {store.uri}", "give a run's id, models:/NAME/VERSION or a folder"
        ) from error
    outputs = run.outputs.model_outputs if run.outputs else []
    return f"models:/{outputs[-1].model_id}" if outputs else None
