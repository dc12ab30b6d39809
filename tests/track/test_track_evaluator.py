"""mlflow.models.evaluate with the plugin gives what recil.evaluate gives, in MLflow's own run."""

from __future__ import annotations

import tomllib
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from served_policies import attentive
from slot_machines import machine_log, save_choice
from store_template import MLFLOW_WARNINGS

from recil.errors import InputError
from recil.evaluate import evaluate
from recil.policies.storage import load
from recil.track.evaluator import MODEL_TYPE, OpeEvaluator, log_of
from recil.track.model import log_policy
from recil.track.model_store import on_store
from recil.track.run import RunWriter
from recil.track.serve import ServedPolicy
from recil.track.store import ensure_experiment

pytestmark = [
    MLFLOW_WARNINGS,
    pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning"),
    pytest.mark.filterwarnings("ignore:Hint. Inferred schema contains integer:UserWarning"),
]
PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


@pytest.fixture(autouse=True)
def plugin(monkeypatch):
    """What the entry point registers, also where this checkout was installed before it had one."""
    from mlflow.models.evaluation import evaluator_registry

    registry = evaluator_registry._model_evaluation_registry
    if not registry.is_registered("recil-ope"):
        monkeypatch.setitem(registry._registry, "recil-ope", OpeEvaluator)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)


def test_the_entry_point_leads_to_the_evaluator():
    points = tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"]["mlflow.model_evaluator"]
    module, _, name = points["recil-ope"].partition(":")
    assert getattr(import_module(module), name) is OpeEvaluator
    installed = [point.value for point in entry_points(group="mlflow.model_evaluator") if point.name == "recil-ope"]
    assert set(installed) <= {points["recil-ope"]}


@pytest.fixture
def logged(store, tmp_path):
    folder = save_choice(tmp_path / "policy", 0.1, 0.3, 0.6)
    with RunWriter(store, ensure_experiment(store, "recil-x"), "clone", tmp_path / "spool") as run:
        run.flush()
        return log_policy(store, run, folder)


def evaluated(store, uri, table, **config):
    experiment = ensure_experiment(store, "recil-x")
    with on_store(store), mlflow.start_run(experiment_id=experiment):
        return mlflow.models.evaluate(
            uri, data=table, model_type=MODEL_TYPE, evaluators="recil-ope", evaluator_config=config
        )


def test_metrics_are_those_of_evaluate_in_the_run_and_on_the_model(store, logged, tmp_path):
    log = machine_log(800)
    found = evaluated(store, logged.uri, log.to_frame(), estimators=["ips", "snips"], replicates=100, seed=3)
    wanted = evaluate(load(tmp_path / "policy"), log, estimators=["ips", "snips"], replicates=100, seed=3)
    expected = {
        f"ope/{row.estimator}{end}": pytest.approx(value)
        for row in wanted
        for end, value in (("", row.value), ("_low", row.low), ("_high", row.high), ("_ess", row.ess))
    }
    assert found.metrics == expected and len(expected) == 8
    client = MlflowClient(store.uri)
    (run,) = client.search_runs([client.get_experiment_by_name("recil-x").experiment_id], "metrics.`ope/ips` > 0")
    assert run.data.metrics == expected and run.data.tags["ope.verdict"] == wanted.best.verdict
    assert {metric.key for metric in client.get_logged_model(logged.model_id).metrics} == set(expected)
    assert {"ope.json", "ope.txt"} <= {file.path for file in client.list_artifacts(run.info.run_id)}


def test_a_refused_estimate_is_no_metric(store, logged):
    found = evaluated(store, logged.uri, machine_log(12).to_frame(), estimators=["ips"], replicates=20)
    assert set(found.metrics) == {"ope/ips_ess"}


def test_bad_input_is_named(store, logged):
    table = machine_log(50).to_frame()
    with pytest.raises(InputError, match=r"evaluator_config\.estimator: unknown key -> the keys are reward"):
        evaluated(store, logged.uri, table, estimator="ips")
    with pytest.raises(InputError, match="is not in the items table"):
        evaluated(store, logged.uri, table.replace({"item_id": {"c": "z"}}))
    with pytest.raises(InputError, match="it has no propensities"):
        evaluated(store, logged.uri, table.drop(columns="propensity"))
    with pytest.raises(MlflowException, match="could not be evaluated"), on_store(store):
        mlflow.models.evaluate(logged.uri, data=table, model_type="other", evaluators="recil-ope")


def test_another_models_flavour_is_refused(store, tmp_path):
    script = tmp_path / "other.py"
    script.write_text(
        "import pandas as pd\nfrom mlflow.models import set_model\nfrom mlflow.pyfunc import PythonModel\n"
        "class Other(PythonModel):\n    def predict(self, context, model_input: pd.DataFrame, params=None):\n"
        "        return model_input\nset_model(Other())\n"
    )
    with on_store(store):
        mlflow.pyfunc.save_model(tmp_path / "other", python_model=str(script), pip_requirements=["mlflow"])
    with pytest.raises(InputError, match="it is no policy of recil's"):
        evaluated(store, str(tmp_path / "other"), machine_log(50).to_frame())


def test_categories_go_by_their_names_whatever_codes_the_table_would_give(tmp_path):
    log = attentive(tmp_path / "policy")
    served = ServedPolicy.load(tmp_path / "policy")
    table = log.to_frame()
    assert log_of(table, served).feedback["answer"].categories == ("a", "b", "c", "d")
    few = table[table["session_id"].isin(table["session_id"].unique()[:3])]
    text = few.assign(answer=few["answer"].astype(object), user_kind=few["user_kind"].astype(str))
    again = log_of(text, served)
    assert again.feedback["answer"].values.tolist() == log.select([0, 1, 2]).feedback["answer"].values.tolist()
    assert again.user_features["user_kind"].categories == ("low", "any")
    with pytest.raises(InputError, match="column answer: 'q' is no category of the policy's"):
        log_of(text.assign(answer="q"), served)
    with pytest.raises(InputError, match="data: list where a table was expected"):
        log_of([1], served)
    assert isinstance(served.columns.coded(pd.DataFrame({"x": [1]})), pd.DataFrame)
