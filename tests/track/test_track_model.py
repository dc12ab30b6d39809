"""Policies as MLflow models: from code, without pickle, answering what `recil serve` answers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from served_policies import attentive, requests_of, with_whole_number_ids
from store_template import MLFLOW_WARNINGS

from recil.errors import InputError
from recil.policies.baselines import popular
from recil.policies.storage import save
from recil.track.model import log_policy
from recil.track.model_fetch import model_of_run, policy_at
from recil.track.model_store import on_store
from recil.track.run import RunWriter
from recil.track.serve import ServedPolicy
from recil.track.serve_table import answer_table
from recil.track.store import Store, ensure_experiment

# What MLflow says of its own type hints when it is imported.
pytestmark = [MLFLOW_WARNINGS, pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")]


@pytest.fixture
def log(tmp_path):
    return attentive(tmp_path / "policy", named=False)


@pytest.fixture
def logged(store, log, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with RunWriter(store, ensure_experiment(store, "recil-x"), "clone", tmp_path / "spool") as run:
        run.metrics({"ope/pdwis": 0.25})
        run.flush()
        return log_policy(store, run, tmp_path / "policy", log, tags={"recil.method": "clone"})


def test_the_model_is_the_runs_and_holds_no_pickle(store, logged, tmp_path):
    client = MlflowClient(store.uri)
    model, run = client.get_logged_model(logged.model_id), client.get_run(logged.run_id)
    assert (model.experiment_id, model.source_run_id) == (run.info.experiment_id, logged.run_id)
    assert str(model.status) == "READY" and run.info.status == "FINISHED"
    assert model.tags["recil.policy_version"] == logged.version and model.params["kind"] == "softmax"
    assert [(metric.key, metric.value) for metric in model.metrics] == [("ope/pdwis", 0.25)]
    assert model_of_run(store, logged.run_id) == logged.uri
    files = [path.name for path in (tmp_path / "mlartifacts").rglob("*") if path.is_file()]
    assert {"MLmodel", "policy_model.py", "weights.safetensors", "policy.json", "columns.json"} <= set(files)
    assert not any(name.endswith((".pkl", ".pt", ".pth", ".lock")) for name in files)
    requirements = next((tmp_path / "mlartifacts").rglob("requirements.txt")).read_text()
    assert "recil==" in requirements and "torch==" in requirements


def test_what_is_loaded_answers_as_the_served_policy_does(store, logged, log, tmp_path):
    with on_store(store):
        model = mlflow.pyfunc.load_model(logged.uri)
    asked = requests_of(log, 5)
    found = model.predict(pd.DataFrame(asked), params={"k": 2, "seed": 9})
    served = ServedPolicy.load(tmp_path / "policy", log)
    wanted = served.answer(served.reader(k=2).read({"sessions": asked}), seed=9)
    assert found["items"].tolist() == [list(answer.items) for answer in wanted]
    assert np.allclose(found["propensity"].tolist(), [answer.propensity for answer in wanted])
    assert found["policy"].unique().tolist() == [logged.version] and found["step"].tolist() == log.lengths[:5].tolist()
    greedy = model.predict(pd.DataFrame(asked)[["history"]], params={"draw": "greedy"})
    assert greedy["propensity"].tolist() == [[1.0] * 3] * 5 and greedy["session_id"].nunique() == 5
    with pytest.raises(MlflowException, match="give a whole number from 1 to 12") as caught:
        model.predict(pd.DataFrame(asked), params={"k": 99})
    assert caught.value.get_http_status_code() == 400
    with pytest.raises(MlflowException, match=r"sessions\[0\].history\[0\].items\[0\]: item 'x' is not"):
        model.predict(pd.DataFrame({"history": [[{"items": ["x"], "reward": [0.0]}]]}))


def test_the_input_example_is_one_that_is_answered(store, logged, tmp_path):
    (example,) = (tmp_path / "mlartifacts").rglob("serving_input_example.json")
    body = json.loads(example.read_text())
    with on_store(store):
        model = mlflow.pyfunc.load_model(logged.uri)
    found = model.predict(pd.DataFrame(**body["dataframe_split"]), params=body["params"])
    assert found["session_id"].tolist() == ["first", "second"] and found["step"].tolist() == [1, 0]
    assert all(len(items) == 3 for items in found["items"])


def test_whole_number_ids_and_no_columns(store, log, tmp_path):
    save(popular(with_whole_number_ids(log)), tmp_path / "popular")
    with RunWriter(store, ensure_experiment(store, "recil-x"), "popular", tmp_path / "spool") as run:
        pass
    logged = log_policy(store, run.run_id, tmp_path / "popular")
    with on_store(store):
        model = mlflow.pyfunc.load_model(logged.uri)
    found = model.predict(pd.DataFrame({"history": [[{"items": [10, 20], "reward": [1.0, 0.0]}], []]}), params={"k": 2})
    assert all(item % 10 == 0 for items in found["items"] for item in items)


def test_a_policy_is_found_again_and_its_copy_goes(store, logged, tmp_path):
    for source in (logged.uri, f"runs:/{logged.run_id}/policy"):
        with policy_at(source, store) as folder:
            assert ServedPolicy.load(folder).version == logged.version
        assert not folder.exists()
    with policy_at(str(tmp_path / "policy"), store) as folder:
        assert folder == tmp_path / "policy"
    assert folder.exists()


def test_what_is_not_there_is_named(store, logged, tmp_path):
    with (
        pytest.raises(InputError, match=r"models:/none@champion: not found in sqlite"),
        policy_at("models:/none@champion", store),
    ):
        pass
    with pytest.raises(InputError, match="nothing: no run of sqlite"):
        model_of_run(store, "nothing")
    with pytest.raises(InputError, match=r"policy\.json is missing"):
        log_policy(store, logged.run_id, tmp_path / "none")
    client = MlflowClient(store.uri)
    other = client.create_run(client.get_run(logged.run_id).info.experiment_id)
    assert model_of_run(store, other.info.run_id) is None


def test_a_run_whose_store_is_away_takes_no_model(tmp_path, log, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = Store("http://127.0.0.1:9")
    with RunWriter(away, "1", "clone", tmp_path / "spool") as run, pytest.raises(InputError, match="not reached"):
        log_policy(away, run, tmp_path / "policy", log)


@pytest.mark.parametrize("set_before", [None, "sqlite:///elsewhere.db"])
def test_the_process_keeps_its_own_address(store, log, tmp_path, monkeypatch, set_before):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if set_before:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", set_before)
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri(), dict(os.environ)
    with on_store(store):
        assert mlflow.get_tracking_uri() == store.uri
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri(), dict(os.environ)) == before
    assert not list(Path.cwd().glob("elsewhere.db"))


def test_a_table_with_other_columns_is_refused(log, tmp_path):
    served = ServedPolicy.load(tmp_path / "policy")
    with pytest.raises(InputError, match="column sesion: unknown -> the columns are session_id, history"):
        answer_table(served, pd.DataFrame({"sesion": ["a"]}), {})
