"""The store: where it is, made once however many begin, refused with a remedy when it is broken."""

from __future__ import annotations

import multiprocessing
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from store_template import MLFLOW_WARNINGS

from recil.errors import InputError
from recil.track.store import Store, ensure_experiment, prepare_store, resolve_store

pytestmark = MLFLOW_WARNINGS


def test_store_given_beats_environment_beats_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve_store() == Store(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere:5000/")
    assert resolve_store() == Store("http://somewhere:5000")
    assert resolve_store("sqlite:///sub/mine.db").path == tmp_path / "sub" / "mine.db"
    assert not list(tmp_path.iterdir())  # nothing is created by asking


@pytest.mark.parametrize("address", ["file:./mlruns", "./mlruns", "sqlite:///:memory:", "sqlite://", "mlflow.db"])
def test_addresses_mlflow_3_cannot_use_are_refused_with_one_that_works(address, tmp_path):
    with pytest.raises(InputError, match=r"--tracking-uri: .*give sqlite:///.*mlflow\.db"):
        resolve_store(address, tmp_path)


def test_a_missing_store_is_made_whole_with_artifacts_beside_it(tmp_path, monkeypatch):
    folder = tmp_path / "a folder #1"
    store = resolve_store(folder=folder)
    prepare_store(store)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    experiment = MlflowClient(store.uri).get_experiment(ensure_experiment(store, "recil-demo"))
    run = MlflowClient(store.uri).create_run(experiment.experiment_id)
    MlflowClient(store.uri).log_text(run.info.run_id, "kept", "note.md")
    (kept,) = (folder / "mlartifacts" / "recil-demo").rglob("note.md")
    assert kept.read_text() == "kept"
    assert sorted(path.name for path in folder.iterdir()) == ["mlartifacts", "mlflow.db"]
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("moment", ["mlflow.store.db.utils._initialize_tables", "pathlib.Path.replace"])
def test_a_creation_that_breaks_off_leaves_nothing(moment, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    store = resolve_store(folder=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(moment, killed)
        with pytest.raises(KeyboardInterrupt):
            prepare_store(store)
    assert not list(tmp_path.iterdir())
    prepare_store(store)


def _begin(address: str, barrier, answers) -> None:
    store = resolve_store(address)
    barrier.wait(60)
    try:
        prepare_store(store)
        experiment = ensure_experiment(store, "recil-race")
        answers.put(MlflowClient(store.uri).create_run(experiment).info.run_id)
    except BaseException as error:
        answers.put(error)


def test_processes_that_meet_a_missing_store_together_make_one_sound_store(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.store.tracking.sqlalchemy_store"])
    barrier, answers = context.Barrier(8), context.Queue()
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    workers = [context.Process(target=_begin, args=(address, barrier, answers)) for _ in range(8)]
    for worker in workers:
        worker.start()
    run_ids = [answers.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert all(isinstance(run_id, str) for run_id in run_ids), run_ids
    store = resolve_store(address)
    prepare_store(store)
    found = MlflowClient(store.uri).search_runs([ensure_experiment(store, "recil-race")])
    assert {run.info.run_id for run in found} == set(run_ids)
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def _execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)


def test_half_created_stores_are_named_with_what_to_do(store):
    remedy = rf"half created.*delete or move {store.path}"
    _execute(store.path, "CREATE TABLE _alembic_tmp_latest_metrics (x)")
    with pytest.raises(InputError, match=rf"{store.path}: .*_alembic_tmp_latest_metrics.*{remedy[12:]}"):
        prepare_store(store)
    _execute(store.path, "DROP TABLE _alembic_tmp_latest_metrics", "DELETE FROM alembic_version")
    with pytest.raises(InputError, match=remedy):
        prepare_store(store)
    _execute(store.path, "DROP TABLE alembic_version")
    with pytest.raises(InputError, match=remedy):
        prepare_store(store)


def test_a_file_that_is_no_database_is_left_alone(tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_text("this is a diary, " * 100)
    with pytest.raises(InputError, match=rf"{path}: not an MLflow store .*move it away"):
        prepare_store(resolve_store(folder=tmp_path))
    assert path.read_text().startswith("this is a diary")


def test_an_empty_file_is_a_store_not_yet_begun(tmp_path):
    (tmp_path / "mlflow.db").touch()
    store = resolve_store(folder=tmp_path)
    prepare_store(store)
    assert ensure_experiment(store, "recil-demo")


def test_a_store_of_another_version_says_how_to_bring_it_up(store):
    _execute(store.path, "UPDATE alembic_version SET version_num = '97727af70f4d'")
    with pytest.raises(InputError, match="mlflow db upgrade sqlite"):
        prepare_store(store)


def test_places_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be written \(.*--tracking-uri"):
        prepare_store(resolve_store(folder=tmp_path / "file"))
    with pytest.raises(InputError, match="this is a folder"):
        (tmp_path / "mlflow.db").mkdir()
        prepare_store(resolve_store(folder=tmp_path))

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    with pytest.raises(InputError, match=r"cannot be written \(Permission denied\)"):
        prepare_store(resolve_store(folder=tmp_path / "other"))


def test_a_server_that_does_not_answer_is_refused_before_any_work():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(InputError, match="does not answer"):
        prepare_store(resolve_store(f"http://127.0.0.1:{port}"))


def test_experiments_are_found_again_and_deleted_ones_named(store):
    first = ensure_experiment(store, "recil-demo")
    assert ensure_experiment(store, "recil-demo") == first
    MlflowClient(store.uri).delete_experiment(first)
    with pytest.raises(InputError, match=f"was deleted.*restore --experiment-id {first}"):
        ensure_experiment(store, "recil-demo")
    with pytest.raises(InputError, match="cuts names"):
        ensure_experiment(store, "recil/demo")
