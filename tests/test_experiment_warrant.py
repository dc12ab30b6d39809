"""An experiment's simulated values go by the card of its users, in the table and in MLflow."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from small_experiment import FILE, write_experiment
from store_template import MLFLOW_WARNINGS, fresh_store

from recil.config import load_experiment
from recil.errors import InputError
from recil.experiment import learn, plan, run_experiment
from recil.sim.card import validate

pytestmark = MLFLOW_WARNINGS
SHORT = FILE[: FILE.index("[truth]")] + FILE[FILE.index("[users]") : FILE.index("[[methods]]")]
SHORT = SHORT.replace("seeds = [0, 1]", "seeds = [0]") + '[[methods]]\nname = "random"\nkind = "uniform"\n'


@pytest.fixture(params=["trust", "caution", "refuse"])
def ran(request, tmp_path, monkeypatch):
    """(the verdict on the users, the result, the store): an experiment whose card says what it is told to say."""
    verdict, reasons = request.param, () if request.param == "trust" else ("off by so much",)
    judged = lambda users, log, **more: replace(validate(users, log, **more), verdict=verdict, reasons=reasons)  # noqa: E731
    monkeypatch.setattr(learn, "validate", judged)
    monkeypatch.setattr(plan, "code_version", lambda: "test")
    file, store = write_experiment(tmp_path, SHORT), fresh_store(tmp_path)
    return verdict, run_experiment(load_experiment(file), store, tmp_path / "work"), store


def test_refused_users_are_marked_in_the_table_and_in_mlflow(ran) -> None:
    verdict, result, store = ran
    (row,) = result.rows
    assert row.warrant == verdict and (row.simulated is None) == (verdict == "refuse")
    heads, line = str(result).splitlines()[:2]
    assert heads.split()[:2] == ["method", "simulated"]
    assert line.split()[1] == (f"{row.simulated[0]:.4f}" if row.simulated else "refuse")
    assert ("simulated users: " + verdict in str(result)) and ("off by so much" in str(result)) == (verdict != "trust")
    (cells,) = csv.DictReader(io.StringIO(result.table().csv()))
    assert cells["simulated_verdict"] == verdict and (cells["simulated"] == "") == (verdict == "refuse")

    client = MlflowClient(store.uri)
    runs = {run.data.tags["recil.method"]: run for run in client.search_runs(["1"])}
    assert runs["random"].data.tags["sim.verdict"] == runs["summary"].data.tags["sim.verdict"] == verdict
    assert runs["random"].data.metrics["sim/return"] > 0  # under its name, whatever its tag
    assert ("summary/random/simulated" in runs["summary"].data.metrics) == (verdict != "refuse")
    for name in ("users", "summary"):
        files = {file.path for file in client.list_artifacts(runs[name].info.run_id)}
        assert {"card.md", "card.html", "card.json"} <= files, name
        place = download_artifacts(run_id=runs[name].info.run_id, artifact_path="card.json", tracking_uri=store.uri)
        content = json.loads(Path(place).read_text(encoding="utf-8"))
        assert (content["verdict"], tuple(content["reasons"])) == result.world


def test_without_users_there_is_no_verdict_on_any(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(plan, "code_version", lambda: "test")
    text = SHORT.replace(SHORT[SHORT.index("[users]") : SHORT.index("[world]")], "")
    store = fresh_store(tmp_path)
    result = run_experiment(load_experiment(write_experiment(tmp_path, text)), store, tmp_path / "work")
    assert result.rows[0].warrant is None and "simulated" not in str(result).splitlines()[0]
    for run in MlflowClient(store.uri).search_runs(["1"]):
        assert "sim.verdict" not in run.data.tags
        assert not {file.path for file in MlflowClient(store.uri).list_artifacts(run.info.run_id)} & {"card.md"}


def test_members_widen_what_is_simulated_and_the_reference_stands_on_the_card(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(plan, "code_version", lambda: "test")
    found = {}
    for name, more in (("one", ""), ("many", "members = 3\nreference = true\n")):
        place, text = tmp_path / name, SHORT.replace("[world]\n", "[world]\n" + more)
        text = text.replace("[users]\n", '[users]\ncluster = "session"\n')
        place.mkdir()
        store = fresh_store(place)

        def trusted(users, log, **rest):
            assert rest["cluster"] == "session"
            return replace(validate(users, log, **rest), verdict="trust", reasons=())

        monkeypatch.setattr(learn, "validate", trusted)
        (row,) = run_experiment(load_experiment(write_experiment(place, text)), store, place / "work").rows
        found[name] = (
            row.simulated,
            {run.data.tags["recil.method"]: run.data.metrics for run in MlflowClient(store.uri).search_runs(["1"])},
        )
    (alone, bare), (among, metrics) = found["one"], found["many"]
    assert among[0] == alone[0] and among[2] - among[1] > alone[2] - alone[1]
    assert "sim/between" in metrics["random"] and "sim/between" not in bare["random"]
    assert "card/reference_gap" in metrics["users"] and "card/reference_gap" not in bare["users"]


def test_an_ensemble_of_one_is_bad_input(tmp_path) -> None:
    text = SHORT.replace("[world]\n", "[world]\nmembers = 1\n")
    with pytest.raises(InputError, match=r"world\.members"):
        load_experiment(write_experiment(tmp_path, text))
