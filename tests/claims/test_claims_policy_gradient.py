"""Ascent on objectives: the smallest form holds, and would not if objectives changed places."""

from __future__ import annotations

import pytest
import torch
from claims_helper import smallest
from statistics_helper import assert_mean

from recil.claims.studies.policy_gradient import counted_shares, exact_gradient, sampled_gradient
from recil.exact.episodes import sample_episodes
from recil.exact.solve import uniform_policy, visit_shares
from recil.exact.worlds import random_walk, small_recommender


@pytest.fixture(scope="module")
def tried():
    return smallest("policy_gradient")


def test_it_holds(tried):
    assert tried.standing == "holds", tried.points


def test_it_would_not_if_objectives_changed_places(tried):
    swapped = tried.swapped("J, sampled", "J_avR, sampled").swapped("best for J", "best for J_avR")
    failed = {place for place, point in enumerate(swapped.points) if point.standing == "does not hold"}
    assert {3, 5} <= failed, swapped.points


def test_reward_per_slate_and_per_session_part(tried):
    """By another way: a click brings 1, so clicks per session are slates per session times clicks per slate."""
    for name in ("best for J", "best for J_avR"):
        found = {measure: tried.found.mean(name, measure).value for measure in ("J", "J_avR", "slates")}
        assert found["J"] == pytest.approx(found["J_avR"] * found["slates"])
    assert tried.found.mean("best for J", "lost").value == pytest.approx(0, abs=1e-9)
    assert tried.found.mean("best for J_avR", "J_avR").value > tried.found.mean("best for J", "J_avR").value


@pytest.mark.parametrize("name", ["J", "J_avV", "J_avR"])
def test_sampled_gradients_have_the_mean_of_the_exact_one(name):
    world = small_recommender(gamma=1.0)
    logits = torch.randn(world.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    truth = exact_gradient(logits, name)
    sessions = sample_episodes(world, logits.softmax(-1), 60, 1000, 5)
    along = (sampled_gradient(sessions, logits, name) * truth).sum((1, 2)) / truth.square().sum()
    assert_mean(along, 1.0, false_alarm=6.3e-5)


def test_counted_visits_of_a_random_walk():
    walk = random_walk()
    shares = counted_shares(sample_episodes(walk, uniform_policy(walk), 50, 400, 1))
    for state, share in enumerate(visit_shares(walk, uniform_policy(walk))[1:-1], start=1):
        assert float(share) == pytest.approx((1, 2, 3, 2, 1)[state - 1] / 9)
        assert_mean(shares[:, state], float(share), false_alarm=6.3e-5)
