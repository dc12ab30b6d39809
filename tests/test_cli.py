"""The command line: answers on standard output, all else on standard error, exit codes, one line for what is wrong."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from small_experiment import FILE, write_experiment
from store_template import MLFLOW_WARNINGS, fresh_store

from recil.cli import main
from recil.cli.progress import ProgressBar, progress_line
from recil.experiment import plan
from recil.logs.read import read_log

pytestmark = MLFLOW_WARNINGS
SHORT = FILE[: FILE.index("[truth]")] + '[[methods]]\nname = "random"\nkind = "uniform"\n'


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder of one's own with a store, as the working folder."""
    fresh_store(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setattr(plan, "code_version", lambda: "test")


@pytest.fixture
def recil(capsys):
    """Runs a command in this process: (exit code, standard output, standard error)."""

    def command(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        return ended.value.code, streams.out, streams.err

    return command


@pytest.fixture
def policy(recil, tmp_path):
    """The folder of a saved policy and that of the log it can be judged by."""
    write_experiment(tmp_path, SHORT)
    assert recil("run", "experiment.toml", "--jobs", 1)[0] == 0
    (folder,) = (tmp_path / ".recil" / "small" / "policies").glob("*/policy")
    return folder, tmp_path / "log"


def test_help_is_quick_and_loads_neither_torch_nor_mlflow():
    program = "import sys, recil.cli; print(sorted({'torch', 'mlflow', 'pandas', 'pydantic'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        shown = subprocess.run([sys.executable, "-m", "recil", "--help"], capture_output=True, text=True)
        seconds.append(time.perf_counter() - started)
    assert all(name in shown.stdout for name in ("demo", "run", "log", "evaluate", "simulate", "compare", "ui"))
    bare = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    assert min(seconds) < 0.3 + (time.perf_counter() - bare)


def test_an_experiment_prints_its_table_and_says_where_mlflow_has_it(recil, tmp_path):
    write_experiment(tmp_path, SHORT)
    code, out, err = recil("run", "experiment.toml", "--jobs", 1)
    assert code == 0
    assert out.splitlines()[0].split()[0] == "method" and out.splitlines()[1].startswith("random")
    assert "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning" in err
    assert "recil ui" in err
    code, out, _ = recil("run", "experiment.toml", "--jobs", 1, "--format", "json")
    (row,) = json.loads(out)
    assert (code, row["method"], row["seeds"], row["true"]) == (0, "random", 1, None)
    code, out, _ = recil("run", "experiment.toml", "--jobs", 1, "--format", "csv")
    assert [line["method"] for line in csv.DictReader(io.StringIO(out))] == ["random"]
    runs = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
    assert len(runs) == 2  # the second and third time found the first


def test_overrides_and_another_store(recil, tmp_path):
    write_experiment(tmp_path, SHORT)
    (tmp_path / "elsewhere").mkdir()
    other = fresh_store(tmp_path / "elsewhere")
    code, *_ = recil(
        "run", "experiment.toml", "--set", "name=renamed", "--set", "methods.random.name=dice", "--jobs", 1,
        "--tracking-uri", other.uri, "--work", tmp_path / "kept",
    )  # fmt: skip
    assert code == 0
    assert MlflowClient(other.uri).get_experiment_by_name("recil-renamed") is not None
    assert (tmp_path / "kept" / "renamed").is_dir() and not (tmp_path / ".recil").exists()


def test_mistakes_are_one_line_with_code_2_and_a_traceback_only_on_demand(recil, tmp_path):
    write_experiment(tmp_path, SHORT.replace("seeds =", "seds ="))
    code, out, err = recil("run", "experiment.toml")
    assert (code, out) == (2, "")
    assert err == "recil: experiment.toml: seds: unknown key -> did you mean 'seeds'?\n"
    code, _, err = recil("run", "experiment.toml", "--debug")
    assert code == 2 and "Traceback" in err
    assert recil("rum")[0] == 2
    assert recil("run")[0] == 2
    assert recil("--help")[0] == 0


def test_what_nobody_foresaw_is_one_line_too(recil, monkeypatch, tmp_path):
    write_experiment(tmp_path, SHORT)

    def broken(*_):
        raise ZeroDivisionError("by nothing\nand more")

    monkeypatch.setattr("recil.config.load_experiment", broken)
    code, _, err = recil("run", "experiment.toml")
    assert code == 2
    assert err == "recil: ZeroDivisionError: by nothing (run again with --debug for the traceback)\n"
    assert "Traceback" in recil("run", "experiment.toml", "--debug")[2]


def test_a_part_that_fails_fails_the_command_after_the_table(recil, monkeypatch, tmp_path):
    write_experiment(tmp_path, SHORT + '[[methods]]\nname = "loved"\nkind = "popular"\n')

    def broken(_):
        raise ZeroDivisionError("by nothing")

    monkeypatch.setitem(sys.modules["recil.experiment.learn"].MAKERS, "popular", broken)
    code, out, err = recil("run", "experiment.toml", "--jobs", 1)
    assert code == 2
    assert "random" in out and "loved: failed" in out
    assert "recil: loved: ZeroDivisionError: by nothing -> the finished parts are kept; run again to go on" in err


def test_logs_are_generated_checked_imported_and_split(recil, tmp_path):
    write_experiment(tmp_path, SHORT)
    code, out, _ = recil("log", "generate", "settings.toml", "made")
    assert code == 0 and "sessions        600" in out
    assert (tmp_path / "made" / "log.parquet").read_bytes() == (tmp_path / "log" / "log.parquet").read_bytes()
    (tmp_path / "own.csv").write_text("session_id,step,item_id,click\na,0,x,1\na,1,y,0\nb,0,x,0\n")
    code, out, _ = recil("log", "check", "own.csv", "--format", "json")
    assert code == 0 and {row["what"]: row["value"] for row in json.loads(out)}["sessions"] == "2"
    assert recil("log", "import", "own.csv", "kept")[0] == 0
    assert recil("log", "check", "kept")[0] == 0
    code, out, _ = recil("log", "split", "made", "train", "test", "--by", "session", "--format", "csv")
    assert code == 0
    parts = {row["part"]: int(row["sessions"]) for row in csv.DictReader(io.StringIO(out))}
    assert parts["train"] + parts["test"] == 600 and parts["test"] > 60
    assert recil("log", "split", "made", "same", "same")[0] == 2


def test_a_split_keeps_users_whole_or_says_how_many_it_divides(recil, tmp_path):
    rows = [f"{session},0,x,1,{session // 4},{session}" for session in range(80)]
    (tmp_path / "own.csv").write_text("\n".join(["session_id,step,item_id,click,user_id,timestamp", *rows]) + "\n")

    def divided(*options):
        code, out, err = recil("log", "split", "own.csv", "train", "test", *options)
        assert (code, err) == (0, "")
        sides = [set(read_log(side).user_ids) for side in ("train", "test")]
        return len(set.intersection(*sides)), out

    for options in (("--by", "session"), ("--by", "user")):
        both, out = divided(*options)
        assert both == 0 and "users" not in out
    for options in (("--by", "session", "--cluster", "session"), ("--by", "time", "--at", "42")):
        both, out = divided(*options)
        assert both > 0 and f"users on both sides of the split: {both}\n" in out
    code, out, _ = recil("log", "check", "train")
    assert code == 0 and f"users on both sides of the split: {both}" in out


def test_a_saved_policy_is_evaluated_and_a_gate_can_fail(recil, policy, tmp_path):
    folder, log = policy
    code, out, _ = recil("evaluate", folder, log, "--replicates", 50, "--estimators", "logged,snips")
    assert code == 0 and "snips" in out and "logged" in out
    code, out, _ = recil("evaluate", folder, log, "--replicates", 50, "--format", "json")
    assert {row["estimator"] for row in json.loads(out)} >= {"ips", "snips", "pdis", "pdwis", "dr"}
    code, out, err = recil("evaluate", folder, log, "--replicates", 50, "--estimators", "ips", "--require", "trust")
    assert code == 1 and "ips" in out and "trust was required" in err
    assert recil("evaluate", folder, log, "--estimators", "no_such")[0] == 2
    assert recil("evaluate", tmp_path / "none", log)[0] == 2


def test_a_plan_is_made_for_a_saved_policy(recil, policy, tmp_path):
    folder, log = policy
    short = ("--replicates", 20, "--explore", 0.1, "--explore", 0.3, "--sessions", 5000)
    code, out, _ = recil("plan", log, folder, *short)
    assert code == 0 and "5,000" in out and "10%" in out and "Today:" in out
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = recil("plan", log, folder, *short, "--format", "json", "--estimator", "snips")
    assert code == 0
    rows = json.loads(out)
    assert [(row["sessions"], row["explore"]) for row in rows] == [(5000, 0.1), (5000, 0.3)]
    assert 0 < rows[1]["half_width"] < rows[0]["half_width"]
    code, wider, _ = recil(
        "plan", log, folder, *short, "--format", "csv", "--estimator", "snips", "--reward-range", -9, 9
    )
    assert code == 0
    assert float(next(csv.DictReader(io.StringIO(wider)))["half_width"]) > rows[0]["half_width"]
    code, out, err = recil("plan", log, folder, "--explore", 1)
    assert (code, out) == (2, "") and "shares from 0 to below 1" in err
    assert recil("plan", log, folder, "--estimator", "fqe")[0] == 2
    assert recil("plan", tmp_path / "none", folder)[0] == 2


def test_a_saved_policy_is_simulated_and_its_log_kept(recil, policy, tmp_path):
    folder, _ = policy
    truth = tmp_path / "settings.toml"
    code, out, err = recil(
        "simulate", folder, "--truth", truth, "--sessions", 100, "--out", "sim", "--track", "small", "--format", "json"
    )
    assert code == 0
    (row,) = json.loads(out)
    assert row["low"] < row["value"] < row["high"]
    assert recil("log", "check", "sim")[0] == 0
    assert "/runs/" in err
    runs = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"], "tags.`recil.stage` = 'simulate'")
    assert [run.data.metrics["sim/return"] for run in runs] == [pytest.approx(row["value"])]
    assert recil("simulate", folder)[0] == 2


def test_policies_are_compared_on_one_log_and_in_one_world(recil, policy, tmp_path):
    folder, log = policy
    code, out, _ = recil("compare", f"a={folder}", f"b={folder}", "--log", log, "--replicates", 50)
    assert code == 0 and "a" in out and "logged" in out
    code, out, _ = recil(
        "compare",
        f"a={folder}",
        f"b={folder}",
        "--truth",
        tmp_path / "settings.toml",
        "--sessions",
        50,
        "--format",
        "csv",
    )
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0 and [row["rank"] for row in rows] == ["1", "1"]
    assert "two policies are named" in recil("compare", f"a={folder}", f"a={folder}", "--log", log)[2]
    assert recil("compare", folder)[0] == 2


def test_progress_is_silent_in_a_pipe_and_fits_a_terminal(capsys, monkeypatch):
    with ProgressBar() as progress:
        progress(1, 2, "made clone-0")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ProgressBar() as progress:
        progress(1, 2, "made clone-0")
    assert "1/2 made clone-0" in capsys.readouterr().err
    line = progress_line(3, 12, "made " + "x" * 100, 90.0)
    assert len(line) <= 80
    assert progress_line(3, 12, "made x", 90.0) == "[######..................] 3/12 made x, 2.0/min, 4 min 30 s left"


def test_a_port_in_use_is_refused_before_the_server_starts(recil):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = recil("ui", "--port", taken.getsockname()[1])
    assert code == 2 and "choose another --port" in err


def test_the_demo_is_found_or_said_to_be_missing(recil, monkeypatch, tmp_path):
    from recil.cli import experiments

    write_experiment(tmp_path, SHORT)
    monkeypatch.setattr(experiments, "demo_file", lambda: tmp_path / "experiment.toml")
    code, out, _ = recil("demo", "--jobs", 1)
    assert code == 0 and "random" in out


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_an_interrupt_ends_with_130_and_marks_the_runs(tmp_path):
    write_experiment(tmp_path, FILE.replace("epochs = 2\n[world]", "epochs = 200\npatience = 200\n[world]"))
    program = subprocess.Popen(
        [sys.executable, "-m", "recil", "run", "experiment.toml", "--jobs", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    client, deadline = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db"), time.monotonic() + 120
    while not _begun(client) and time.monotonic() < deadline:
        time.sleep(0.2)
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert (program.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "interrupted; the same command goes on from here"
    assert "Traceback" not in err
    assert {run.info.status for run in _begun(client)} == {"KILLED"}


def _begun(client):
    experiment = client.get_experiment_by_name("recil-small")
    return [] if experiment is None else list(client.search_runs([experiment.experiment_id]))


def test_the_module_and_the_script_are_one(tmp_path):
    script = Path(sys.executable).with_name("recil")
    if not script.exists():
        pytest.skip("not installed as a script")
    answers = [
        subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
        for command in ([str(script)], [sys.executable, "-m", "recil"])
    ]
    assert answers[0] == answers[1]
