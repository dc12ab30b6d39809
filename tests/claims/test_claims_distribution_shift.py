"""A clone's drift and DAgger: the smallest form holds, and would not if they changed places."""

from __future__ import annotations

import pytest
from claims_helper import smallest


@pytest.fixture(scope="module")
def tried():
    return smallest("distribution_shift")


def test_it_holds(tried):
    assert tried.standing == "holds", tried.points


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("no way back", "way back, known"),
        ("path, way back, clone", "path, way back, DAgger"),
        ("path, no way back, clone", "path, no way back, DAgger"),
        ("fitted 40, clone, own sessions", "fitted 40, clone, expert's sessions"),
        ("fitted 40, clone, own sessions", "fitted 40, DAgger, own sessions"),
    ],
)
def test_it_would_not_if_these_changed_places(tried, first, second):
    assert tried.swapped(first, second).standing == "does not hold"


def test_gaps_are_those_known(tried):
    _, cliff = tried.found.curve("no way back", "gap_by_horizon")
    assert cliff[0] == pytest.approx([0.0548, 0.2087, 0.8094, 3.156, 12.22], rel=1e-3)
    _, cost = tried.found.curve("three states", "cost_by_horizon")
    assert cost[0] == pytest.approx([1.0, 4.0, 25.0], abs=1e-9)


def test_losses_by_step_sum_to_the_gap(tried):
    steps, loss = tried.found.curve("way back, known", "chance_by_step")
    count, rate = len(steps), tried.settings.rate
    assert loss[0].sum() == pytest.approx(rate + (count - 1) * rate * (2 - rate), abs=1e-12)


def test_labels_are_as_many(tried):
    for way in ("path, way back", "path, no way back"):
        assert tried.found.mean(f"{way}, clone", "labels") == tried.found.mean(f"{way}, DAgger", "labels")
