"""Many processes write to one store at once: nothing is refused, nothing is lost, nothing is doubled."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_double import MlflowDouble
from store_template import MLFLOW_WARNINGS

from recil.track import outbox
from recil.track.outbox import send_spooled
from recil.track.run import RunWriter
from recil.track.store import Store, ensure_experiment, prepare_store, resolve_store

pytestmark = MLFLOW_WARNINGS
STEPS = 150


def write(uri: str, experiment: str, spool: Path, seed: int, barrier, answers, key: str | None = None) -> None:
    """One process's run: as many calls to the store as a run makes, in as short a time as there is."""
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    outbox.FIRST_PAUSE, outbox.LONGEST_PAUSE = 0.05, 0.1
    store = Store(uri, Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite") else None)
    try:
        barrier.wait(120)
        with RunWriter(store, experiment, f"clone-{seed}", spool, {"recil.seed": str(seed)}, key=key) as run:
            run.params({"seed": seed})
            for step in range(STEPS):
                run.metrics({"clone/nll": seed + 1.0 / (step + 1)}, step)
                if step % 30 == 29:
                    run.flush()
                    time.sleep(0.02)
            run.text(f"seed {seed}\n", "note.md")
        answers.put((seed, run.refused))
    except BaseException as error:
        answers.put((seed, repr(error)))


def together(count: int, uri: str, experiment: str, spool: Path, key: str | None = None, meanwhile=None) -> None:
    """Runs `write` in so many processes at once and waits for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recil.track.run", "mlflow.store.tracking.sqlalchemy_store"])
    barrier, answers = context.Barrier(count + (meanwhile is not None)), context.Queue()
    asked = [(uri, experiment, spool, seed, barrier, answers, key) for seed in range(count)]
    workers = [context.Process(target=write, args=arguments) for arguments in asked]
    for worker in workers:
        worker.start()
    if meanwhile is not None:
        barrier.wait(120)
        meanwhile()
    ended = [answers.get(timeout=180) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert sorted(ended) == [(seed, 0) for seed in range(count)], ended


def test_eight_processes_lose_nothing_in_one_sqlite_store(store, tmp_path):
    experiment = ensure_experiment(store, "recil-together")
    together(8, store.uri, experiment, tmp_path / "spool")
    assert send_spooled(tmp_path / "spool").waiting == 0
    client = MlflowClient(store.uri)
    runs = client.search_runs([experiment])
    assert sorted(run.data.tags["recil.seed"] for run in runs) == [str(seed) for seed in range(8)]
    for run in runs:
        seed = int(run.data.tags["recil.seed"])
        assert run.info.status == "FINISHED" and run.data.params == {"seed": str(seed)}
        curve = client.get_metric_history(run.info.run_id, "clone/nll")
        assert [(p.step, p.value) for p in curve] == [(step, seed + 1.0 / (step + 1)) for step in range(STEPS)]
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["note.md"]


@pytest.fixture
def double(tmp_path):
    server = MlflowDouble(tmp_path / "artifacts")
    yield server
    server.stop()


def check_double(double: MlflowDouble, count: int) -> None:
    assert len(double.runs) == count
    for run in double.runs.values():
        seed = int(run["tags"]["recil.seed"])
        assert run["status"] == "FINISHED" and run["params"] == {"seed": str(seed)}
        # What was sent again because the answer was lost is the same point: MLflow keeps one of them.
        assert sorted(set(run["metrics"]), key=lambda point: point[2]) == [
            ("clone/nll", seed + 1.0 / (step + 1), step) for step in range(STEPS)
        ]


def test_eight_processes_lose_nothing_at_one_server(double, tmp_path):
    together(8, double.uri, "1", tmp_path / "spool")
    check_double(double, 8)


def test_a_server_that_is_killed_and_started_again_meanwhile_ends_up_with_complete_runs(double, tmp_path):
    """Killed: connections are refused, not answered with a code. What it had written is still there afterwards."""
    port, kept = int(double.uri.rpartition(":")[2]), double.runs
    again: list[MlflowDouble] = []

    def restart() -> None:
        while not any(run["metrics"] for run in list(kept.values())):
            time.sleep(0.005)
        double.stop()
        time.sleep(0.3)
        again.append(MlflowDouble(tmp_path / "artifacts", port))
        again[0].runs = kept

    try:
        together(4, double.uri, "1", tmp_path / "spool", meanwhile=restart)
        send_spooled(tmp_path / "spool")
        check_double(again[0], 4)
    finally:
        for server in again:
            server.stop()
        double._server.socket.close()


@pytest.mark.slow
def test_eight_processes_at_a_real_server_that_is_killed_and_started_again(tmp_path):
    import socket
    import subprocess

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    prepare_store(resolve_store(folder=tmp_path))
    place = Store(f"http://127.0.0.1:{port}")

    def serve() -> subprocess.Popen:
        options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        address = ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db", "--serve-artifacts"]
        address += ["--artifacts-destination", str(tmp_path / "artifacts")]
        command = [sys.executable, "-m", "mlflow", "server", *address, *options]
        quiet = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        return subprocess.Popen(
            command, env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    servers = [serve()]

    def restart() -> None:
        time.sleep(0.5)
        _kill(servers[0])
        servers.append(serve())

    try:
        _until_there(port)
        experiment = ensure_experiment(place, "recil-together")
        together(8, place.uri, experiment, tmp_path / "spool", meanwhile=restart)
        _until_there(port)
        assert send_spooled(tmp_path / "spool").waiting == 0
        client = MlflowClient(place.uri)
        runs = client.search_runs([experiment])
        assert sorted(run.data.tags["recil.seed"] for run in runs) == [str(seed) for seed in range(8)]
        for run in runs:
            curve = client.get_metric_history(run.info.run_id, "clone/nll")
            assert sorted(point.step for point in curve) == list(range(STEPS))
            assert run.info.status == "FINISHED"
    finally:
        _kill(servers[-1])


def _kill(server) -> None:
    """The server with its workers, at once: they are a session of their own."""
    import signal

    os.killpg(server.pid, signal.SIGKILL)
    server.wait(30)


def _until_there(port: int) -> None:
    import urllib.request

    for _ in range(400):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError("the server did not start")
