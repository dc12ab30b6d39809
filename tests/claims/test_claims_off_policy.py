"""Off-policy corrections: the smallest form holds, and would not if forms changed places."""

from __future__ import annotations

import pytest
from claims_helper import smallest


@pytest.fixture(scope="module")
def tried():
    return smallest("off_policy")


def test_it_holds(tried):
    assert tried.standing == "holds", tried.points


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("trajectory", "per step"),
        ("per step", "per step, capped"),
        ("bandit, uncorrected", "bandit, corrected"),
        ("slates of 1, top-K", "slates of 8, top-K"),
        ("recommender, per step", "recommender, trajectory"),
        ("recommender, per step", "recommender, uncorrected"),
    ],
)
def test_it_would_not_if_these_changed_places(tried, first, second):
    assert tried.swapped(first, second).standing == "does not hold"


def test_moments_of_the_loop_are_those_known(tried):
    steps, means = tried.found.curve("loop", "weighted_mean")
    _, squares = tried.found.curve("loop", "weighted_square")
    assert steps.tolist() == [5, 10, 20]
    assert means[0] == pytest.approx([0.40951, 0.65132, 0.87842], abs=1e-5)
    assert squares[0] == pytest.approx([4.474, 89.01, 31870.0], rel=1e-3)


def test_noise_of_one_step_by_hand(tried):
    """Ratios 3 and 1/2 at .2 and .8, reward 1 on the right item: scores (.4, -.4), and the gradient is their mean."""
    steps, needed = tried.found.curve("trajectory", "needed_by_horizon")
    assert steps[0] == 1 and needed[0, 0] == pytest.approx(0.2 * 9 / 0.6**2 - 1)


def test_a_capped_ascent_rests_where_the_second_best_item_is_just_worth_it(tried):
    """Ratios of the best item at the cap: e^3 / 55 * 10 / 9 of it, all else the item worth 9."""
    best = 20.0855369 / 55 * 10 / 9
    value = tried.found.mean("bandit, cap e^3", "value").value
    assert value == pytest.approx(10 * best + 9 * (1 - best), abs=1e-6)
