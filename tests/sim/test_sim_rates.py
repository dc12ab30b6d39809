"""Baseline rates, calibration and ranking against sums by hand and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recil.logs.session_log import Column, SessionLog
from recil.sim.calibration import area_under_curve, expected_calibration_error
from recil.sim.rates import STRENGTHS, Level, Rates, baselines_of, fit_rates, group_codes, item_counts, log_losses


def log_of_slates(items: list[list[int]], reward: list[list[float]], tabs: list[int], catalogue: int = 3) -> SessionLog:
    """One session per slate, each with a tab (of two; -1 missing) and a region of its user."""
    count = len(items)
    return SessionLog(
        item_ids=np.arange(catalogue),
        items=np.array(items, dtype=np.int32),
        reward=np.array(reward, dtype=np.float32),
        offsets=np.arange(count + 1),
        session_ids=np.arange(count),
        context={
            "context_tab": Column(np.array(tabs, dtype=np.int32), ("home", "search")),
            "context_hour": Column(np.arange(count, dtype=np.float32)),
        },
        user_features={"user_region": Column(np.array(tabs, dtype=np.int32)[::-1].copy(), ("north", "south"))},
    )


LOG = log_of_slates([[0, 1], [1, -1], [2, 0], [0, 2]], [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0, 1, 0, -1])


def test_log_losses_are_those_of_the_outcome() -> None:
    losses = log_losses(np.array([0.2, 0.2, 0.0, 1.0]), np.array([1.0, 0.0, 1.0, 1.0]))
    np.testing.assert_allclose(losses, [-math.log(0.2), -math.log(0.8), -math.log(1e-12), 0], atol=1e-11)


def test_groups_are_told_apart_by_all_their_columns() -> None:
    shown = LOG.items >= 0
    for names, keys in (
        (("item",), [(0,), (1,), (1,), (2,), (0,), (0,), (2,)]),
        (("position",), [(0,), (1,), (0,), (0,), (1,), (0,), (1,)]),
        (("item", "position"), [(0, 0), (1, 1), (1, 0), (2, 0), (0, 1), (0, 0), (2, 1)]),
        (("context_tab",), [(0,), (0,), (1,), (0,), (0,), (-1,), (-1,)]),
        (("user_region", "item"), [(-1, 0), (-1, 1), (0, 1), (1, 2), (1, 0), (0, 0), (0, 2)]),
    ):
        codes = group_codes(LOG, names)[shown].tolist()
        assert len(set(codes)) == len(set(keys)) == len(set(zip(codes, keys, strict=True)))


def test_numeric_columns_make_no_groups() -> None:
    with pytest.raises(ValueError, match="context_hour is numeric"):
        group_codes(LOG, ("context_hour",))


def test_rates_are_pulled_along_the_chain() -> None:
    """By hand: overall 3/7; tab home 2/4, missing 1/2, search 0/1; item 0 at home 2/2, item 1 nowhere clicked."""
    codes = {names: group_codes(LOG, names)[LOG.items >= 0] for names in (("context_tab",), ("item", "context_tab"))}
    clicked = LOG.reward[LOG.items >= 0]
    levels = []
    for (names, of), strength in zip(codes.items(), (2.0, 5.0), strict=True):
        groups, inverse = np.unique(of, return_inverse=True)
        sums = np.bincount(inverse, clicked), np.bincount(inverse).astype(float)
        levels.append(Level(names, groups, *sums, strength))
    predicted = Rates(3 / 7, tuple(levels)).predict(LOG)
    home, search, missing = (2 + 2 * 3 / 7) / (4 + 2), (0 + 2 * 3 / 7) / (1 + 2), (1 + 2 * 3 / 7) / (2 + 2)
    wanted = [
        (2 + 5 * home) / (2 + 5),  # item 0 at home
        (0 + 5 * home) / (1 + 5),  # item 1 at home
        (0 + 5 * search) / (1 + 5),  # item 1 on search
        (0 + 5 * home) / (1 + 5),  # item 2 at home
        (2 + 5 * home) / (2 + 5),
        (0 + 5 * missing) / (1 + 5),  # item 0, tab missing
        (1 + 5 * missing) / (1 + 5),  # item 2, tab missing
    ]
    np.testing.assert_allclose(predicted, wanted, rtol=1e-12)


def test_groups_never_seen_keep_the_coarser_rate() -> None:
    level = Level(("item",), np.array([1]), np.array([5.0]), np.array([10.0]), 10.0)
    np.testing.assert_allclose(level.pull(np.full(3, 0.1), np.array([0, 1, 7])), [0.1, 6 / 20, 0.1])


def coin_log(rates: list[float], sessions: int, seed: int = 0) -> SessionLog:
    generator = np.random.default_rng(seed)
    items = generator.integers(0, len(rates), (sessions, 2))
    reward = generator.random(items.shape) < np.array(rates)[items]
    return log_of_slates(items.tolist(), reward.astype(float).tolist(), [0] * sessions, len(rates))


def test_the_strength_is_the_one_that_predicts_best() -> None:
    different = fit_rates(coin_log([0.05, 0.9, 0.3, 0.6], 400), ("item",))
    alike = fit_rates(coin_log([0.3] * 40, 400), ("item",))
    assert different.levels[0].strength <= 10 and alike.levels[0].strength >= 300
    assert {different.levels[0].strength, alike.levels[0].strength} <= set(STRENGTHS)
    np.testing.assert_allclose(
        np.unique(different.predict(coin_log([0.5] * 4, 50))), [0.05, 0.3, 0.6, 0.9], atol=0.12
    )  # about 200 impressions each: standard errors of .035 at most


def test_fitted_rates_count_the_whole_log() -> None:
    log = coin_log([0.2, 0.7], 300)
    rates = fit_rates(log, ("item",))
    assert rates.overall == pytest.approx(log.reward.mean())
    assert rates.levels[0].shown.sum() == 600 and rates.levels[0].clicks.sum() == log.reward.sum()
    assert fit_rates(log.select([0]), ("item",)).levels[0].shown.sum() == 2


def test_baselines_are_those_a_user_model_must_beat() -> None:
    assert list(baselines_of(LOG)) == ["constant", "item rate", "item, position", "item, tab"]
    single = log_of_slates([[0], [1]], [[1.0], [0.0]], [0, 1])
    assert list(baselines_of(single)) == ["constant", "item rate", "item, tab"]
    np.testing.assert_allclose(baselines_of(LOG)["constant"].predict(LOG), np.full(7, 3 / 7))


SCORED = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]), st.booleans()), min_size=1, max_size=40)


@settings(deadline=None)
@given(SCORED)
def test_the_area_under_the_curve_counts_pairs(scored: list[tuple[float, bool]]) -> None:
    probability, clicked = (np.array(column, dtype=float) for column in zip(*scored, strict=True))
    pairs = [(p > q) + 0.5 * (p == q) for p in probability[clicked > 0] for q in probability[clicked == 0]]
    area = area_under_curve(probability, clicked)
    assert area == pytest.approx(np.mean(pairs)) if pairs else math.isnan(area)


def test_calibration_error_by_hand() -> None:
    """Twenty predictions, two by two: each pair is a group, predicted 2p and observed o of 2."""
    probability = np.repeat(np.arange(10) / 10 + 0.05, 2)
    clicked = np.array([0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1.0])
    wanted = np.abs(2 * probability[::2] - clicked.reshape(10, 2).sum(1)).sum() / 20
    assert expected_calibration_error(probability, clicked) == pytest.approx(wanted)
    assert expected_calibration_error(probability, clicked, groups=1) == pytest.approx(
        abs(probability.mean() - clicked.mean())
    )


@settings(deadline=None)
@given(SCORED, st.randoms(use_true_random=False))
def test_calibration_error_does_not_depend_on_the_order_of_rows(scored, random) -> None:
    mixed = list(scored)
    random.shuffle(mixed)
    first, second = (
        expected_calibration_error(*(np.array(column, dtype=float) for column in zip(*rows, strict=True)))
        for rows in (scored, mixed)
    )
    assert first == pytest.approx(second, abs=1e-12) and 0 <= first <= 1


def test_honest_predictions_are_calibrated_and_dishonest_ones_are_not() -> None:
    generator = np.random.default_rng(1)
    probability = generator.beta(1, 9, 50_000)
    clicked = (generator.random(50_000) < probability).astype(float)
    # Ten groups of 5,000: each off by at most .0071 in standard error, by .0057 on average.
    assert expected_calibration_error(probability, clicked) < 0.0057
    assert expected_calibration_error(1 / (1 + np.exp(-probability)), clicked) > 0.3
    assert area_under_curve(1 / (1 + np.exp(-probability)), clicked) == area_under_curve(probability, clicked)


@pytest.mark.parametrize("block", [1, 2, 200_000])
def test_sums_are_the_same_in_blocks_of_any_size(monkeypatch, block: int) -> None:
    """In blocks of 1 the nine groups of item and region are more than the eight places shown: they are listed."""
    wanted = fit_rates(LOG, ("context_tab",), ("user_region", "item"))
    monkeypatch.setattr("recil.sim.rates.BLOCK", block)
    found = fit_rates(LOG, ("context_tab",), ("user_region", "item"))
    keys = group_codes(LOG, ("user_region", "item"))[LOG.items >= 0]
    assert found.overall == wanted.overall
    assert found.levels[1].groups.tolist() == sorted(set(keys.tolist()))
    assert found.levels[1].shown.tolist() == [int((keys == key).sum()) for key in found.levels[1].groups]
    clicked = LOG.reward[LOG.items >= 0] > 0
    assert found.levels[1].clicks.tolist() == [int(clicked[keys == key].sum()) for key in found.levels[1].groups]
    assert [level.strength for level in found.levels] == [level.strength for level in wanted.levels]


def test_very_many_sessions_are_not_all_asked_for_a_strength(monkeypatch) -> None:
    log = coin_log([0.05, 0.9, 0.3, 0.6], 400)
    asked: list[int] = []
    monkeypatch.setattr("recil.sim.rates.MOST_HELD_OUT", 30)
    monkeypatch.setattr(
        "recil.sim.rates.log_losses", lambda p, clicked: (asked.append(len(clicked)), log_losses(p, clicked))[1]
    )
    rates = fit_rates(log, ("item",))
    assert set(asked) == {60} and rates.levels[0].shown.sum() == 800


@pytest.mark.parametrize("block", [3, 200_000])
def test_items_are_counted(monkeypatch, block: int) -> None:
    """Item 1 is shown twice and never clicked; an item that is not shown counts 0."""
    monkeypatch.setattr("recil.sim.rates.BLOCK", block)
    log = log_of_slates([[0, 1], [1, -1], [2, 0], [0, 2]], LOG.reward.tolist(), [0, 1, 0, -1], catalogue=4)
    clicks, shown = item_counts(log)
    assert clicks.tolist() == [2, 0, 1, 0] and shown.tolist() == [3, 2, 2, 0]
