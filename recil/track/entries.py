"""What a run has to say, as plain JSON: sent to MLflow now, or kept in a file and sent later.

An entry is one of
  {"metrics": [[name, value, milliseconds, step], ...]}       {"params": {name: text}}      {"tags": {name: text}}
  {"artifact": {"file": path, "folder": folder or None}}      {"dataset": {...}}
  {"status": "RUNNING"}                                       {"end": [status, milliseconds]}
Sending one twice does no harm: a metric carries its time, so MLflow keeps one copy of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

Entry = dict[str, Any]
METRICS_PER_BATCH = 1000
_NAMES_PER_BATCH = 100
_PASSING = {401, 403, 408, 429}  # refusals that may end without anything changing here


def is_away(error: Exception) -> bool:
    """Whether this failure is the store's absence (try again later) and no refusal of what was sent."""
    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
        return status >= 500 or status in _PASSING
    return isinstance(error, OSError)


def send(client: MlflowClient, run_id: str, entry: Entry, files: Path) -> None:
    """Sends one entry. files: the folder that relative artifact paths are in. Raises what MLflow raises."""
    ((kind, content),) = entry.items()
    if kind == "metrics":
        for part in _parts(content, METRICS_PER_BATCH):
            client.log_batch(run_id, metrics=[Metric(name, value, time, step) for name, value, time, step in part])
    elif kind == "params":
        _send_params(client, run_id, content)
    elif kind == "tags":
        for part in _parts(content.items(), _NAMES_PER_BATCH):
            client.log_batch(run_id, tags=[RunTag(name, value) for name, value in part])
    elif kind == "artifact":
        client.log_artifact(run_id, str(files / content["file"]), content["folder"])
    elif kind == "dataset":
        _send_dataset(client, run_id, content)
    elif kind == "status":
        client.update_run(run_id, status=content)
    elif kind == "end":
        client.set_terminated(run_id, status=content[0], end_time=content[1])
    else:
        raise ValueError(f"entry of an unknown kind {kind!r}")


def _parts(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    remaining = iter(values)
    while part := list(islice(remaining, size)):
        yield part


def _send_params(client: MlflowClient, run_id: str, params: Mapping[str, str]) -> None:
    """Only what the run does not have yet: a parameter cannot be written twice, and a resumed run has most of them."""
    known = client.get_run(run_id).data.params
    new = [(name, value) for name, value in params.items() if name not in known]
    for part in _parts(new, _NAMES_PER_BATCH):
        client.log_batch(run_id, params=[Param(name, value) for name, value in part])


def _send_dataset(client: MlflowClient, run_id: str, content: Mapping[str, str]) -> None:
    fields = {name: content[name] for name in ("name", "digest", "source_type", "source", "schema", "profile")}
    tags = [InputTag("mlflow.data.context", content["context"])]
    client.log_inputs(run_id, datasets=[DatasetInput(Dataset(**fields), tags)])
