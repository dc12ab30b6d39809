"""Saved policies as MLflow models: logged from code, with their signature, and no pickle anywhere."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.policies.folder import POLICY
from recil.policies.tensor_folder import installed_version
from recil.track.model_store import on_store
from recil.track.run import RunWriter
from recil.track.serve import ServedPolicy
from recil.track.store import Store, connect

MODEL_TYPE = "recommender"
_REQUIRED = ("torch", "numpy", "pandas", "safetensors")


@dataclass(frozen=True)
class LoggedPolicy:
    """A policy as the store has it. uri: what MLflow loads it by; version: the digest that comes with each slate."""

    model_id: str
    uri: str
    run_id: str
    version: str


def log_policy(
    store: Store,
    run: RunWriter | str,
    folder: str | Path,
    log: SessionLog | None = None,
    *,
    name: str = "policy",
    tags: Mapping[str, str] | None = None,
) -> LoggedPolicy:
    """Logs the policy saved in `folder` into a run, as a model that `mlflow models serve` and `recil serve` can serve.

    run: its writer or its id; log: one like the policy was trained on, so that requests name categories as it does, and
    ask for slates as long as its; name: the model's among those of the run.
    Raises InputError where the folder holds no policy, and where the store is away.
    """
    run_id = run.run_id if isinstance(run, RunWriter) else run
    if run_id is None:
        raise InputError("log_policy", "the run has not reached its store yet", "log the policy when the store is back")
    served = ServedPolicy.load(folder, log)
    with on_store(store), tempfile.TemporaryDirectory() as place:
        files = Path(place) / "policy"
        files.mkdir()
        for file in (POLICY.description, POLICY.tensors):
            shutil.copyfile(Path(folder) / file, files / file)
        served.columns.save(files)
        from mlflow import pyfunc
        from mlflow.models import Model

        found = Model.log(
            artifact_path=None,
            flavor=pyfunc,
            run_id=run_id,
            model_id=_begin(store, run_id, name, served, tags or {}),
            python_model=str(Path(__file__).with_name("policy_model.py")),
            artifacts={"policy": str(files)},
            signature=signature_of(served),
            input_example=(example_of(served), {"k": min(3, len(served.item_ids))}),
            pip_requirements=_requirements(),
        )
    return LoggedPolicy(found.model_id, f"models:/{found.model_id}", run_id, served.version)


def _begin(store: Store, run_id: str, name: str, served: ServedPolicy, tags: Mapping[str, str]) -> str:
    """A model in the experiment of its run: MLflow itself would take the experiment that is active in this process."""
    client = connect(store.uri)
    return client.create_logged_model(
        client.get_run(run_id).info.experiment_id,
        name,
        run_id,
        {"recil.policy_version": served.version} | {key: str(value) for key, value in tags.items()},
        {"kind": served.kind, "catalogue": str(len(served.item_ids))},
        MODEL_TYPE,
    ).model_id


def signature_of(served: ServedPolicy) -> Any:
    """Sessions in, slates out; parameters k, draw, seed."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import (
        Array,
        ColSpec,
        DataType,
        ParamSchema,
        ParamSpec,
        Schema,
        TensorSpec,
    )

    item = DataType.string if served.item_ids.dtype.kind == "U" else DataType.long
    answered: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "session_id"),
        ColSpec(DataType.long, "step"),
        ColSpec(Array(item), "items"),
        ColSpec(Array(DataType.double), "propensity"),
        ColSpec(DataType.string, "policy"),
        ColSpec(DataType.string, "draw"),
        ColSpec(DataType.long, "seed"),
    ]
    params = [
        ParamSpec("k", DataType.long, served.reader().k),
        ParamSpec("draw", DataType.string, "sample"),
        ParamSpec("seed", DataType.long, 0),
    ]
    return ModelSignature(inputs=_asked(item), outputs=Schema(answered), params=ParamSchema(params))


def _asked(item: Any) -> Any:
    """The columns of a request; item: the type of the catalogue's ids. A log's own columns may be of any type."""
    from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Object, Property, Schema, TensorSpec

    step = Object(
        [
            Property("items", Array(item)),
            Property("reward", Array(DataType.double), required=False),
            Property("feedback", AnyType(), required=False),
            Property("context", AnyType(), required=False),
        ]
    )
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(Array(step), "history", required=False),
        ColSpec(DataType.string, "session_id", required=False),
        ColSpec(AnyType(), "context", required=False),
        ColSpec(AnyType(), "user", required=False),
    ]
    return Schema(columns)


def example_of(served: ServedPolicy) -> Any:
    """Two sessions: one that has seen a slate, one that begins."""
    import pandas as pd

    items = served.item_ids[: min(2, len(served.item_ids))].tolist()
    step = {"items": items, "reward": [1.0, 0.0][: len(items)]}
    return pd.DataFrame({"session_id": ["first", "second"], "history": [[step], []]})


def _requirements() -> list[str]:
    """What the model needs, by the versions that are here: MLflow would search for them, slowly, and miss recil."""
    versions = {name: metadata.version(name) for name in _REQUIRED}
    return [
        f"recil=={installed_version()}",
        *(f"{name}=={version.split('+')[0]}" for name, version in versions.items()),
    ]
