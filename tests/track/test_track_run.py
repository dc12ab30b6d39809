"""A run: batched metrics, names MLflow takes, parameters, artifacts, lineage, and how it ends."""

from __future__ import annotations

import json
import math
import subprocess
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from store_template import MLFLOW_WARNINGS, fresh_store

from recil.errors import InputError
from recil.track.dataset import SessionDataset
from recil.track.find import adopted_run, end_runs, find_runs
from recil.track.git import git_tags
from recil.track.links import run_link, runs_link
from recil.track.names import check_metric_name, flat
from recil.track.run import RunWriter
from recil.track.store import Store, ensure_experiment
from recil.track.summary import Table, write_summary

pytestmark = MLFLOW_WARNINGS


@pytest.fixture
def experiment(store) -> str:
    return ensure_experiment(store, "recil-demo")


@pytest.fixture
def write(store, experiment, tmp_path):
    def begin(name="clone", **options) -> RunWriter:
        return RunWriter(store, experiment, name, tmp_path / "spool", **options)

    return begin


def test_metrics_go_out_in_few_batches_and_none_is_lost(store, write, monkeypatch):
    sizes = []
    send = MlflowClient.log_batch

    def counted(self, run_id, metrics=(), params=(), tags=(), **options):
        sizes.extend([len(metrics)] if metrics else [])
        return send(self, run_id, metrics, params, tags, **options)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    with write(flush_seconds=1e9) as run:
        for step in range(1250):
            run.metrics({"clone/nll": 1.0 / (step + 1), "clone/grad": float(step)}, step)
    assert sizes == [800, 800, 800, 100]
    history = MlflowClient(store.uri).get_metric_history(run.run_id, "clone/nll")
    assert sorted((point.step, point.value) for point in history) == [(s, 1.0 / (s + 1)) for s in range(1250)]
    assert MlflowClient(store.uri).get_run(run.run_id).info.status == "FINISHED"


def test_metrics_do_not_wait_longer_than_told(store, write):
    with write(flush_seconds=0.0) as run:
        run.metrics({"clone/nll": 2.0})
        assert MlflowClient(store.uri).get_run(run.run_id).data.metrics == {"clone/nll": 2.0}


def test_values_that_are_not_finite_are_counted_not_stored(store, write):
    with write() as run:
        run.metrics({"finetune/ess": math.inf, "finetune/kl": 0.5, "clone/nll": math.nan}, 1)
        run.metrics({"finetune/ess": -math.inf}, 2)
    stored = MlflowClient(store.uri).get_run(run.run_id).data.metrics
    assert stored == {"finetune/kl": 0.5, "finetune/nonfinite": 2.0, "clone/nonfinite": 1.0}


@pytest.mark.parametrize(
    ("refused", "offered"),
    [
        ("rank/recall@10", "rank/recall_at_10"),
        ("ndcg (10)", "ndcg _10_"),
        ("a//b", "a/b"),
        ("/a", "a"),
        ("a/../b", "a/b"),
    ],
)
def test_names_mlflow_refuses_are_refused_at_once_with_one_it_takes(refused, offered, store, write):
    with write() as run:
        with pytest.raises(InputError, match="refused by MLflow") as caught:
            run.metrics({refused: 1.0})
        assert caught.value.remedy == f"call it {offered!r}"
        run.metrics({offered: 1.0})
    assert run.refused == 0
    assert MlflowClient(store.uri).get_run(run.run_id).data.metrics == {offered: 1.0}


@given(st.text(max_size=20))
def test_the_name_offered_is_always_one_that_is_taken(name):
    try:
        check_metric_name(name)
    except InputError as error:
        check_metric_name(error.remedy.removeprefix("call it ").strip("'\""))


@dataclass(frozen=True)
class Optimiser:
    lr: float = 0.1
    betas: tuple[float, ...] = (0.9, 0.99)


