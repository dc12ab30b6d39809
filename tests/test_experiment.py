"""The whole line: its runs in MLflow, what is skipped and resumed, what fails, and the same table whatever happens."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from small_experiment import FILE, write_experiment
from store_template import MLFLOW_WARNINGS, fresh_store

from recil.config import load_experiment
from recil.errors import InputError
from recil.evaluate.simulate import simulated_value
from recil.experiment import learn, plan, run_experiment, walk
from recil.experiment.judge import read_judged
from recil.experiment.result import Result
from recil.sim.generate import Truth, load_settings
from recil.track.find import find_runs
from recil.track.store import Store, ensure_experiment

pytestmark = MLFLOW_WARNINGS


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch):
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setattr(plan, "code_version", lambda: "test")


@pytest.fixture
def store(tmp_path) -> Store:
    return fresh_store(tmp_path)


@pytest.fixture(scope="module")
def straight_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("straight")


@pytest.fixture(scope="module")
def straight(straight_folder) -> Result:
    """The small experiment, run once without a break for whoever compares with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        patch.setattr(plan, "code_version", lambda: "test")
        return _run(write_experiment(straight_folder), fresh_store(straight_folder))


def _run(folder, store, overrides=(), name="work", **options):
    return run_experiment(load_experiment(folder, overrides), store, folder.parent / name, **options)


def _runs(store, **tags):
    experiment_id = ensure_experiment(store, "recil-small")
    wanted = {f"recil.{name}": value for name, value in tags.items()}
    return find_runs(store, experiment_id, wanted or {"recil.version": walk.code_version()}, status=None)


def test_the_whole_line_once_and_then_nothing_again(tmp_path, store):
    file = write_experiment(tmp_path)
    steps = []
    first = _run(file, store, progress=lambda *told: steps.append(told))
    assert [(row.method, row.seeds) for row in first.rows] == [
        ("random", (1, 1)), ("logged", (1, 1)), ("scratch", (2, 2)), ("clone", (2, 2)), ("finetuned", (2, 2)),
    ]  # fmt: skip
    assert steps[-1][:2] == (len(steps), len(steps)) and first.failures == {}
    runs = _runs(store)
    names = ["clone-0", "clone-1", "finetuned-0", "finetuned-1", "logged", "random", "scratch-0", "scratch-1"]
    assert sorted(run.name for run in runs) == [*names, "summary", "users"]
    assert {run.status for run in runs} == {"FINISHED"}
    assert len({run.tags["recil.sweep"] for run in runs}) == 1
    _check_a_unit(store, next(run for run in runs if run.name == "finetuned-1"))
    _check_summary(store, next(run for run in runs if run.name == "summary"), first)

    again = []
    second = _run(file, store, progress=lambda *told: again.append(told))
    assert (str(second), again) == (str(first), [])
    assert sorted(run.run_id for run in _runs(store)) == sorted(run.run_id for run in runs)

    other = fresh_store(tmp_path, "other.db")
    third = _run(file, other)
    assert str(third) == str(first)
    copies = {run.name: run for run in _runs(other)}
    assert sorted(copies) == [*names, "summary"]
    curve = MlflowClient(other.uri).get_metric_history(copies["clone-0"].run_id, "clone/nll")
    assert len(curve) == 3


def _check_a_unit(store, run):
    client = MlflowClient(store.uri)
    assert run.tags.items() >= {"recil.method": "finetuned", "recil.seed": "1", "recil.stage": "finetune"}.items()
    assert run.params.items() >= {"method.start": "clone", "method.epochs": "2", "seed": "1"}.items()
    assert run.metrics.keys() >= {"ope/snips", "ope/snips_low", "ope/snips_high", "sim/return", "true/return"}
    assert len(client.get_metric_history(run.run_id, "finetune/ess")) > 2
    inputs = client.get_run(run.run_id).inputs.dataset_inputs
    assert {entry.tags[0].value: entry.dataset.name for entry in inputs} == {
        "train": "small-train", "evaluate": "small-test",
    }  # fmt: skip


def _check_summary(store, run, result):
    artifacts = {entry.path for entry in MlflowClient(store.uri).list_artifacts(run.run_id)}
    assert artifacts >= {"comparison.csv", "comparison.md", "values.png", "differences.csv", "experiment.toml"}
    row = next(row for row in result.rows if row.method == "clone")
    assert run.metrics["summary/clone/true"] == pytest.approx(row.true[0])
    assert "finetuned - logged" in run.tags["mlflow.note.content"]


def test_the_table_is_the_same_bytes_whatever_the_number_of_jobs(tmp_path, store, straight):
    together = _run(write_experiment(tmp_path), store, jobs=2)
    assert str(together) == str(straight)
    assert together.table().csv() == straight.table().csv()
    assert together.gains_table().csv() == straight.gains_table().csv()


