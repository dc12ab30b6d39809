from dataclasses import replace

import numpy as np
import pytest
import torch
from logs_of_worlds import case, take
from matplotlib.figure import Figure
from tiny_worlds import MoodyWorld, RecallPolicy

from recil.errors import InputError
from recil.evaluate import compare, evaluate, paired_over_seeds, simulated_value
from recil.evaluate.compare import Difference


@pytest.fixture(scope="module")
def good():
    return case(sessions=3000, strength=0.3)


@pytest.fixture(scope="module")
def on_log(good):
    policies = {"target": good.target, "behaviour": good.behaviour, "twin": RecallPolicy(good.target.table)}
    return compare(policies, good.log, replicates=300)


def test_values_are_those_of_evaluate(good, on_log):
    assert on_log.method == "pdwis"
    alone = evaluate(good.target, good.log, replicates=300)
    assert on_log["target"].raw == alone["pdwis"].raw
    assert on_log["logged"].raw == alone["logged"].raw


def test_a_policy_and_its_twin_tie_exactly(on_log):
    same = on_log.difference("target", "twin")
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    assert not same.clear
    assert on_log["target"].rank == on_log["twin"].rank


def test_the_logging_policy_ties_with_its_own_log(on_log):
    """They differ by the rounding of float32 propensities, whose interval leaves out 0."""
    same = on_log.difference("behaviour", "logged")
    assert abs(same.value) < 1e-6 < same.rounding < 1e-4 and not same.clear
    assert on_log["behaviour"].rank == on_log["logged"].rank


def test_the_difference_is_paired(good, on_log):
    """Its interval is that of the difference in each replicate, narrower than two intervals laid end to end."""
    pair = on_log.difference("target", "logged")
    alone = evaluate(good.target, good.log, replicates=300)
    replicates = alone["pdwis"].replicates - alone["logged"].replicates
    tail = torch.quantile(replicates, torch.tensor([0.025, 0.975], dtype=torch.float64))
    # Student's t for few effective sessions and one more extreme one make it a little wider.
    assert pair.high - pair.low == pytest.approx(float(tail[1] - tail[0]), rel=0.2)
    back = on_log.difference("logged", "target")
    assert (back.value, back.low, back.high) == (-pair.value, -pair.high, -pair.low)


def test_ranking_in_a_world_where_the_order_is_known():
    click = torch.tensor([[0.05, 0.3, 0.6], [0.05, 0.3, 0.6]]).double()
    world = MoodyWorld(click, torch.full((2, 2), 0.2).double(), 0.5, 1, 3)

    def shows_mostly(item):
        table = torch.zeros(4, 2, 3, dtype=torch.float64)
        table[..., item] = 4.0
        return RecallPolicy(table)

    policies = {"low": shows_mostly(0), "high": shows_mostly(2), "middle": shows_mostly(1), "high too": shows_mostly(2)}
    found = compare(policies, world, sessions=2000, seed=3)
    assert {row.policy: row.rank for row in found.rows} == {"high": 1, "high too": 1, "middle": 3, "low": 4}
    assert [row.policy for row in found.rows][-1] == "low"
    first, second = (simulated_value(policies[name], world, 2000, 3) for name in ("high", "low"))
    pair = found.difference("high", "low")
    assert pair.value == pytest.approx(first.value - second.value)
    unpaired = (first.high - first.low) ** 2 + (second.high - second.low) ** 2
    assert pair.high - pair.low < unpaired**0.5


def test_refused_estimates_are_not_ranked(good):
    wild, few = RecallPolicy(20 * good.target.table), take(good.log, np.arange(300))
    found = compare({"wild": wild, "target": good.target}, few, replicates=100, estimator="pdwis")
    assert found["wild"].rank is None and np.isnan(found["wild"].value) and np.isfinite(found["wild"].raw.value)
    assert found.rows[-1].policy == "wild"
    assert all("wild" not in (pair.better, pair.worse) for pair in found.differences)
    with pytest.raises(InputError, match="estimate of wild is refused"):
        found.difference("target", "wild")
    assert f"{found['wild'].raw.value:.5g}" not in str(found)
    assert found.to_frame().set_index("policy").loc["wild", ["value", "low", "high"]].isna().all()


def test_printed_and_drawn(on_log):
    assert max(map(len, str(on_log).splitlines())) <= 80
    assert "(tie)" in str(on_log)
    assert len(on_log.differences_frame()) == 6
    assert isinstance(on_log.plot(), Figure)


def test_clear_means_beyond_zero():
    assert Difference("a", "b", 0.2, 0.1, 0.3).clear
    assert not Difference("a", "b", 0.2, -0.1, 0.3).clear
    assert Difference("a", "b", -0.2, -0.3, -0.1).clear
    assert not Difference("a", "b", np.nan, np.nan, np.nan).clear
    assert not Difference("a", "b", 3e-9, 1e-9, 5e-9, rounding=1e-5).clear
    assert not Difference("a", "b", 3e-9, 1e-9, 5e-9, rounding=1e-5).reversed().clear


def test_paired_over_seeds():
    mean, low, high = paired_over_seeds([1.0, 2.0, 3.0], [0.5, 1.4, 2.6])
    assert mean == pytest.approx(0.5)
    assert high - mean == pytest.approx(4.302652729911275 * 0.1 / 3**0.5) and mean - low == pytest.approx(high - mean)
    with pytest.raises(InputError, match="2 values against 1"):
        paired_over_seeds([1.0, 2.0], [1.0])


def test_nothing_to_compare(good):
    with pytest.raises(InputError, match="none given"):
        compare({}, good.log)


def test_several_clones_widen_values_and_differences_alike():
    found = case(sessions=400)
    log = replace(found.log, propensity=None)
    clones = [found.behaviour, RecallPolicy(found.behaviour.table * 1.3), RecallPolicy(found.behaviour.table * 0.7)]
    policies = {"target": found.target, "behaviour": found.behaviour}
    one = compare(policies, log, behaviour=clones[0], estimator="snips", replicates=100)
    same = compare(policies, log, behaviour=clones[:1] * 3, estimator="snips", replicates=100)
    several = compare(policies, log, behaviour=clones, estimator="snips", replicates=100)
    pair = ("target", "behaviour")
    assert same.difference(*pair).value == pytest.approx(one.difference(*pair).value, rel=1e-9)
    assert same.difference(*pair).low == pytest.approx(one.difference(*pair).low, rel=1e-9)
    widths = [each.difference(*pair).high - each.difference(*pair).low for each in (one, several)]
    assert widths[1] > widths[0]
    for name in pair:
        alone = evaluate(policies[name], log, behaviour=clones, estimators=("snips",), replicates=100)["snips"]
        assert several[name].raw == pytest.approx(alone.raw, rel=1e-9)
