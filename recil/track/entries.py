"""What a run has to say, as plain JSON: sent to MLflow now, or kept in a file and sent later.

An entry is one of
  {"begin": {tag: text}}                                      the run goes on, with these tags
  {"batch": {"metrics": [[name, value, milliseconds, step], ...], "params": {name: text}, "tags": {name: text}}}
  {"artifact": {"file": path, "folder": folder or None}}      {"datasets": [{...}, ...]}
  {"end": [status, milliseconds]}
Sending one twice does no harm: a metric carries its time, so MLflow keeps one copy of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

Entry = dict[str, Any]
METRICS_PER_BATCH = 800  # with as many names as fit below, under MLflow's 1000 a call
_NAMES_PER_BATCH = 100
_PASSING = {401, 403, 408, 429}  # refusals that may end without anything changing here


def is_away(error: Exception) -> bool:
    """Whether this failure is the store's absence (try again later) and no refusal of what was sent."""
    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
        return status >= 500 or status in _PASSING
    return isinstance(error, OSError)


def send(client: MlflowClient, run_id: str, entry: Entry, files: Path, created: bool) -> None:
    """Sends one entry. Raises what MLflow raises.

    files: the folder that relative artifact paths are in; created: the run is new and has what it was created with.
    """
    ((kind, content),) = entry.items()
    if kind == "begin":
        if not created:
            client.update_run(run_id, status="RUNNING")
            client.log_batch(run_id, tags=[RunTag(name, value) for name, value in content.items()])
    elif kind == "batch":
        _send_batch(client, run_id, content, created)
    elif kind == "artifact":
        client.log_artifact(run_id, str(files / content["file"]), content["folder"])
    elif kind == "datasets":
        client.log_inputs(run_id, datasets=[_dataset(dataset) for dataset in content])
    elif kind == "end":
        client.set_terminated(run_id, status=content[0], end_time=content[1])
    else:
        raise ValueError(f"entry of an unknown kind {kind!r}")


def _send_batch(client: MlflowClient, run_id: str, content: Mapping[str, Any], created: bool) -> None:
    """As few calls as MLflow's limits allow. A parameter is written once: a run gone on with has most of them."""
    params = dict(content.get("params", {}))
    if params and not created:
        known = client.get_run(run_id).data.params
        params = {name: value for name, value in params.items() if name not in known}
    metrics = _parts([Metric(*metric) for metric in content.get("metrics", [])], METRICS_PER_BATCH)
    names = _parts([Param(*param) for param in params.items()], _NAMES_PER_BATCH)
    tags = _parts([RunTag(*tag) for tag in content.get("tags", {}).items()], _NAMES_PER_BATCH)
    while True:
        parts = next(metrics, []), next(names, []), next(tags, [])
        if not any(parts):
            return
        client.log_batch(run_id, metrics=parts[0], params=parts[1], tags=parts[2])


def _parts(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def _dataset(content: Mapping[str, str]) -> DatasetInput:
    fields = {name: content[name] for name in ("name", "digest", "source_type", "source", "schema", "profile")}
    return DatasetInput(Dataset(**fields), [InputTag("mlflow.data.context", content["context"])])
