"""Q-learning: the smallest form holds, and would not if it and Sarsa changed places."""

from __future__ import annotations

import pytest
from claims_helper import smallest

from recil.exact.solve import optimal_values
from recil.exact.worlds import cheese_maze


@pytest.fixture(scope="module")
def tried():
    return smallest("q_learning")


def test_it_holds(tried):
    assert tried.standing == "holds", tried.points


def test_it_would_not_if_the_learners_changed_places(tried):
    swapped = tried.swapped("cliff, Q-learning", "cliff, Sarsa")
    failed = [point.says for point in swapped.points if point.standing == "does not hold"]
    assert len(failed) == 2, swapped.points


def test_it_would_not_if_exploring_were_no_matter(tried):
    swapped = tried.swapped("maze, epsilon 1", "maze, epsilon 0.5")
    assert swapped.points[2].standing == "does not hold"


def test_the_table_is_that_of_the_optimum(tried):
    maze = cheese_maze()
    wanted = optimal_values(maze).action_values
    for number, place in enumerate(maze.states):
        row = [tried.found.mean(f"Q, {place}", way).value for way in maze.actions]
        assert row == pytest.approx(wanted[number].tolist(), abs=1e-3)


def test_exact_values_are_the_known_ones(tried):
    known = {"cliff, best": -45.80, "cliff, middle lane": -21.05, "cliff, top lane": -22.27}
    for arm, value in known.items():
        assert tried.found.mean(arm, "exploring").value == pytest.approx(value, abs=0.005)
    assert tried.found.mean("cliff, Q-learning", "greedy").value == -13
