"""What is shown is true: units, what the log cannot show, heavy tails, differences, numbers beyond all bounds.

Each test fails when its rule is taken out. benchmarks/coverage.py has the same with more logs, and more kinds of them.
"""

import math
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from statistics_helper import assert_rate_at_least

from recil.errors import InputError
from recil.evaluate import compare, evaluate
from recil.evaluate.facts_of_log import facts_of
from recil.evaluate.margins import Margins, gamma_interval
from recil.evaluate.pass_over import PassConfig, pass_over
from recil.evaluate.rewards import rewards_of
from recil.evaluate.support import Showings, Support
from recil.logs.session_log import SessionLog

TARGETS = ("ips", "snips", "dr")


@pytest.fixture(scope="module")
def kinds():
    """benchmarks/hard_logs.py."""
    folder = str(Path(__file__).resolve().parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        return import_module("hard_logs")
    finally:
        sys.path.remove(folder)


def answers(make, logs, **options):
    """(shown, of these held) by estimator, and differences (clear, of these wrong)."""
    shown, held = dict.fromkeys(TARGETS, 0), dict.fromkeys(TARGETS, 0)
    for trial in range(logs):
        case = make(np.random.default_rng(trial))
        for row in evaluate(case.policy, case.log, estimators=TARGETS, replicates=200, **{**case.options, **options}):
            shown[row.estimator] += not row.refused
            held[row.estimator] += (not row.refused) and row.low <= case.truth <= row.high
    return shown, held


def assert_held(make, logs, rate, fewest, **options):
    shown, held = answers(make, logs, **options)
    for name in TARGETS:
        assert shown[name] >= fewest
        assert_rate_at_least(held[name], shown[name], rate, false_alarm=1e-4)


def test_twenty_sessions_of_a_user_are_one_unit(kinds):
    """With sessions as units the same intervals hold some 60%: that is what `cluster` is for."""
    make = kinds.users(1000, 20)
    assert_held(make, 40, 0.9, 35)
    shown, held = answers(make, 40, cluster="session")
    assert held["snips"] < 0.8 * shown["snips"]


def test_what_counts_is_said_and_may_be_chosen(kinds):
    log = kinds.users(400, 5)(np.random.default_rng(0)).log
    policy = kinds.policy_of(kinds.TARGET)
    by_user = evaluate(policy, log, replicates=50)
    by_session = evaluate(policy, log, replicates=50, cluster="session")
    assert "80 users" in str(by_user) and "400 sessions" in str(by_session)
    assert by_user["logged"].diagnostics.ess == 80 and by_session["logged"].diagnostics.ess == 400
    assert by_user["ips"].ess < 80 < by_session["ips"].ess
    assert any("by user" in reason for reason in by_user["ips"].reasons)
    with pytest.raises(InputError, match="cluster: 'city' is no column of the log"):
        evaluate(policy, log, cluster="city")
    once = replace(log, user_ids=np.arange(log.sessions))
    np.testing.assert_allclose(
        [row.raw for row in evaluate(policy, once, replicates=50)][1], by_session["ips"].raw, rtol=1e-9
    )


def test_few_users_have_no_interval(kinds):
    case = kinds.users(2000, 100)(np.random.default_rng(0))
    row = evaluate(case.policy, case.log, replicates=50)["logged"]
    assert row.verdict == "refuse" and "20 effective users" in row.reasons[0]


def test_a_share_that_is_never_shown_is_priced_or_refused(kinds):
    case = kinds.unseen(1000, 0.04)(np.random.default_rng(0))
    for row in evaluate(case.policy, case.log, estimators=TARGETS, replicates=200):
        assert row.verdict == "refuse" and "hardly or never shows" in row.reasons[0]
        # Two items that may be clicked at every time or never.
        assert row.margins.unseen_high == pytest.approx(0.04, rel=0.5)
        assert row.raw.low <= case.truth <= row.raw.high
    make = kinds.unseen(1000, 0.01)
    assert_held(make, 60, 0.95, 30)


def test_items_shown_once_count_as_unseen_and_rare_ones_of_both_do_not(kinds):
    case = kinds.hardly_seen(1000, 0.04, 2.0)(np.random.default_rng(3))
    row = evaluate(case.policy, case.log, estimators=("ips",), replicates=50)["ips"]
    assert row.diagnostics.unseen_share == pytest.approx(0.04, abs=0.03)
    # 3,000 items, each shown twice by chance: a twentieth never, by the log and by the target alike.
    draw, items = np.random.default_rng(0), 3000
    log = kinds.log_of(draw.integers(0, items, 6000), (draw.random(6000) < 0.1) * 1.0, np.full(6000, 1 / items), items)
    row = evaluate(kinds.policy_of(np.full(items, 1 / items)), log, estimators=("ips",), replicates=50)["ips"]
    assert row.diagnostics.unseen_share == 0.0 and row.verdict == "trust"


def test_unseen_items_by_hand():
    count = np.array([500.0, 480.0, 3.0, 0.0, 0.0])
    showings = Showings(count, np.array([500.0, 480.0, 3.0, 0.0, 0.0]), 983)
    assert showings.unseen(np.array([800.0, 150.0, 14.0, 4.0, 0.0])).tolist() == [False] * 5
    assert showings.unseen(np.array([800.0, 150.0, 16.0, 4.0, 0.0])).tolist() == [False, False, True, False, False]
    assert showings.unseen(np.array([800.0, 150.0, 1.0, 3.0, 3.0])).tolist() == [False, False, False, True, True]
    # What the log shows rarely and the target never is as much: it may be chance.
    assert not showings.unseen(np.array([800.0, 150.0, 0.0, 3.0, 2.0])).any()
    assert Support.of(np.array([[0, 3], [1, -1], [3, 1], [0, 1]]), showings).share == 0.0
    assert Support.of(np.tile([[0, 3], [1, -1], [3, 1], [0, 1]], (9, 1)), showings).share == 0.5


def test_a_mean_weight_below_one_is_priced_by_the_range_of_rewards():
    """All that lies beyond the weights that were seen may pay: by 1 as the log shows, by 3 as declared."""
    draw = np.random.default_rng(0)
    logging, target = np.array([0.9999, 0.0001]), np.array([0.9, 0.1])
    items = np.zeros(2000, dtype=np.int64)
    hard = import_module("hard_logs")
    log = hard.log_of(items, (draw.random(2000) < 0.1) * 1.0, logging[items], 2)
    policy = hard.policy_of(target)
    for declared, most in ((None, 1.0), ((0.0, 3.0), 3.0)):
        row = evaluate(policy, log, estimators=("ips",), replicates=100, reward_range=declared)["ips"]
        assert row.diagnostics.mean_weight == pytest.approx(0.9, abs=1e-3)
        assert row.margins.unseen_high >= 0.1 * most and row.verdict == "refuse"


def test_a_mixture_with_a_far_policy_is_never_called_worse():
    """5% of slates by a policy that is better and far: truly better, and the log has none of the slates that pay."""
    hard, items = import_module("hard_logs"), 400
    logging = np.full(items, 1.0)
    logging[-1] = 1e-4
    logging /= logging.sum()
    far = np.zeros(items)
    far[-1] = 1.0
    rates = np.r_[np.full(items - 1, 0.1), 0.9]
    target, wrong = 0.95 * logging + 0.05 * far, 0
    for trial in range(20):
        draw = np.random.default_rng(trial)
        shown = draw.choice(items, 4000, p=logging)
        log = hard.log_of(shown, (draw.random(4000) < rates[shown]) * 1.0, logging[shown], items)
        found = compare({"mixture": hard.policy_of(target)}, log, estimator="ips", replicates=100)
        wrong += any(pair.clear and pair.worse == "mixture" for pair in found.differences)
    assert wrong == 0


def test_log_normal_rewards_and_rare_ones_are_refused(kinds):
    for make in (kinds.sizes(3000, 2.0), kinds.rare(5000, 50.0, 0.001, False), kinds.rare(5000, -30.0, 0.002, False)):
        shown, _ = answers(make, 10)
        assert not any(shown.values())
    row = evaluate(kinds.policy_of(kinds.TARGET), make(np.random.default_rng(0)).log, replicates=50)["ips"]
    assert any("a few large rewards decide it" in reason for reason in row.reasons)


def test_mild_tails_are_shown_and_held(kinds):
    assert_held(kinds.sizes(10_000, 0.7), 30, 0.9, 25)


def test_a_declared_range_that_nothing_reached_is_priced(kinds):
    """1,000 sessions say nothing of what happens once in a thousand, and gains of 50 would outweigh all clicks."""
    case = kinds.plain(1000)(np.random.default_rng(0))
    rows = [
        evaluate(case.policy, case.log, estimators=("ips",), replicates=100, reward_range=declared)["ips"]
        for declared in (None, (0.0, 1.0), (0.0, 51.0))
    ]
    assert rows[0].verdict == "trust" and rows[0].raw == rows[1].raw
    # A gain of 50 with a probability of 3/1,000, which is absent from a log in twenty, would add .15.
    assert rows[2].raw.high > rows[0].raw.high + 0.15 and rows[2].raw.low == pytest.approx(rows[0].raw.low, abs=0.02)
    loss = evaluate(case.policy, case.log, estimators=("ips",), replicates=100, reward_range=(-30.0, 1.0))["ips"]
    assert loss.margins.unseen_low == pytest.approx(3 * 30 / loss.ess) and loss.verdict == "refuse"
    with pytest.raises(InputError, match=r"rewards from 0 to 1, outside 0 to 0.5"):
        evaluate(case.policy, case.log, reward_range=(0.0, 0.5))
    with pytest.raises(InputError, match="reward_range"):
        evaluate(case.policy, case.log, reward_range=(1.0, 1.0))


def test_a_log_without_any_click_has_an_interval_where_the_range_is_known(kinds):
    case = kinds.plain(1000, 0.0)(np.random.default_rng(0))
    assert evaluate(case.policy, case.log, replicates=50)["snips"].verdict == "refuse"
    row = evaluate(case.policy, case.log, replicates=50, reward_range=(0.0, 1.0))["logged"]
    # Clopper and Pearson's upper 97.5% limit of 0 out of 1,000 is .0037.
    assert row.low == 0.0 and row.high == pytest.approx(0.0037, rel=0.02)


def test_few_clicks_are_held_whatever_their_number(kinds):
    """Some ten clicks a log. Refusing logs with few would show the lucky ones; the interval holds as it is."""
    assert_held(kinds.plain(1000, 0.1), 80, 0.935, 70)


@pytest.mark.parametrize("count", [0, 1, 4, 20])
def test_the_gamma_interval_is_garwoods_for_counts(count):
    from scipy import stats

    low, high = gamma_interval(count, count, 1.0, 0.95)
    exact = (stats.chi2.ppf(0.025, 2 * count) / 2 if count else 0.0, stats.chi2.ppf(0.975, 2 * count + 2) / 2)
    assert (low, high) == pytest.approx(exact)


def test_few_units_take_students_t():
    normal = torch.randn(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    normal = normal - normal.mean()
    wide, narrow = (Margins(units=units).noise(0.0, normal, 0.95) for units in (5.0, math.inf))
    assert wide[1] / narrow[1] == pytest.approx(2.776 / 1.96, rel=1e-3)


def test_weights_beyond_all_bounds_are_refused_and_nothing_breaks(kinds):
    """40 sessions of 150 steps, weights up to 1e300 and beyond."""
    draw = np.random.default_rng(0)
    chance = np.array([0.01, 0.99])
    items = draw.integers(0, 2, 6000)
    log = SessionLog(
        item_ids=np.arange(2),
        items=items[:, None].astype(np.int32),
        reward=(draw.random((6000, 1)) < 0.1).astype(np.float32),
        offsets=np.arange(41) * 150,
        session_ids=np.arange(40),
        propensity=chance[items][:, None].astype(np.float32),
    )
    names = ("ips", "snips", "pdis", "pdwis", "dr", "wdr", "beta_ips", "magic", "rips", "cips", "dros")
    policy = kinds.policy_of(np.array([0.5, 0.5]))
    found = evaluate(policy, log, estimators=names, replicates=100)
    assert found["ips"].ess < 3 and float(found["ips"].replicates.max()) > 1e100
    assert all(row.verdict == "refuse" for row in found)
    assert compare({"far": policy}, log, replicates=50)["far"].rank is None


def test_sums_by_unit_do_not_hang_on_batches(kinds, monkeypatch):
    case = kinds.users(600, 4)(np.random.default_rng(0))
    facts, config = facts_of(case.log), PassConfig(replicates=20, model=False)
    whole = pass_over({"": case.policy}, case.log, None, config, facts)[""]
    monkeypatch.setattr("recil.evaluate.pass_over._MOST_SESSIONS", 37)
    again = pass_over({"": case.policy}, case.log, None, config, facts)[""]
    torch.testing.assert_close(whole.units.influence, again.units.influence)
    torch.testing.assert_close(whole.units.weight, again.units.weight)
    assert float(whole.units.sessions.sum()) == 600 and whole.support == again.support
    ratio = (kinds.TARGET / kinds.LOGGED)[case.log.items[:, 0]]
    centred = case.log.reward[:, 0] - case.log.reward.mean()
    by_hand = np.bincount(case.log.user_ids, ratio * centred)
    np.testing.assert_allclose(whole.units.influence[:, 1].numpy(), by_hand, rtol=1e-5, atol=1e-6)


def test_what_a_log_shows_of_its_rewards():
    log = SessionLog(
        item_ids=np.arange(2),
        items=np.zeros((4, 2), dtype=np.int32),
        reward=np.array([[1, 0], [0, 0], [2, 1], [-1, 0]], dtype=np.float32),
        offsets=np.array([0, 2, 4]),
        session_ids=np.arange(2),
    )
    found = rewards_of(log, gamma=0.5)
    assert (found.low, found.high) == (-1.0, 3.0) and (found.session_low, found.session_high) == (1.0, 2.5)
    assert found.mean.tolist() == [2.0, -0.25] and found.longest == 2 and not found.declared
    declared = rewards_of(log, 0.5, (-2.0, 4.0))
    assert (declared.session_low, declared.session_high) == (-3.0, 6.0) and declared.declared


def test_the_tail_index_is_hills():
    draw = np.random.default_rng(0)
    for index in (1.5, 4.0):
        sizes = (draw.pareto(index, 40_000) + 1).astype(np.float32)
        log = import_module("hard_logs").log_of(np.zeros(40_000, dtype=int), sizes, None)
        # The lower limit of 200 excesses lies 1.645 / √200 below.
        assert rewards_of(log).tail_index == pytest.approx(index * (1 - 1.645 / math.sqrt(200)), rel=0.15)
