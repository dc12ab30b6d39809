"""recil promote: exit codes, what is printed, and what it asks for."""

from __future__ import annotations

import json

import pytest
from mlflow import MlflowClient
from slot_machines import machine_log, save_choice
from store_template import MLFLOW_WARNINGS, fresh_store

from recil.cli import main
from recil.policies.baselines import popular, uniform
from recil.policies.storage import save
from recil.sim.generate import Settings, Truth

pytestmark = [MLFLOW_WARNINGS, pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    fresh_store(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)


@pytest.fixture
def recil(capsys):
    def command(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        return ended.value.code, streams.out, streams.err

    return command


def test_answers_as_data_and_code_1_with_the_reason(recil, tmp_path):
    machine_log(1500).save(tmp_path / "log")
    save_choice(tmp_path / "good", 0.2, 0.3, 0.5)
    save_choice(tmp_path / "bad", 0.7, 0.2, 0.1)
    judged = ("--name", "shop", "--log", "log", "--replicates", 100)
    code, out, err = recil("promote", "bad", *judged, "--format", "json")
    (row,) = json.loads(out)
    assert code == 1 and row["moved"] is False and row["version"] is None
    assert row["reasons"].startswith("it is clearly worse than the policy that wrote the log")
    assert "recil: models:/shop@champion was not moved: it is clearly worse" in err
    code, out, err = recil("promote", "good", *judged, "--to", "challenger", "--format", "json")
    assert code == 0 and json.loads(out)[0]["version"] == "1" and "Created version" not in err
    code, out, _ = recil("promote", "good", *judged, "--to", "challenger")
    assert code == 0 and out == "models:/shop@challenger is this policy already, version 1\n"
    code, out, _ = recil("promote", "models:/shop@challenger", *judged)
    assert code == 0 and "models:/shop@champion is version 1 now" in out and "rank" in out
    model = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_registered_model("shop")
    assert {alias: str(version) for alias, version in model.aliases.items()} == {"champion": "1", "challenger": "1"}


def test_a_known_world_judges(recil, tmp_path):
    settings = Settings(seed=2, sessions=300, horizon=3, items=6, slate_size=2, types=2, click_rate=0.2)
    (tmp_path / "settings.toml").write_text(
        "seed = 2\nsessions = 300\nhorizon = 3\nitems = 6\nslate_size = 2\ntypes = 2\nclick_rate = 0.2\n"
    )
    log = Truth(settings).log()
    save(uniform(log), tmp_path / "uniform")
    save(popular(log, temperature=0.3), tmp_path / "popular")
    judged = ("--name", "shop", "--truth", "settings.toml", "--sessions", 2000)
    assert recil("promote", "uniform", *judged)[0] == 0
    code, out, _ = recil("promote", "popular", *judged)
    assert code == 0 and "version 2 now" in out and "2,000 simulated users" in out
    assert recil("promote", "uniform", *judged)[0] == 1


def test_what_it_needs(recil, tmp_path):
    save_choice(tmp_path / "good", 0.2, 0.3, 0.5)
    code, _, err = recil("promote", "good", "--name", "shop")
    assert code == 2 and "give --log, --users or --truth" in err
    code, _, err = recil("promote", "nothing", "--name", "shop", "--log", "log")
    assert code == 2 and "log: there is no such file or folder" in err
    machine_log(50).save(tmp_path / "log")
    code, _, err = recil("promote", "nothing", "--name", "shop", "--log", "log")
    assert code == 2 and "nothing: no run of sqlite" in err and "models:/NAME/VERSION or a folder" in err
    assert recil("promote", "good", "--log", "log")[0] == 2
