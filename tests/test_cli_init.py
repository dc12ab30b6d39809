"""recil init: the file it writes is accepted as it is, says why, and runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from store_template import MLFLOW_WARNINGS, fresh_store

from recil.cli import main
from recil.config import load_experiment
from recil.experiment import plan
from recil.logs.session_log import SessionLog
from recil.sim.generate import Settings, Truth

pytestmark = MLFLOW_WARNINGS


def known_log(sessions: int = 300) -> SessionLog:
    return Truth(Settings(seed=5, sessions=sessions, horizon=4, items=10, slate_size=2, types=2, click_rate=0.1)).log()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    fresh_store(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setattr(plan, "code_version", lambda: "test")


@pytest.fixture
def recil(capsys):
    def command(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        return ended.value.code, streams.out, streams.err

    return command


def test_the_file_of_an_own_csv_runs_as_it_is(recil, tmp_path):
    log = known_log()
    log.to_frame().drop(columns="propensity").to_csv(tmp_path / "my log.csv", index=False)
    code, out, err = recil("init", "my log.csv")
    assert (code, out) == (0, "experiment.toml\n") and err == "next: recil run experiment.toml\n"
    found = load_experiment("experiment.toml")
    assert (found.name, found.log.path, found.log.split.by) == ("my-log", "my log.csv", "session")
    assert [method.name for method in found.methods] == ["random", "popular", "logged", "clone", "finetuned"]
    assert found.users is not None and found.world.horizon == int(log.lengths.max())
    assert "no propensities: a clone" in found.text and "300 sessions" in found.text
    small = ["seeds=[0]", "methods.clone.epochs=1", "methods.finetuned.epochs=1", "world.sessions=50", "users.epochs=1"]
    small += ["users.types=1", "evaluate.replicates=20"]
    code, out, _ = recil("run", "experiment.toml", "--jobs", 1, *(part for key in small for part in ("--set", key)))
    assert code == 0 and [line.split()[0] for line in out.splitlines()[1:6]] == [m.name for m in found.methods]


def test_choices_follow_the_log(recil, tmp_path):
    log = known_log(40)
    replace(log, reward_name="liked", timestamp=np.arange(log.steps)).save(tmp_path / "shop.v2")
    code, out, _ = recil("init", "shop.v2", "--out", "other.toml", "--reward", "liked", "--name", "mine")
    assert code == 0 and out == "other.toml\n"
    found = load_experiment("other.toml")
    assert (found.name, found.log.reward, found.log.split.by) == ("mine", "liked", "time")
    assert "used as they are" in found.text
    replace(log, reward=np.zeros_like(log.reward)).save(tmp_path / "silent")
    assert recil("init", "silent", "--out", "silent.toml")[0] == 0
    found = load_experiment("silent.toml")
    assert found.users is None and [method.kind for method in found.methods] == [
        "uniform",
        "popular",
        "logged",
        "clone",
    ]


def test_a_log_elsewhere_is_named_in_full(recil, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "here").mkdir()
    known_log(20).save(tmp_path / "data" / "log")
    assert recil("init", "data/log", "--out", "here/experiment.toml")[0] == 0
    found = load_experiment("here/experiment.toml")
    assert found.path(found.log.path) == (tmp_path / "data" / "log").resolve()


def test_nothing_is_overwritten_and_nothing_is_left_half_done(recil, tmp_path):
    known_log(20).save(tmp_path / "log")
    (tmp_path / "experiment.toml").write_text("mine")
    code, _, err = recil("init", "log")
    assert code == 2 and "experiment.toml: is there already -> give another --out" in err
    assert (tmp_path / "experiment.toml").read_text() == "mine"
    code, _, err = recil("init", "log", "--out", "new.toml", "--name", "a/b")
    assert code == 2 and "name" in err and not (tmp_path / "new.toml").exists()
    code, _, err = recil("init", "nothing", "--out", "new.toml")
    assert code == 2 and "there is no such file" in err and not (tmp_path / "new.toml").exists()
    assert recil("init", "log", "--out", "none/new.toml")[0] == 2