def test_an_interrupted_run_is_marked_and_goes_on_where_it_stopped(tmp_path, store, monkeypatch, straight):
    file = write_experiment(tmp_path)
    reporter = learn._reporter

    def impatient(writer):
        inner = reporter(writer)

        def on_metrics(step, metrics):
            inner(step, metrics)
            if writer.name == "clone-1" and "clone/nll" in metrics and step > 2:
                raise KeyboardInterrupt

        return on_metrics

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(learn, "_reporter", impatient)
        _run(file, store)
    (stopped,) = _runs(store, method="clone", seed="1")
    assert (stopped.status, stopped.tags["recil.state"]) == ("KILLED", "killed")
    assert not [run for run in _runs(store) if run.status == "RUNNING"]
    made = []
    result = _run(file, store, progress=lambda done, total, what: made.append(what))
    assert "made clone-0" not in made and "made clone-1" in made
    assert str(result) == str(straight)
    (gone_on,) = _runs(store, method="clone", seed="1")
    assert (gone_on.run_id, gone_on.status) == (stopped.run_id, "FINISHED")


def test_training_goes_on_from_its_checkpoint(tmp_path, store, monkeypatch):
    file = write_experiment(tmp_path)
    epochs = []
    reporter = learn._reporter

    def counting(writer):
        inner = reporter(writer)

        def on_metrics(step, metrics):
            if "clone/nll" in metrics:
                epochs.append((writer.name, step))
                if len(epochs) == 3:
                    raise KeyboardInterrupt
            inner(step, metrics)

        return on_metrics

    monkeypatch.setattr(learn, "_reporter", counting)
    with pytest.raises(KeyboardInterrupt):
        _run(file, store, ["seeds=[0]"])
    before = len(epochs)
    _run(file, store, ["seeds=[0]"])
    assert before == 3
    assert len(epochs) == 4  # the third epoch alone was trained again


def test_a_unit_that_fails_is_named_and_the_others_are_kept(tmp_path, store, monkeypatch):
    file = write_experiment(tmp_path)
    make = learn.MAKERS["clone"]

    def fragile(making):
        if making.seed == 1:
            raise ZeroDivisionError("by nothing")
        return make(making)

    monkeypatch.setitem(learn.MAKERS, "clone", fragile)
    result = _run(file, store)
    assert {label: failure.message for label, failure in result.failures.items()} == {
        "clone-1": "ZeroDivisionError: by nothing"
    }
    assert {row.method: row.seeds for row in result.rows}["finetuned"] == (1, 2)
    assert "1 of 2" in str(result)
    (failed,) = _runs(store, method="clone", seed="1")
    assert failed.status == "FAILED"
    monkeypatch.setitem(learn.MAKERS, "clone", make)
    assert _run(file, store).failures == {}


def test_a_log_without_propensities_and_without_a_known_world(tmp_path, store):
    text = FILE.replace('[truth]\nsettings = "settings.toml"\n', "")
    file = write_experiment(tmp_path, text, propensities=False)
    result = _run(file, store, ["seeds=[0]"])
    rows = {row.method: row for row in result.rows}
    assert all(row.true is None for row in result.rows)
    assert rows["logged"].simulated is None and rows["logged"].ope is not None
    assert not any("fitted model" in reason for reason in rows["logged"].reasons)
    assert rows["clone"].verdict != "trust"
    assert any("fitted model" in reason for reason in rows["clone"].reasons)
    folders = list((tmp_path / "work" / "small" / "policies").iterdir())
    made = [json.loads((folder / "policy" / "policy.json").read_text())["kind"] for folder in folders]
    assert made.count("softmax") == 4  # clone, finetuned, scratch, and the clone that stands for the logging policy


def test_without_users_nothing_is_simulated(tmp_path, store):
    text = FILE[: FILE.index("[truth]")] + '[[methods]]\nname = "random"\nkind = "uniform"\n'
    result = _run(write_experiment(tmp_path, text), store)
    (row,) = result.rows
    assert (row.true, row.simulated, result.world) == (None, None, None)
    assert row.ope is not None or row.verdict == "refuse"
    assert sorted(run.name for run in _runs(store)) == ["random", "summary"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluate.estimators=['ipss']", "estimators: .*ipss.* choose among"),
        ("log.path=nowhere", "nowhere: there is no such file or folder"),
        ("log.split.by=time", "split: the log has no timestamp"),
        ("truth.settings=other.toml", r"other\.toml: its world has 7 items"),
    ],
)
def test_what_cannot_be_run_is_refused_before_any_work(tmp_path, store, override, message):
    file = write_experiment(tmp_path)
    (tmp_path / "other.toml").write_text("items = 7")
    with pytest.raises(InputError, match=message):
        _run(file, store, [override])
    assert not (tmp_path / "work").exists()


def test_a_store_that_cannot_be_written_stops_everything_beforehand(tmp_path):
    file = write_experiment(tmp_path)
    (tmp_path / "plain").touch()
    path = tmp_path / "plain" / "mlflow.db"
    with pytest.raises(InputError, match="the store cannot be written"):
        _run(file, Store(f"sqlite:///{path}", path))
    assert not (tmp_path / "work").exists()


