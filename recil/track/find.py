"""Runs found again by their tags."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from mlflow.exceptions import MlflowException

from recil.errors import InputError
from recil.track.store import Store, connect


@dataclass(frozen=True)
class FoundRun:
    """A run as the store has it: last values of its metrics, parameters as text."""

    run_id: str
    experiment_id: str
    name: str
    status: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    params: Mapping[str, str]


def find_runs(
    store: Store, experiment_id: str, tags: Mapping[str, str], status: str | None = "FINISHED"
) -> list[FoundRun]:
    """Runs of the experiment that carry all these tags, oldest first. status None: in any state."""
    client = connect(store.uri)
    parts = [f"tags.`{name}` = '{_quoted(value)}'" for name, value in tags.items()]
    if status is not None:
        parts.append(f"attributes.status = '{status}'")
    found, token = [], None
    while True:
        page = client.search_runs(
            [experiment_id], " and ".join(parts), order_by=["attributes.start_time ASC"], page_token=token
        )
        found += [_found(run) for run in page]
        token = page.token
        if not token:
            return found


def metric_history(store: Store, run_id: str, name: str) -> list[tuple[int, float]]:
    """(step, value) by step; of a step that was written twice, the last."""
    points = connect(store.uri).get_metric_history(run_id, name)
    last = {point.step: point.value for point in sorted(points, key=lambda point: point.timestamp)}
    return sorted(last.items())


def adopted_run(store: Store) -> FoundRun | None:
    """The run that MLFLOW_RUN_ID names: `mlflow run` has begun it and wants it used. None when it is not set."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if not run_id:
        return None
    try:
        return _found(connect(store.uri).get_run(run_id))
    except MlflowException as error:
        remedy = "unset it, or set MLFLOW_TRACKING_URI to the store that has this run"
        raise InputError("MLFLOW_RUN_ID", f"{run_id!r} is no run in {store.uri}", remedy) from error


def end_runs(store: Store, experiment_id: str, tags: Mapping[str, str], status: str = "KILLED") -> int:
    """Ends the runs with these tags that are still marked as running (their processes are gone). Returns how many."""
    client = connect(store.uri)
    running = find_runs(store, experiment_id, tags, status="RUNNING")
    for run in running:
        client.set_tag(run.run_id, "recil.state", status.lower())
        client.set_terminated(run.run_id, status=status)
    return len(running)


def _quoted(value: str) -> str:
    if "'" in value:
        raise InputError("tag", f"{value!r} holds a quote, which MLflow cannot search for", "leave it out")
    return value


def _found(run) -> FoundRun:
    info, data = run.info, run.data
    return FoundRun(
        info.run_id,
        info.experiment_id,
        info.run_name or "",
        info.status,
        dict(data.tags),
        dict(data.metrics),
        dict(data.params),
    )
