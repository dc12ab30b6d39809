"""What people see: the MLflow UI that `recil ui` serves, in a real browser, on what `recil run` has left there."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_experiment import write_experiment
from store_template import MLFLOW_WARNINGS

from recil.track.find import find_runs
from recil.track.store import resolve_store

sys.path.insert(0, str(Path(__file__).parent))
from chromium import PROGRAM, Chromium

pytestmark = [
    pytest.mark.slow,
    MLFLOW_WARNINGS,
    pytest.mark.skipif(PROGRAM is None or not Path("/proc").is_dir(), reason="no Chromium here"),
]
METHODS = ("clone", "finetuned", "scratch")
RUNS = [f"{method}-{seed}" for method in METHODS for seed in (0, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which an experiment was run, as a user would; printed.txt: what it said."""
    place = tmp_path_factory.mktemp("browsed")
    write_experiment(place)
    command = [sys.executable, "-m", "recil", "run", "experiment.toml", "--jobs", "1"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
    (place / "printed.txt").write_text(done.stderr)
    return place


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Where `recil ui` serves this folder's store."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (folder / "ui.log").open("w") as log:
        command = [sys.executable, "-m", "recil", "ui", "--port", str(port)]
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True)
        assert server.stdout is not None
        said = server.stdout.readline().strip()
        base = said.partition("/#/")[0]
        assert base == f"http://127.0.0.1:{port}"
        _wait_for(base, server)
        yield base
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
        server.stdout.close()


def _wait_for(base: str, server: subprocess.Popen[str]) -> None:
    for _ in range(240):
        assert server.poll() is None, "the server has ended"
        try:
            with urllib.request.urlopen(f"{base}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.25)
    raise TimeoutError(base)


@pytest.fixture
def page() -> Iterator[Chromium]:
    with Chromium((1500, 900)) as browser:
        yield browser


def printed(folder: Path, what: str, base: str) -> str:
    """The link that `recil run` printed after this word, on the port that the test has taken."""
    (link,) = re.findall(rf"^{what}: (\S+)$", (folder / "printed.txt").read_text(), re.MULTILINE)
    return link.replace("http://127.0.0.1:5000", base)


def test_the_printed_link_opens_the_experiment_with_all_its_runs(folder, address, page, tmp_path):
    page.open(printed(folder, "MLflow", address))
    text = page.wait_for("recil-small", "summary", "users", "random", "logged", *RUNS)
    assert "10 matching runs" in text
    assert "Model training" in text and "Traces" in text and "Prompts" not in text
    _keep(page, "runs.png", tmp_path)


def test_the_charts_put_the_methods_side_by_side(folder, address, page, tmp_path):
    page.resize(1500, 2000)  # charts are drawn when they come into sight
    page.open(printed(folder, "charts", address))
    text = page.wait_for("What policies are worth", "true/return", "sim/return", "Learning", "clone/held_out_nll")
    assert "Group by: recil.method" in text
    shown = text[text.index("What policies are worth") :]
    bars = shown[shown.index("true/return") : shown.index("sim/return")]
    assert all(method in bars for method in METHODS), bars
    lines = _until(page, "document.querySelectorAll('.scatterlayer .trace path.js-line').length >= 3")
    assert lines, "curves of what learns, averaged over seeds"
    page.resize(1500, 900)
    _keep(page, "charts.png", tmp_path)


def test_the_report_is_a_page_among_the_summarys_artifacts(folder, address, page, tmp_path):
    store = resolve_store(folder=folder)
    (summary,) = find_runs(store, "1", {"recil.stage": "summary"})
    base = f"{address}/#/experiments/1/runs/{summary.run_id}/artifacts"
    page.open(f"{base}/report.html?workflowType=machine_learning")
    text = page.wait_for("report.html", "What to conclude", "How to reproduce it")
    assert all(method in text for method in METHODS)
    _keep(page, "report.png", tmp_path)


def test_a_trained_policy_lies_among_its_runs_artifacts(folder, address, page):
    (run,) = find_runs(resolve_store(folder=folder), "1", {"recil.method": "clone", "recil.seed": "1"})
    page.open(f"{address}/#/experiments/1/runs/{run.run_id}/artifacts/saved/policy/policy.json")
    assert '"catalogue_digest"' in page.wait_for("weights.safetensors", "columns.json", "catalogue_digest")


def _until(page: Chromium, holds: str) -> bool:
    """Whether this comes to hold within some seconds: charts are drawn after their captions."""
    for _ in range(80):
        if page.script(holds):
            return True
        time.sleep(0.25)
    return False


def _keep(page: Chromium, name: str, folder: Path) -> None:
    """A picture of what was tested, in the test's folder: pytest keeps the last three."""
    page.picture(folder / name)
    assert (folder / name).stat().st_size > 20_000, "an empty page"
    shutil.copyfile(folder / name, folder.parent / name)
