"""What the README and the experiments' page claim, held to it: on the demo, on published logs, and after kill -9."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_experiment import write_experiment
from store_template import MLFLOW_WARNINGS, fresh_store

from recil.config import load_experiment
from recil.evaluate.on_log import evaluate
from recil.experiment import run_experiment
from recil.logs.align import align
from recil.logs.read import read_log
from recil.policies.baselines import uniform
from recil.sim.card import validate
from recil.sim.fit import fit_users
from recil.train.clone import clone

DEMO = Path(__file__).resolve().parents[1] / "data" / "demo" / "experiment.toml"


@pytest.mark.slow
@MLFLOW_WARNINGS
def test_the_demo_shows_what_the_readme_says(tmp_path: Path) -> None:
    result = run_experiment(load_experiment(DEMO), fresh_store(tmp_path), tmp_path / "work", jobs=2)
    gains = {(gain.first, gain.second): gain for gain in result.gains if gain.measure == "true"}
    assert gains["finetuned-log", "logged"].low > 0
    assert gains["finetuned-world", "logged"].low > 0
    assert gains["from-scratch", "clone"].high < 0
    rows = {row.method: row for row in result.rows}
    assert rows["logged"].ope is not None and rows["clone"].true is not None
    _, low, high = rows["logged"].ope
    assert low < rows["clone"].true[0] < high
    assert rows["finetuned-log"].verdict == "refuse" and rows["finetuned-log"].ope is None


@pytest.mark.slow
def test_users_fitted_to_kuairand_beat_item_and_tab_rates(real_logs: Path) -> None:
    train, test = read_log(real_logs / "kuairand", reward="is_like").split(by="time", test=0.2)
    card = validate(fit_users(train), test)
    rates = card.row("item, tab")
    assert card.row("users").log_loss < rates.log_loss
    assert rates.versus > 2 * rates.error


@pytest.mark.parametrize(("source", "target"), [("random", "bts"), ("bts", "random")])
def test_open_bandit_each_policys_rate_from_the_others_log(real_logs: Path, source: str, target: str) -> None:
    own = read_log(real_logs / "open_bandit" / target / "men")
    log = align(read_log(real_logs / "open_bandit" / source / "men"), own)
    policy = uniform(own) if target == "random" else clone(own)
    estimate = evaluate(policy, log, estimators=("snips",), replicates=500)["snips"]
    assert estimate.verdict != "refuse"
    assert estimate.low < own.reward.sum() / own.sessions < estimate.high


@MLFLOW_WARNINGS
@pytest.mark.slow  # learners after kill -9 are in the main suite, tests/train/test_train_killed.py
def test_a_run_that_was_killed_goes_on_to_the_same_table(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recil", "run", "experiment.toml", "--jobs", "1"]

    def prepared(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        write_experiment(folder)
        fresh_store(folder)
        return folder

    killed, straight = prepared("killed"), prepared("straight")
    with subprocess.Popen(command, cwd=killed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + 120
        while not list(killed.glob(".recil/small/policies/*/policy/policy.json")):
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
    assert not list(killed.glob(".recil/small/results/*/judged.json")), "killed too late to show anything"
    tables = [
        subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
        for folder in (killed, straight)
    ]
    assert tables[0] == tables[1] and "finetuned" in tables[0]
