"""The foils in an experiment file: each is trained, judged and logged like the methods it is held against."""

from __future__ import annotations

import pytest
from small_experiment import FILE, write_experiment
from store_template import MLFLOW_WARNINGS, fresh_store

from recil.config import load_experiment
from recil.errors import InputError
from recil.experiment import plan, run_experiment
from recil.track.find import find_runs
from recil.track.store import ensure_experiment

pytestmark = MLFLOW_WARNINGS
BEFORE, _, METHODS = FILE.replace("seeds = [0, 1]", "seeds = [0]").partition("[[methods]]")
CLONE = """
[[methods]]
name = "logged"
kind = "logged"
[[methods]]
name = "clone"
kind = "clone"
width = 8
epochs = 2
"""
FOILS = """
[[methods]]
name = "values"
kind = "q_learning"
width = 8
epochs = 2
[[methods]]
name = "relabelled"
kind = "dagger"
start = "clone"
rounds = 2
sessions = 40
epochs = 2
"""
ADVERSARIAL = """
[[methods]]
name = "fooling"
kind = "adversarial"
like = "clone"
sessions = 100
"""


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch):
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setattr(plan, "code_version", lambda: "test")


def test_foils_are_trained_judged_and_logged(tmp_path):
    store = fresh_store(tmp_path)
    file = write_experiment(tmp_path, BEFORE + CLONE + FOILS)
    found = run_experiment(load_experiment(file), store, tmp_path / "work")
    assert found.failures == {}
    assert {row.method: row.seeds for row in found.rows} == {
        "logged": (1, 1), "clone": (1, 1), "values": (1, 1), "relabelled": (1, 1),
    }  # fmt: skip
    runs = {run.name: run for run in find_runs(store, ensure_experiment(store, "recil-small"), {}, status=None)}
    assert runs["values-0"].tags["recil.stage"] == "q_learning"
    assert runs["relabelled-0"].tags["recil.stage"] == "dagger"
    assert {"q_learning/nll", "q_learning/value_error"} <= runs["values-0"].metrics.keys()
    assert {"dagger/nll", "dagger/return"} <= runs["relabelled-0"].metrics.keys()


def test_adversarial_imitation_of_sessions_of_many_lengths_is_refused_by_name(tmp_path):
    """The users of this log leave, so that a discriminator's reward would pay for length."""
    file = write_experiment(tmp_path, BEFORE + CLONE + ADVERSARIAL)
    found = run_experiment(load_experiment(file), fresh_store(tmp_path), tmp_path / "work")
    ((name, failure),) = found.failures.items()
    assert name == "fooling-0" and "do not have 5 steps" in str(failure) and "clone or dagger" in str(failure)
    assert {row.method: row.seeds[0] for row in found.rows}["clone"] == 1


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (FOILS.replace('start = "clone"', 'start = "values"'), 'methods.relabelled.start = "values"'),
        (ADVERSARIAL.replace('like = "clone"', 'like = "none"'), 'methods.fooling.like = "none"'),
        (FOILS.replace("rounds = 2", "rounds = 0"), "methods.relabelled.rounds = 0"),
        (FOILS.replace("epochs = 2", "kl = 2", 1), "methods.values.kl: unknown key"),
    ],
)
def test_what_cannot_be_is_named_before_any_work(tmp_path, method, message):
    with pytest.raises(InputError, match=message):
        load_experiment(write_experiment(tmp_path, BEFORE + CLONE + method))


def test_foils_that_act_need_users(tmp_path):
    before = BEFORE.replace("[users]\ntypes = 2\ndimension = 3\nepochs = 2\n", "")
    with pytest.raises(InputError, match=r"relabelled acts in a world"):
        load_experiment(write_experiment(tmp_path, before + CLONE + FOILS))
