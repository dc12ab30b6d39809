"""recil doctor: it names what is there, changes nothing, and fails where a run would."""

from __future__ import annotations

import json
import shutil
from importlib import metadata

import pytest
from store_template import MLFLOW_WARNINGS, fresh_store

from recil.cli import main

pytestmark = MLFLOW_WARNINGS


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "CXX"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def doctor(capsys):
    """Runs the command: exit code, what -> row, standard error."""

    def command(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["doctor", "--format", "json", *map(str, arguments)])
        streams = capsys.readouterr()
        return ended.value.code, {row["what"]: row for row in json.loads(streams.out)}, streams.err

    return command


def test_everything_is_named_and_nothing_is_made(doctor, tmp_path, capsys):
    code, found, _ = doctor()
    assert code == 0 and found["torch"]["found"] == metadata.version("torch")
    assert found["store"]["found"].endswith("mlflow.db, made by the first run") and found["store"]["state"] == "fine"
    assert found["devices"]["found"].startswith("cpu") and "cores, torch uses" in found["threads"]["found"]
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit):
        main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(found) and lines[0].split() == ["recil", metadata.version("recil")]


def test_a_store_that_is_there_answers(doctor, tmp_path):
    fresh_store(tmp_path)
    before = (tmp_path / "mlflow.db").stat().st_mtime_ns
    code, found, _ = doctor()
    assert code == 0 and found["store"]["found"].endswith("answers and can be written")
    assert (tmp_path / "mlflow.db").stat().st_mtime_ns == before


def test_what_would_stop_a_run_is_a_problem_and_code_1(doctor, tmp_path, monkeypatch):
    (tmp_path / "mlflow.db").write_text("this is no database, though it is a file that one could take for one")
    code, found, err = doctor()
    assert code == 1 and found["store"]["state"] == "problem" and found["store"]["remedy"]
    assert err == "recil: what would stop a run: store\n"
    code, found, _ = doctor("--tracking-uri", "file:./mlruns")
    assert code == 1 and "no store" in found["store"]["found"] and "sqlite:///" in found["store"]["remedy"]
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, found, _ = doctor("--tracking-uri", "http://127.0.0.1:9")
    assert code == 1 and "does not answer" in found["store"]["found"]


def test_what_runs_with_less_is_a_note(doctor, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_: None)
    monkeypatch.setenv("MLFLOW_RUN_ID", "abc")
    code, found, _ = doctor()
    assert code == 0
    assert (found["compiler"]["found"], found["compiler"]["state"]) == ("none", "note")
    assert found["MLFLOW_RUN_ID"]["state"] == "note"


def test_a_missing_package_is_a_problem(doctor, monkeypatch):
    version = metadata.version

    def without(name):
        if name == "scipy":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without)
    code, found, err = doctor()
    assert code == 1 and found["scipy"]["state"] == "problem" and "scipy" in err
