"""A server that goes away: the job goes on, and what it missed reaches it later, once and in order."""

from __future__ import annotations

import json
import time

import pytest
from mlflow_double import MlflowDouble
from store_template import MLFLOW_WARNINGS

from recil.track import outbox
from recil.track.lock import file_lock
from recil.track.outbox import Sent, send_spooled
from recil.track.run import RunWriter
from recil.track.store import Store

pytestmark = MLFLOW_WARNINGS


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    for name, value in {"MAX_RETRIES": "0", "TIMEOUT": "3", "BACKOFF_JITTER": "0"}.items():
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", value)
    monkeypatch.setattr(outbox, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(outbox, "LONGEST_PAUSE", 0.02)


@pytest.fixture
def double(tmp_path):
    server = MlflowDouble(tmp_path / "artifacts")
    yield server
    server.stop()


def _begin(uri, tmp_path, **options) -> RunWriter:
    return RunWriter(Store(uri), "1", "clone", tmp_path / "spool", **options)


def test_a_server_that_goes_away_and_comes_back_has_everything_once(double, tmp_path, small_log, capsys):
    with _begin(double.uri, tmp_path, flush_seconds=0.0) as run:
        run.params({"clone": {"lr": 0.1}})
        run.metrics({"clone/nll": 5.0}, 0)
        double.away = True
        for step in range(1, 6):
            run.metrics({"clone/nll": 5.0 - step}, step)
        run.text("written while away", "notes/note.md")
        folder = tmp_path / "policy"
        folder.mkdir()
        (folder / "weights").write_text("1 2 3")
        run.file(folder, "saved")
        (folder / "weights").unlink()  # what was there when it was logged is what is sent
        run.dataset(small_log, "small", "train", "small.csv")
        assert run.waiting
        assert double.runs[run.run_id]["metrics"] == [("clone/nll", 5.0, 0)]
        double.away = False
        time.sleep(0.03)
        run.metrics({"clone/nll": -1.0}, 6)
        assert not run.waiting
    stored = double.runs[run.run_id]
    assert stored["metrics"] == [("clone/nll", 5.0 - step, step) for step in range(6)] + [("clone/nll", -1.0, 6)]
    assert (stored["status"], stored["params"]) == ("FINISHED", {"clone.lr": "0.1"})
    assert stored["datasets"] == [small_log.digest[:36]]
    assert (tmp_path / "artifacts" / run.run_id / "notes" / "note.md").read_text() == "written while away"
    assert (tmp_path / "artifacts" / run.run_id / "saved" / "policy" / "weights").read_text() == "1 2 3"
    assert len(double.runs) == 1
    assert capsys.readouterr().out == ""  # standard output is for data
    assert not list((tmp_path / "spool").iterdir())


def test_a_run_that_never_saw_its_server_is_created_by_the_next_one(tmp_path, caplog):
    double = MlflowDouble(tmp_path / "artifacts")
    port = int(double.uri.rpartition(":")[2])
    double.stop()
    with _begin(double.uri, tmp_path, tags={"recil.seed": "3"}) as run:
        for step in range(1500):
            run.metrics({"clone/nll": float(step)}, step)
        run.text("early", "note.md")
    assert run.run_id is None
    assert "is away" in caplog.text and "waits in" in caplog.text
    assert send_spooled(tmp_path / "spool") == Sent(runs=0, waiting=1)
    double = MlflowDouble(tmp_path / "artifacts", port)
    try:
        assert send_spooled(tmp_path / "spool") == Sent(runs=1)
        assert send_spooled(tmp_path / "spool") == Sent()
    finally:
        double.stop()
    ((key, stored),) = double.runs.items()
    assert stored["metrics"] == [("clone/nll", float(step), step) for step in range(1500)]
    assert (stored["status"], stored["tags"]["recil.seed"]) == ("FINISHED", "3")
    assert (tmp_path / "artifacts" / key / "note.md").read_text() == "early"


def test_sending_that_breaks_off_in_the_middle_goes_on_where_it_stopped(double, tmp_path):
    double.away = True
    with _begin(double.uri, tmp_path, flush_seconds=0.0) as run:
        for step in range(6):
            run.metrics({"clone/nll": float(step)}, step)
    double.away = False
    reply, left = double.reply, [5]

    def broken(*call):
        left[0] -= 1
        return reply(*call) if left[0] > 0 else (503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": ""})

    double.reply = broken
    assert send_spooled(tmp_path / "spool").waiting == 1
    double.reply = reply
    assert send_spooled(tmp_path / "spool").runs == 1
    ((_, stored),) = double.runs.items()
    assert stored["metrics"] == [("clone/nll", float(step), step) for step in range(6)]
    assert stored["status"] == "FINISHED"


def test_what_the_server_refuses_is_set_aside_and_the_job_goes_on(double, tmp_path, caplog):
    double.refuse_metrics = True
    with _begin(double.uri, tmp_path) as run:
        run.metrics({"clone/nll": 1.0})
    assert run.refused == 1
    assert double.runs[run.run_id]["status"] == "FINISHED"
    (kept,) = (tmp_path / "spool").rglob("refused.jsonl")
    assert json.loads(kept.read_text())["entry"]["batch"]["metrics"][0][0] == "clone/nll"
    assert "no such metric here" in caplog.text


def test_a_torn_line_and_a_run_in_use_elsewhere(double, tmp_path, caplog):
    double.away = True
    with _begin(double.uri, tmp_path) as run:
        run.metrics({"clone/nll": 1.0})
    double.away = False
    (lines,) = (tmp_path / "spool").rglob("entries.jsonl")
    with lines.open("a") as file:
        file.write('{"batch": {"metrics": [["clone/n')
    with file_lock(lines.parent.with_suffix(".lock")):
        assert send_spooled(tmp_path / "spool") == Sent(waiting=1)
    assert send_spooled(tmp_path / "spool") == Sent(runs=1)
    assert "is torn" in caplog.text
    assert [run["metrics"] for run in double.runs.values()] == [[("clone/nll", 1.0, 0)]]


def test_calls_are_not_made_within_the_pause(double, tmp_path, monkeypatch):
    monkeypatch.setattr(outbox, "FIRST_PAUSE", 60.0)
    monkeypatch.setattr(outbox, "LONGEST_PAUSE", 60.0)
    tried = []
    reply = double.reply
    double.reply = lambda *call: tried.append(call[0]) or reply(*call)
    double.away = True
    run = _begin(double.uri, tmp_path, flush_seconds=0.0)
    for step in range(20):
        run.metrics({"clone/nll": 0.0}, step)
    assert len(tried) == 1
    double.away = False
    run.close()
    assert [len(run["metrics"]) for run in double.runs.values()] == [20]
