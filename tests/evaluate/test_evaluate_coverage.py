"""Do the intervals hold the truth as often as they say, where the verdict is trust?"""

import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from logs_of_worlds import case
from statistics_helper import assert_mean, assert_rate_at_least

from recil.evaluate import evaluate, simulate
from recil.evaluate.sums import SessionSums
from recil.exact.enumerate import true_value

TARGETS = ("ips", "snips", "pdis", "pdwis", "dr")


def run(shape, trials, sessions, seed):
    """Per estimator: estimates, and whether each trusted interval holds the exact value."""
    setting = case(sessions=1, **shape)
    truth = true_value(setting.world, setting.target)
    values, covered = {name: [] for name in TARGETS}, {name: [] for name in TARGETS}
    for trial in range(trials):
        log = simulate(setting.behaviour, setting.world, sessions, seed + trial)
        for row in evaluate(setting.target, log, estimators=TARGETS, replicates=400, seed=trial):
            values[row.estimator].append(row.raw.value)
            if row.verdict == "trust":
                covered[row.estimator].append(row.low <= truth <= row.high)
    return truth, values, covered


def test_trusted_intervals_cover():
    """300 logs of 500 sessions; each assertion fails by chance once in 100,000 times."""
    truth, values, covered = run({"items": 3, "slate": 1, "horizon": 3, "strength": 0.3}, 300, 500, seed=100)
    for name in TARGETS:
        assert len(covered[name]) > 280
        assert_rate_at_least(sum(covered[name]), len(covered[name]), 0.935, false_alarm=1e-5)
        # Not wider than need be: less than full coverage is seen sometimes.
        assert_rate_at_least(len(covered[name]) - sum(covered[name]), len(covered[name]), 0.01, false_alarm=0.3)
    for name in ("ips", "pdis", "dr"):
        assert_mean(torch.tensor(values[name]), truth, false_alarm=1e-5)


def test_half_the_width_takes_four_times_the_sessions():
    widths = []
    for sessions in (500, 8000):
        setting = case(sessions=sessions, items=3, slate=1, horizon=3, strength=0.3)
        widths.append({row.estimator: row.raw.high - row.raw.low for row in evaluate(setting.target, setting.log)})
    for name, wide in widths[0].items():
        assert math.log2(wide / widths[1][name]) == pytest.approx(2.0, abs=0.4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape",
    [
        {"items": 3, "slate": 1, "horizon": 3, "strength": 0.3},
        {"items": 3, "slate": 2, "horizon": 2, "strength": 0.5},
        {"items": 4, "slate": 1, "horizon": 3, "strength": 0.6},
        {"items": 4, "slate": 2, "horizon": 1, "strength": 1.0},
    ],
)
def test_trusted_intervals_cover_in_many_settings(shape):
    """1,000 logs each; fails by chance once in 10,000 times per estimator."""
    _, _, covered = run(shape, 1000, 1000, seed=10_000)
    answered = {name: held for name, held in covered.items() if len(held) >= 50}
    for held in answered.values():
        assert_rate_at_least(sum(held), len(held), 0.935, false_alarm=1e-4)


@pytest.fixture(scope="module")
def table():
    """benchmarks/coverage.py, which writes docs/coverage.md; here with fewer logs and replicates."""
    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    # Under a name of its own: a well-known package is called coverage.
    found = importlib.util.spec_from_file_location("coverage_benchmark", folder / "coverage.py")
    module = importlib.util.module_from_spec(found)
    sys.path.insert(0, str(folder))
    sys.modules[found.name] = module
    try:
        found.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


def chosen(table, name):
    return next(setting for setting in table.SETTINGS if setting.name == name)


def test_the_tables_settings_are_as_wide_as_said(table):
    settings = table.SETTINGS
    assert len(settings) >= 20 and len({setting.name for setting in settings}) == len(settings)
    assert {setting.horizon for setting in settings} >= {1, 50}
    assert min(setting.click for setting in settings) <= 0.002 and max(setting.click for setting in settings) >= 0.3
    assert min(setting.sessions for setting in settings) <= 500
    assert max(setting.sessions for setting in settings) >= 100_000


@pytest.mark.parametrize(
    "name", ["one step, good overlap, few clicks", "3 steps, good overlap", "one step, fair overlap, uneven clicks"]
)
def test_trusted_intervals_of_the_table_cover(table, name):
    """100 logs; each of the five estimators fails by chance once in 100,000 times."""
    found = table.measure(chosen(table, name), 100, replicates=300, most_blocks=1)
    for tally in found.tallies.values():
        assert tally.share("trust") > 0.9
        assert_rate_at_least(tally.covered["trust"], tally.answers["trust"], 0.935, false_alarm=1e-5)


@pytest.mark.parametrize(
    "name", ["20 steps, terrible overlap", "one step, a fifth of items never shown", "50 steps, poor overlap"]
)
def test_where_no_interval_covers_none_is_trusted(table, name):
    found = table.measure(chosen(table, name), 20, replicates=100)
    assert found.together.answers["trust"] == 0
    assert found.together.share("refuse") > 0.6
    if shown := found.together.answers["caution"]:
        assert_rate_at_least(found.together.covered["caution"] // 5, shown // 5, 0.9, false_alarm=1e-3)


def test_counted_logs_are_logs_of_sessions(table):
    """A log counted by kinds of sessions gives the sums of the sessions themselves."""
    logs = sys.modules["simulated_logs"]
    world = chosen(table, "one step, fair overlap").world()
    sessions = logs._Sessions.drawn(world, 60, logs.Streams(0).numpy("test"))
    arrays = sessions.arrays(world)
    parts = [torch.from_numpy(part[:, 0].astype(int)) for part in (sessions.mood, sessions.item, sessions.clicked)]
    kinds, number = torch.unique(torch.stack(parts), dim=1, return_counts=True)
    few = logs._Sessions(*(part.numpy()[:, None] for part in kinds), happened=sessions.happened[: kinds.shape[1]])
    mean = few.rewards(number.numpy()).mean
    torch.testing.assert_close(mean, sessions.rewards().mean)
    counted = logs.counted_sums(few.arrays(world), number[None].double(), mean)
    whole = SessionSums.of(arrays, torch.ones(1, 60).double(), mean=mean)
    for name in ("sessions", "returns", "whole", "weight", "reward", "predicted", "expected", "alive"):
        torch.testing.assert_close(getattr(counted, name), getattr(whole, name))
    torch.testing.assert_close(counted.weights.effective_size, whole.weights.effective_size)
    torch.testing.assert_close(counted.contributions.effective_size, whole.contributions.effective_size)
    assert counted.rewarded == whole.rewarded
    torch.testing.assert_close(counted.influence.skewness, whole.influence.skewness)
    torch.testing.assert_close(counted.influence.largest, whole.influence.largest)


def test_the_tables_truth_is_that_of_long_simulations(table):
    """Sessions shown by the target itself; false alarm 1e-6."""
    logs = sys.modules["simulated_logs"]
    world = chosen(table, "3 steps, fair overlap").world()
    sessions = logs._Sessions.drawn(replace(world, logging=world.target), 200_000, logs.Streams(1).numpy("test"))
    assert_mean(torch.from_numpy(sessions.clicked.sum(1).astype(float)), world.truth(), false_alarm=1e-6)