def test_parameters_are_flat_and_dotted():
    config = {"name": "demo", "optim": Optimiser(), "methods": [{"kind": "clone"}], "none": None}
    assert flat(config) == {
        "name": "demo", "optim.lr": "0.1", "optim.betas": "[0.9, 0.99]", "methods.0.kind": "clone", "none": "None",
    }  # fmt: skip


def test_many_parameters_and_a_resumed_run_that_brings_others(store, write):
    with write() as run:
        run.params({"clone": {f"p{i}": i for i in range(250)}})
        run.metrics({"clone/nll": 3.0}, 1)
    with write(run_id=run.run_id) as again:
        running = MlflowClient(store.uri).get_run(run.run_id)
        assert running.info.status == "RUNNING"
        again.params({"clone": {"p0": "another", "new": 1}})
        again.metrics({"clone/nll": 2.0}, 2)
    found = MlflowClient(store.uri).get_run(run.run_id)
    assert (again.run_id, again.refused) == (run.run_id, 0)
    assert found.data.params == {f"clone.p{i}": str(i) for i in range(250)} | {"clone.new": "1"}
    assert len(MlflowClient(store.uri).get_metric_history(run.run_id, "clone/nll")) == 2


def test_a_run_is_gone_on_with_by_its_key_and_a_record_fills_another_store(store, write, tmp_path):
    record = tmp_path / "metrics.jsonl"
    with write(key="abc", ends=False, record=record) as begun:
        for step in range(3):
            begun.metrics({"clone/nll": 3.0 - step}, step)
    client = MlflowClient(store.uri)
    assert client.get_run(begun.run_id).info.status == "RUNNING"
    with write(key="abc") as ended:
        ended.replay(record)
        ended.metrics({"ope/ips": 0.5})
    assert ended.run_id == begun.run_id
    assert client.get_run(begun.run_id).info.status == "FINISHED"
    assert len(client.get_metric_history(begun.run_id, "clone/nll")) == 3

    other = fresh_store(tmp_path, "other.db")
    with RunWriter(other, ensure_experiment(other, "recil-demo"), "clone", tmp_path / "spool", key="abc") as copy:
        copy.replay(record)
    curve = MlflowClient(other.uri).get_metric_history(copy.run_id, "clone/nll")
    assert [(point.step, point.value) for point in curve] == [(0, 3.0), (1, 2.0), (2, 1.0)]


def test_writing_a_run_takes_few_calls(store, write, small_log, monkeypatch):
    calls = []
    for name in ("log_batch", "log_inputs", "update_run", "create_run", "search_runs", "get_run", "set_terminated"):
        send = getattr(MlflowClient, name)
        monkeypatch.setattr(MlflowClient, name, lambda *a, _send=send, _n=name, **k: calls.append(_n) or _send(*a, **k))
    with write() as run:
        run.params({"clone": {"lr": 0.1}})
        run.tags({"recil.verdict": "trust"})
        run.metrics({"clone/nll": 1.0})
        run.dataset(small_log, "small", "train", "a")
        run.dataset(small_log, "small", "evaluate", "a")
    assert calls == ["search_runs", "create_run", "log_batch", "log_inputs", "set_terminated"]


def test_artifacts_of_text_tables_and_figures(store, write, tmp_path):
    from matplotlib.figure import Figure

    own = tmp_path / "experiment.toml"
    own.write_text("name = 'demo'")
    figure = Figure()
    figure.add_subplot().plot([1, 2])
    table = Table(("method", "value"), (("clone", 0.25), ("a|b", None)))
    with write(name="summary") as run:
        write_summary(run, {"comparison": table}, {"values": figure}, {"clone": {"value": 0.25}}, note="# Demo")
        run.file(own, "config")
    client = MlflowClient(store.uri)
    names = {entry.path for entry in client.list_artifacts(run.run_id)}
    assert names == {"comparison.csv", "comparison.md", "comparison.json", "values.png", "config"}
    text = (store.artifacts / "recil-demo" / run.run_id / "artifacts" / "comparison.md").read_text()
    assert text == "| method | value |\n| :--- | ---: |\n| clone | 0.2500 |\n| a\\|b |  |\n"
    assert table.csv() == "method,value\nclone,0.25\na|b,\n"
    stored = client.get_run(run.run_id).data
    assert stored.metrics == {"summary/clone/value": 0.25}
    assert stored.tags["mlflow.note.content"] == "# Demo"
    assert json.loads(stored.tags["mlflow.loggedArtifacts"]) == [{"path": "comparison.json", "type": "table"}]


