"""Built worlds from a settings file: a log is generated in one, and an experiment holds policies against its truth."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_template import MLFLOW_WARNINGS, fresh_store

from recil.cli import main
from recil.config import load_experiment
from recil.errors import InputError
from recil.experiment import run_experiment
from recil.logs.read import read_log
from recil.sim.generate import Truth, load_settings
from recil.sim.worlds.settings import WORLDS

pytestmark = MLFLOW_WARNINGS

SETTINGS = {
    "interest_evolution": "items = 20\nhorizon = 4\n",
    "long_term_satisfaction": "items = 20\nhorizon = 4\n",
    "latent_variable": "items = 20\nhorizon = 4\n",
    "ecosystem": "horizon = 4\nproviders = 10\npopulation = 32\n",
}
FILE = """
name = "known"
[log]
path = "log"
[truth]
settings = "settings.toml"
[world]
horizon = 4
sessions = 256
[evaluate]
replicates = 20
[[methods]]
name = "random"
kind = "uniform"
[[methods]]
name = "logged"
kind = "logged"
[[methods]]
name = "clone"
kind = "clone"
width = 8
epochs = 2
"""


@pytest.mark.parametrize("world", WORLDS)
def test_an_experiment_in_a_built_world(world: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    settings = tmp_path / "settings.toml"
    settings.write_text(f'world = "{world}"\nsessions = 192\n[parameters]\n{SETTINGS[world]}')
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["log", "generate", str(settings), str(tmp_path / "log")])
    log = read_log(tmp_path / "log")
    assert log.digest == Truth(load_settings(settings)).log().digest
    assert log.sessions == 192 and log.propensity is not None
    (tmp_path / "experiment.toml").write_text(FILE)
    result = run_experiment(load_experiment(tmp_path / "experiment.toml"), fresh_store(tmp_path), tmp_path / "work")
    assert not result.failures
    values = {row.method: row.true for row in result.rows}
    assert set(values) == {"random", "logged", "clone"}
    assert all(value is not None and value[1] < value[0] < value[2] for value in values.values())
    assert log.reward.sum() > 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('world = "eden"', ["world", "'eden' is no known world", "interest_evolution"]),
        ('world = "interest_evolution"\n[parameters]\nitms = 3', ["parameters.itms", "Extra inputs", "items"]),
        ('world = "interest_evolution"\n[parameters]\nitems = "many"', ["parameters.items", "'many'", "integer"]),
        ('world = "interest_evolution"\n[parameters]\nitems = 1', ["slate_size = 2", "there are 1 items"]),
        ('world = "interest_evolution"\nsesions = 3', ["sesions", "Extra inputs", "sessions"]),
    ],
)
def test_settings_of_no_world_name_the_file_the_key_and_the_value(text: str, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_settings(path)
    assert caught.value.place == str(path)
    assert all(word in str(caught.value) for word in words), str(caught.value)
