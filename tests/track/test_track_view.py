"""The ready-made view of the charts: what it asks MLflow for, and that nothing depends on it."""

from __future__ import annotations

import base64
import json
import zlib

from mlflow import MlflowClient
from store_template import MLFLOW_WARNINGS

from recil.track.links import charts_link, runs_link
from recil.track.names import check_metric_name
from recil.track.store import Store, ensure_experiment
from recil.track.view import VIEW, share_view, view_of

pytestmark = MLFLOW_WARNINGS


def test_the_experiment_keeps_the_view_of_its_newest_sweep(store):
    experiment = ensure_experiment(store, "recil-demo")
    assert share_view(store, experiment, "older") and share_view(store, experiment, "newer")
    tags = MlflowClient(store.uri).get_experiment(experiment).tags
    kind, _, packed = tags[f"mlflow.sharedViewState.{VIEW}"].partition(";")
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert kind == "deflate" and state == view_of("newer")
    assert "'newer'" in state["searchFilter"] and len(packed) < 5000  # MLflow's own limit of a tag
    found = MlflowClient(store.uri).search_runs([experiment], state["searchFilter"])
    assert found == [], "the filter is one that MLflow understands"
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == sections
    keys = [chart["uuid"] for chart in state["compareRunCharts"]]
    assert len(set(keys)) == len(keys)
    for chart in state["compareRunCharts"]:
        check_metric_name(chart["metricKey"])
    link = charts_link(runs_link(store, experiment))
    assert link.endswith(f"/runs?workflowType=machine_learning&viewStateShareKey={VIEW}&compareRunsMode=CHART")


def test_a_store_that_is_away_gets_no_view_and_stops_nothing(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert not share_view(Store("http://127.0.0.1:1"), "1", "sweep")