def test_lineage_is_the_logs_own_digest_and_counts(store, write, small_log):
    with write() as run:
        run.dataset(small_log, "small", "train", "logs/small.csv")
    (stored,) = MlflowClient(store.uri).get_run(run.run_id).inputs.dataset_inputs
    dataset = stored.dataset
    assert (dataset.name, dataset.digest) == ("small", small_log.digest[:36])
    assert json.loads(dataset.profile) == {
        "num_sessions": 2, "num_steps": 3, "num_impressions": 5, "num_items": 3, "reward_rate": pytest.approx(0.6),
    }  # fmt: skip
    assert json.loads(dataset.source) == {"uri": "logs/small.csv"}
    assert {tag.key: tag.value for tag in stored.tags} == {"mlflow.data.context": "train"}
    assert SessionDataset(small_log, "other name", "x").digest == dataset.digest


def test_a_run_ends_as_its_work_ended(store, write):
    with pytest.raises(ZeroDivisionError), write() as failed:
        1 / 0  # noqa: B018
    with pytest.raises(KeyboardInterrupt), write() as killed:
        killed.metrics({"clone/nll": 1.0})
        raise KeyboardInterrupt
    client = MlflowClient(store.uri)
    assert client.get_run(failed.run_id).info.status == "FAILED"
    assert client.get_run(failed.run_id).data.tags["recil.error"] == "ZeroDivisionError: division by zero"
    assert client.get_run(killed.run_id).info.status == "KILLED"
    assert client.get_run(killed.run_id).data.metrics == {"clone/nll": 1.0}
    assert client.get_run(killed.run_id).data.tags["recil.state"] == "killed"


def test_runs_are_found_by_their_tags_whatever_their_number(store, experiment, write):
    for seed in range(3):
        write(tags={"recil.sweep": "s", "recil.seed": str(seed)}).close()
    left = write(tags={"recil.sweep": "s", "recil.seed": "9"})
    assert [run.tags["recil.seed"] for run in find_runs(store, experiment, {"recil.sweep": "s"})] == ["0", "1", "2"]
    assert find_runs(store, experiment, {"recil.sweep": "s", "recil.seed": "9"}) == []
    assert end_runs(store, experiment, {"recil.sweep": "s"}) == 1
    (ended,) = find_runs(store, experiment, {"recil.seed": "9"}, status=None)
    assert (ended.run_id, ended.status) == (left.run_id, "KILLED")


def test_the_run_that_mlflow_has_begun_is_adopted(store, experiment, monkeypatch):
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    assert adopted_run(store) is None
    begun = MlflowClient(store.uri).create_run(experiment)
    monkeypatch.setenv("MLFLOW_RUN_ID", begun.info.run_id)
    adopted = adopted_run(store)
    assert adopted is not None and (adopted.run_id, adopted.experiment_id) == (begun.info.run_id, experiment)
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(InputError, match=r"MLFLOW_RUN_ID: .* no run in"):
        adopted_run(store)


def test_commit_and_branch_of_a_work_tree(tmp_path):
    assert git_tags(tmp_path) == {}
    for arguments in (["init", "-q", "-b", "main"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True)
    tags = git_tags(tmp_path)
    assert len(tags["mlflow.source.git.commit"]) == 40
    assert tags["mlflow.source.git.branch"] == "main"


def test_links_open_the_training_view():
    assert runs_link(Store("sqlite:////x/mlflow.db"), "3") == (
        "http://127.0.0.1:5000/#/experiments/3/runs?workflowType=machine_learning"
    )
    assert run_link(Store("https://host:1"), "3", "r").startswith("https://host:1/#/experiments/3/runs/r?workflow")