def test_the_run_that_mlflow_has_begun_becomes_the_summary(tmp_path, store, monkeypatch):
    text = FILE[: FILE.index("[truth]")] + '[[methods]]\nname = "random"\nkind = "uniform"\n'
    experiment_id = ensure_experiment(store, "of-mlflow-run")
    begun = MlflowClient(store.uri).create_run(experiment_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", begun.info.run_id)
    _run(write_experiment(tmp_path, text), store)
    runs = MlflowClient(store.uri).search_runs([experiment_id])
    assert len(runs) == 2
    adopted = MlflowClient(store.uri).get_run(begun.info.run_id)
    assert adopted.info.status == "FINISHED"
    assert adopted.data.tags["recil.stage"] == "summary"


def test_keys_change_with_everything_behind_a_unit_and_with_nothing_else(tmp_path):
    file = write_experiment(tmp_path)

    def keys(*overrides, digest="train", test="test", truth="truth"):
        found = plan.plan_of(load_experiment(file, overrides), digest, test, truth, True, {})
        return {unit.label: (unit.policy_key, unit.key) for unit in found.table}

    base = keys()

    def changed(*overrides, **options):
        other = keys(*overrides, **options)
        made = {label for label in base if other[label][0] != base[label][0]}
        judged = {label for label in base if other[label][1] != base[label][1]}
        return made, judged

    everything = set(base)
    assert changed() == (set(), set())
    assert changed("methods.finetuned.cap=3") == ({"finetuned-0", "finetuned-1"},) * 2
    made, _ = changed("methods.clone.epochs=9")
    assert made == {"clone-0", "clone-1", "finetuned-0", "finetuned-1", "scratch-0", "scratch-1"}
    assert changed("users.types=3") == ({"scratch-0", "scratch-1"}, everything)
    assert changed("evaluate.gamma=0.9") == (set(), everything)
    assert changed(truth="other") == (set(), everything)
    assert changed(test="other") == (set(), everything)
    assert changed(digest="other")[0] == everything
    assert keys("seeds=[0,1,2]")["clone-0"] == base["clone-0"]


def test_units_wait_for_what_they_begin_from(tmp_path):
    experiment = load_experiment(write_experiment(tmp_path), ["methods.finetuned.source=world"])
    found = plan.plan_of(experiment, "a", "b", None, False, {})
    assert [[unit.method for unit in wave] for wave in found.waves(experiment)] == [
        ["behaviour", "random", "logged", "clone", "clone"],
        ["scratch", "scratch", "finetuned", "finetuned"],
    ]
    assert found.behaviour.seed not in experiment.seeds


def test_intervals_and_differences_are_those_of_what_was_found(straight_folder, straight):
    result, folder = straight, straight_folder / "work" / "small" / "results"
    judged = {}
    for path in folder.iterdir():
        content = read_judged(path)
        judged[content["method"], content["seed"]] = content
    finetuned = [judged["finetuned", seed]["true"][str(seed)][0] for seed in (0, 1)]
    logged = [judged["logged", None]["true"][str(seed)][0] for seed in (0, 1)]
    truth = Truth(load_settings(straight_folder / "settings.toml"))
    alone = [simulated_value(truth.logging_policy, truth.world, 200, seed).value for seed in (0, 1)]
    assert logged == alone and alone[0] != alone[1]  # each seed has its own users, the same for every policy
    difference = np.array(finetuned) - np.array(logged)
    gain = next(g for g in result.gains if (g.first, g.second, g.measure) == ("finetuned", "logged", "true"))
    half = 12.706204736 * difference.std(ddof=1) / np.sqrt(2)
    assert (gain.value, gain.low, gain.high) == pytest.approx(
        (difference.mean(), difference.mean() - half, difference.mean() + half)
    )
    row = next(row for row in result.rows if row.method == "finetuned")
    assert row.true[0] == pytest.approx(np.mean(finetuned))
    values = [judged["finetuned", seed]["ope"][row.estimator]["value"] for seed in (0, 1)]
    if row.ope is not None:
        assert row.ope[0] == pytest.approx(np.mean(values))
        assert row.ope[1] <= row.ope[0] <= row.ope[2]


def test_a_result_prints_refused_and_missing_numbers_as_dashes(tmp_path, store):
    text = FILE[: FILE.index("[truth]")] + '[[methods]]\nname = "random"\nkind = "uniform"\n'
    result = _run(write_experiment(tmp_path, text), store)
    hidden = replace(result, rows=(replace(result.rows[0], ope=None, verdict="refuse"),))
    assert str(hidden).splitlines()[1].split()[0] == "random"
    assert "refuse" in str(hidden).splitlines()[1]
    assert max(map(len, str(hidden).splitlines())) <= 80
    frame = hidden.to_frame()
    assert frame.loc[0, "ope"] is None or np.isnan(frame.loc[0, "ope"])
    assert hidden.plot().axes
