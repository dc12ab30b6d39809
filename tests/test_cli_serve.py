"""recil serve and served; and one story: a policy promoted, served, queried, and its served log evaluated."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from served_policies import attentive
from slot_machines import RATES, machine_log, save_choice
from store_template import MLFLOW_WARNINGS, fresh_store

from recil.cli import main
from recil.logs.read import read_log
from recil.track.model_fetch import policy_at
from recil.track.serve import ServedPolicy
from recil.track.serve_http import PolicyServer, ServeConfig
from recil.track.store import resolve_store

pytestmark = [MLFLOW_WARNINGS, pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    fresh_store(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)


@pytest.fixture
def recil(capsys):
    """Runs a command in this process: (exit code, standard output, standard error)."""

    def command(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        return ended.value.code, streams.out, streams.err

    return command


def post(address: str, bodies: list[tuple[str, dict]]) -> list[dict]:
    """The answers to requests sent one after another over one connection."""
    host, port = address.removeprefix("http://").split(":")
    connection, answers = http.client.HTTPConnection(host, int(port), timeout=30), []
    for path, body in bodies:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answers.append(json.loads(answer.read()))
        assert answer.status == 200, answers[-1]
    connection.close()
    return answers


def pull(address: str, sessions: int, steps: int) -> float:
    """People pull the machines they are shown; returns the clicks per session. Only clicks are reported."""
    dice = np.random.default_rng(11)
    people: list[dict] = [{"session_id": f"p{number}", "history": []} for number in range(sessions)]
    clicks = 0
    for step in range(steps):
        (answer,) = post(address, [("/recommend", {"sessions": people, "k": 1})])
        told = []
        for person, slate in zip(people, answer["slates"], strict=True):
            assert (slate["session_id"], slate["step"]) == (person["session_id"], step)
            click = float(dice.random() < RATES["abc".index(slate["items"][0])])
            person["history"].append({"items": slate["items"], "reward": [click]})
            if click:
                told.append(("/reward", {"session_id": person["session_id"], "step": step, "reward": [1]}))
        clicks += len(told)
        post(address, told)
    return clicks / sessions


def test_promoted_served_queried_evaluated_and_followed_by_a_better_one(recil, tmp_path):
    machine_log().save(tmp_path / "log")
    save_choice(tmp_path / "first", 0.25, 0.4, 0.35)
    shares = np.array([0.1, 0.2, 0.7])
    save_choice(tmp_path / "better", *shares)
    code, out, _ = recil("promote", "first", "--name", "shop", "--log", "log", "--replicates", 200)
    assert code == 0 and "models:/shop@champion is version 1 now" in out

    with policy_at("models:/shop@champion", resolve_store()) as folder:
        policy = ServedPolicy.load(folder)
    with PolicyServer(policy, ServeConfig(log=Path("served.csv"))) as server:
        brought = pull(server.address, sessions=700, steps=3)

    code, out, _ = recil("served", "served.csv", "models:/shop@champion", "online")
    assert code == 0 and "sessions        700" in out and "without a reported reward" in out
    log = read_log(tmp_path / "online")
    assert log.reward.sum() / log.sessions == pytest.approx(brought)
    code, out, _ = recil("evaluate", "first", "online", "--format", "json", "--replicates", 200)
    rows = {row["estimator"]: row for row in json.loads(out)}
    assert code == 0 and rows["ips"]["value"] == pytest.approx(brought, rel=1e-4)  # its own log: all weights are 1
    assert rows["ips"]["ess"] == pytest.approx(700, rel=1e-4)

    code, out, err = recil("evaluate", "better", "online", "--format", "json", "--replicates", 400)
    assert code == 0, err
    row = {row["estimator"]: row for row in json.loads(out)}["pdis"]
    truth = 3 * float(shares @ RATES)
    error = (row["high"] - row["low"]) / (2 * stats.norm.isf(0.025))
    assert abs(row["value"] - truth) < stats.norm.isf(0.5e-6) * error  # false alarm 1e-6
    assert row["low"] > 3 * float(np.array([0.25, 0.4, 0.35]) @ RATES)

    code, out, err = recil("promote", "better", "--name", "shop", "--log", "online", "--replicates", 200)
    assert code == 0 and "models:/shop@champion is version 2 now" in out
    code, out, err = recil("promote", "first", "--name", "shop", "--log", "online", "--replicates", 200)
    assert code == 1 and "was not moved: it is not clearly better than the champion" in err


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_the_command_serves_and_ends_politely(tmp_path):
    attentive(tmp_path / "policy")
    command = [sys.executable, "-m", "recil", "serve", "policy", "--port", "0", "--log", "served.csv", "--k", "2"]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert program.stdout is not None
    address = program.stdout.readline().strip()
    (answer,) = post(address, [("/recommend", {"session_id": "a", "user": {"user_kind": "low"}})])
    assert len(answer["items"]) == 2 and answer["draw"] == "sample"
    program.send_signal(signal.SIGTERM)
    out, err = program.communicate(timeout=30)
    assert (program.returncode, out) == (0, "") and "12 items), slates: sample" in err and err.endswith("ended\n")
    assert len((tmp_path / "served.csv").read_text().splitlines()) == 3


def test_what_cannot_be_served_is_said_at_once(recil, tmp_path):
    code, _, err = recil("serve", "none")
    assert code == 2 and "policy folder none: policy.json is missing" in err
    code, _, err = recil("serve", "models:/shop@champion")
    assert code == 2 and "models:/shop@champion: not found in sqlite" in err and "--tracking-uri" in err
    save_choice(tmp_path / "first", 0.25, 0.4, 0.35)
    code, _, err = recil("serve", "first", "--k", 4)
    assert code == 2 and "k: 4 -> give a whole number from 1 to 3" in err
    code, _, err = recil("served", "served.csv", "first", "online")
    assert code == 2 and "served.csv: no such file" in err and not (tmp_path / "online").exists()
    replace(machine_log(10), item_ids=np.array(["a", "b", "z"])).save(tmp_path / "log")
    code, _, err = recil("serve", "first", "--like", "log")
    assert code == 2 and "another catalogue" in err
