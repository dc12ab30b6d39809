"""Imitation and the adversarial game: the smallest form holds, and would not if their policies changed places."""

from __future__ import annotations

import math

import pytest
from claims_helper import smallest


@pytest.fixture(scope="module")
def tried():
    return smallest("gan_question")


def test_it_holds(tried):
    assert tried.standing == "holds", tried.points


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Gaussian, likelihood", "Gaussian, log odds"),
        ("wide, exact, log odds", "narrow, exact, log odds"),
        ("narrow, exact, likelihood", "narrow, exact, log odds"),
        ("wide, clone", "wide, adversary, log odds"),
        ("narrow, clone as D", "narrow, clone"),
    ],
)
def test_it_would_not_if_these_changed_places(tried, first, second):
    assert tried.swapped(first, second).standing == "does not hold"


def test_one_gaussian_on_two_groups_has_the_moments_that_are_known(tried):
    """Likelihood those of both, log odds those of one; see also the same in tests of adversarial imitation."""

    def ends(arm: str, moment: str):
        return tried.found.curve(f"Gaussian, {arm}", f"{moment}_by_start")[1][0]

    assert ends("likelihood", "mean") == pytest.approx([1.6] * 4, abs=1e-3)
    assert ends("likelihood", "deviation") == pytest.approx([math.sqrt(4 + 0.24 * 16**2)] * 4, abs=1e-3)
    assert abs(ends("log odds", "mean")) == pytest.approx([8.0] * 4, abs=0.01)
    assert ends("log odds", "deviation") == pytest.approx([2.0] * 4, abs=0.01)


def test_a_policy_that_is_the_demonstrator_is_worth_what_it_is(tried):
    settings = tried.settings
    value = tried.found.mean("wide, exact, likelihood", "value").value
    assert value == pytest.approx(settings.skill * 0.102 + (1 - settings.skill) * 0.002, abs=1e-4)
