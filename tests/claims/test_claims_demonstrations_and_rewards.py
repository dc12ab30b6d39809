"""Demonstrations and rewards: the smallest form holds, would not with arms exchanged, and demonstrators are known."""

from __future__ import annotations

import pytest
import torch
from claims_helper import smallest

from recil.claims.studies import demonstrations_and_rewards as study
from recil.exact.episodes import sample_episodes


@pytest.fixture(scope="module")
def tried():
    return smallest("demonstrations_and_rewards")


def test_it_holds(tried):
    assert tried.standing == "holds", tried.points


@pytest.mark.parametrize(
    ("first", "second", "fails"),
    [
        ("clone: good", "sequential: good", {"comes to its demonstrator's value"}),
        ("sequential: mediocre", "clone: mediocre", {"exceeds a mediocre", "comes to its demonstrator's value"}),
        ("replay: good", "reward only, Q-learning", {"comes further"}),
        ("hybrid: mixed", "hybrid, constant weight: mixed", {"does not decay"}),
        ("sequential: certain", "sequential: mixed", {"always shows the same"}),
        ("replay: certain", "clone: certain", {"learner that explores"}),
        ("clone's favourites: mediocre", "clone: mediocre", {"shows most", "comes to its demonstrator's value"}),
    ],
)
def test_points_fail_where_arms_change_places(tried, first, second, fails):
    failed = [point.says for point in tried.swapped(first, second).points if point.standing != "holds"]
    for part in fails:
        assert any(part in says for says in failed), (part, failed)


def test_worth_of_demonstrators_is_what_can_be_worked_out(tried):
    # What does not fit is worth a fiftieth of what does; of four contexts the certain demonstrator knows one.
    worth = study._worth(tried.settings)
    assert worth == pytest.approx(
        {"good": 0.9 + 0.1 / 50, "mediocre": 0.1 + 0.9 / 50, "mixed": 0.45 + 0.55 / 50, "certain": 0.25 + 0.75 / 50}
    )
    assert tried.found.mean("clone: mixed", "value").value == pytest.approx(worth["mixed"], abs=0.03)
    assert tried.found.mean("clone's favourites: certain", "value").value == pytest.approx(worth["certain"])


def test_replay_learns_what_demonstrations_show(tried):
    mdp = study._world(tried.settings, 0)
    shown = sample_episodes(mdp, study._demonstrators(mdp)["good"], tried.settings.runs, 1000)
    values = study._replayed(tried.settings, mdp, shown, 0)
    fits = mdp.mean_reward[:4].argmax(1)
    assert float((values[:, :4].argmax(2) == fits).double().mean()) > 0.9
    assert torch.equal(values[:, 4:], torch.zeros_like(values[:, 4:])), "nobody acts after the end"
