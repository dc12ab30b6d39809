"""Propensities out of fitted models: their calibration, and their uncertainty in the interval."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from logs_of_worlds import case
from statistics_helper import assert_rate_at_least
from tiny_worlds import MoodyWorld, RecallPolicy

from recil.errors import InputError
from recil.evaluate import evaluate, propensity_calibration, simulate
from recil.evaluate.propensities import over_behaviours, widened
from recil.exact.enumerate import true_value


def showing(chances) -> RecallPolicy:
    """The same chances whatever came before."""
    logits = torch.tensor(chances, dtype=torch.float64).log()
    return RecallPolicy(logits.expand(len(chances) + 1, 2, -1).clone())


@pytest.fixture(scope="module")
def small():
    found = case(sessions=400, items=4, slate=1, horizon=3)
    return replace(found, log=replace(found.log, propensity=None))


def test_calibration_by_hand():
    """Three items in two bins: .5 in the second, .25 twice in the third."""
    log = simulate(showing([0.2, 0.2, 0.6]), MoodyWorld.make(3, 1, 2), 200, 0)
    found = propensity_calibration(log, showing([0.5, 0.25, 0.25]))
    shown = np.bincount(log.items[:, 0], minlength=3)
    assert found.steps == log.steps
    assert found.expected[[1, 2]] == pytest.approx([log.steps / 2, log.steps / 2])
    assert found.shown[[1, 2]].tolist() == [shown[0], shown[1] + shown[2]]
    assert found.pairs[[1, 2]].tolist() == [log.steps, 2 * log.steps] and found.pairs.sum() == 3 * log.steps
    assert found.variance[[1, 2]] == pytest.approx([log.steps / 4, log.steps * 3 / 8])
    assert found.error == pytest.approx(1 - shown[0] / log.steps - 0.5)
    ratio, chance = found.worst
    assert ratio == pytest.approx(2 * shown[0] / log.steps) and chance < 1e-6
    frame = found.to_frame()
    assert frame["up_to"].tolist() == [0.5, 0.25]
    assert frame["observed"].tolist() == pytest.approx([shown[0] / log.steps, (log.steps - shown[0]) / 2 / log.steps])


def test_the_policy_that_wrote_the_log_is_calibrated(small):
    """Fails by chance once in 1,000 logs; the logs are fixed."""
    found = propensity_calibration(small.log, small.behaviour)
    assert found.worst[1] > 1e-3 and found.error < 0.03
    other = propensity_calibration(small.log, RecallPolicy(small.behaviour.table * 4))
    assert other.worst[1] < 1e-6 and other.error > found.error


def test_long_logs_are_looked_at_in_part(small, monkeypatch):
    monkeypatch.setattr("recil.evaluate.propensities._MOST_SCORES", 400)
    assert 80 <= propensity_calibration(small.log, small.behaviour).steps <= 103


def test_a_policy_that_cannot_weigh_the_catalogue(small):
    class Narrow:
        catalogue = 4
        sample, log_prob = small.behaviour.sample, small.behaviour.log_prob

    with pytest.raises(InputError, match="next_logits"):
        propensity_calibration(small.log, Narrow())
    found = evaluate(small.target, small.log, behaviour=Narrow(), replicates=50)
    assert found.propensities is None


def test_the_report_stands_below_the_table(small):
    found = evaluate(small.target, small.log, behaviour=small.behaviour, replicates=50)
    assert "fitted propensities: calibration error" in str(found)
    assert max(map(len, str(found).splitlines())) <= 80
    with_own = evaluate(small.target, case(sessions=50, items=4, slate=1).log, replicates=50)
    assert with_own.propensities is None and "fitted propensities" not in str(with_own)


def test_total_variance():
    """Three models whose values are 1, 2 and 3: deviation 1 between; t of 2 degrees at 97.5% is 4.302653."""
    replicates = torch.tensor([0.0, -1.0, 1.0]).double()
    values, between = over_behaviours(torch.stack([replicates + number for number in (1.0, 2.0, 3.0)]))
    assert between == pytest.approx(1.0) and values.tolist() == pytest.approx([2.0, 1.0, 3.0])
    low, high = widened(2.0, (1.0, 4.0), between, 3, 0.95)
    assert low == pytest.approx(2 - (1 + 4.302653**2) ** 0.5) and high == pytest.approx(2 + (4 + 4.302653**2) ** 0.5)
    alone, none = over_behaviours(replicates[None])
    assert math.isnan(none) and torch.equal(alone, replicates)
    assert widened(2.0, (1.0, 4.0), none, 1, 0.95) == (1.0, 4.0)


def test_the_one_sided_bound_is_that_of_the_interval(small):
    clones = [small.behaviour, RecallPolicy(small.behaviour.table * 1.3), RecallPolicy(small.behaviour.table * 0.7)]
    row = evaluate(small.target, small.log, behaviour=clones, replicates=100)["snips"]
    assert row.models == 3 and row.at_least(0.975) == pytest.approx(row.low, rel=1e-12)
    alone = evaluate(small.target, small.log, behaviour=clones[0], replicates=100)["snips"]
    assert alone.at_least(0.975) == pytest.approx(alone.low, rel=1e-12)
    assert row.high - row.low > alone.high - alone.low


def test_equal_models_are_one(small):
    one = evaluate(small.target, small.log, behaviour=small.behaviour, replicates=100)
    same = evaluate(small.target, small.log, behaviour=[small.behaviour] * 3, replicates=100)
    for first, second in zip(one, same, strict=True):
        assert first.raw == pytest.approx(second.raw, rel=1e-12)
    assert same["snips"].diagnostics.between_fits == pytest.approx(0.0, abs=1e-12)
    assert same["snips"].verdict == "caution" and "differs between them" in same["snips"].reasons[0]
    assert math.isnan(same["logged"].diagnostics.between_fits) and same["logged"].verdict == "trust"


def test_a_log_with_propensities_needs_no_model():
    found = case(sessions=100)
    with_models = evaluate(found.target, found.log, behaviour=[found.target, found.behaviour], replicates=50)
    assert with_models["snips"].raw == evaluate(found.target, found.log, replicates=50)["snips"].raw
    with pytest.raises(InputError, match="empty list"):
        evaluate(found.target, found.log, behaviour=[], replicates=50)


def test_intervals_over_clones_hold_the_truth_where_those_of_one_do_not():
    """Clones are counted from 100 sessions, and the estimate of 3,000 leans on them. False alarm 1e-5."""
    world = MoodyWorld.make(3, 1, 1)
    logging, target = showing([0.6, 0.3, 0.1]), showing([0.2, 0.3, 0.5])
    truth, draw = true_value(world, target), np.random.default_rng(3)
    held = {"one": 0, "several": 0}
    for trial in range(30):
        log = replace(simulate(logging, world, 3000, trial), propensity=None)
        counted = draw.multinomial(100, [0.6, 0.3, 0.1]) + 0.5
        again = [draw.multinomial(100, counted / counted.sum()) + 0.5 for _ in range(7)]
        clones = [showing(part / part.sum()) for part in (counted, *again)]
        for name, behaviour in (("one", clones[0]), ("several", clones)):
            row = evaluate(target, log, behaviour=behaviour, estimators=("ips",), replicates=150)["ips"]
            # What a mean weight apart from 1 adds to an interval is left out.
            noise = row.margins.noise(row.raw.value, row.replicates, 0.95)
            low, high = widened(row.raw.value, noise, row.diagnostics.between_fits, row.models, 0.95)
            held[name] += low <= truth <= high
    assert_rate_at_least(held["several"], 30, 0.9, false_alarm=1e-5)
    assert held["one"] < 0.7 * 30
