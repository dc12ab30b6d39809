"""Do the intervals hold the truth as often as they say, where the verdict is trust?"""

import math

import pytest
import torch
from logs_of_worlds import case
from statistics_helper import assert_mean, assert_rate_at_least

from recil.evaluate import evaluate, simulate
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
