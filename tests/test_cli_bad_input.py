"""The table of bad input: each ends with one message naming place and remedy, code 2, and nothing half-written."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from small_experiment import FILE, write_experiment
from store_template import MLFLOW_WARNINGS, fresh_store

from recil.cli import main
from recil.experiment import plan

pytestmark = MLFLOW_WARNINGS
HEAD = "session_id,step,item_id,click,propensity\n"
GOOD = "a,0,x,1,0.5\na,1,y,0,0.5\nb,0,x,0,0.5\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setattr(plan, "code_version", lambda: "test")


@pytest.fixture
def refused(capsys):
    """The message with which a command ends, code 2."""

    def message(*arguments) -> str:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        assert ended.value.code == 2, streams
        assert streams.out == "" and "Traceback" not in streams.err
        assert streams.err.startswith("recil: ") and " -> " in streams.err
        return streams.err

    return message


TABLES = {
    "missing column": ("session_id,step,click\na,0,1\n", "item_id"),
    "wrong type": (HEAD + GOOD + "c,0,x,yes,0.5\n", "click"),
    "duplicate place": (HEAD + GOOD + "b,0,x,0,0.5\n", "b"),
    "propensity zero": (HEAD + GOOD + "c,0,x,0,0\n", "propensity"),
    "propensity above one": (HEAD + GOOD + "c,0,x,0,1.5\n", "propensity"),
    "propensity missing": (HEAD + GOOD + "c,0,x,0,\n", "propensity"),
    "reward missing": (HEAD + GOOD + "c,0,x,,0.5\n", "click"),
    "empty log": (HEAD, "own.csv"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables(case, refused, tmp_path):
    content, place = TABLES[case]
    (tmp_path / "own.csv").write_text(content)
    assert place in refused("log", "import", "own.csv", "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["own.csv"]


def test_an_item_that_is_not_in_the_items_table(refused, tmp_path):
    (tmp_path / "own.csv").write_text(HEAD + GOOD)
    (tmp_path / "items.csv").write_text("item_id\nx\n")
    assert "y" in refused("log", "import", "own.csv", "kept", "--items", "items.csv")
    assert not (tmp_path / "kept").exists()


def test_files_that_cannot_be_read(refused, tmp_path):
    write_experiment(tmp_path)
    whole = (tmp_path / "log" / "log.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    assert "cut.parquet" in refused("log", "check", "cut.parquet")
    (tmp_path / "latin.csv").write_bytes((HEAD + "caf\xe9,0,x,1,0.5\n").encode("latin-1"))
    assert "latin.csv" in refused("log", "check", "latin.csv")
    assert "nowhere" in refused("log", "check", "nowhere.csv")


def _experiment(tmp_path: Path, table: str) -> None:
    """The small experiment on a log of one's own."""
    write_experiment(tmp_path, FILE.replace('[truth]\nsettings = "settings.toml"\n', "").replace('"log"', '"own.csv"'))
    (tmp_path / "own.csv").write_text(table)
    fresh_store(tmp_path)


def test_a_log_of_one_session_cannot_be_split(refused, tmp_path):
    _experiment(tmp_path, HEAD + "a,0,x,1,0.5\na,1,y,0,0.5\n")
    assert "split" in refused("run", "experiment.toml", "--jobs", 1)
    assert not (tmp_path / ".recil").exists()


def test_a_log_without_any_click_fits_no_users(refused, tmp_path):
    _experiment(tmp_path, HEAD + "".join(f"s{i},{t},i{(i + t) % 5},0,0.2\n" for i in range(60) for t in range(2)))
    assert "no click" in refused("run", "experiment.toml", "--jobs", 1)
    assert not list((tmp_path / ".recil" / "small").glob("results/*"))


def test_an_unknown_key_of_an_experiment(refused, tmp_path):
    write_experiment(tmp_path, FILE.replace("seeds =", "seds ="))
    assert "did you mean 'seeds'?" in refused("run", "experiment.toml")
    assert not (tmp_path / ".recil").exists() and not (tmp_path / "mlflow.db").exists()


def test_a_store_that_cannot_be_written(refused, tmp_path):
    write_experiment(tmp_path)
    (tmp_path / "plain").touch()
    message = refused("run", "experiment.toml", "--tracking-uri", f"sqlite:///{tmp_path}/plain/mlflow.db")
    assert "plain/mlflow.db: the store cannot be written" in message
    assert not (tmp_path / ".recil").exists()


def test_a_half_created_store(refused, tmp_path):
    write_experiment(tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE _alembic_tmp_latest_metrics (x)")
    message = refused("run", "experiment.toml")
    assert f"{tmp_path / 'mlflow.db'}: the store was only half created" in message
    assert f"delete or move {tmp_path / 'mlflow.db'}" in message
    assert not (tmp_path / ".recil").exists()
