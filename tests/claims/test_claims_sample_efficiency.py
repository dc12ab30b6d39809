"""Sample efficiency: the smallest form holds, would not with the arms exchanged, and begins where it must."""

from __future__ import annotations

import pytest
import torch
from claims_helper import smallest

import recil
from recil.claims.studies import sample_efficiency
from recil.exact.policy import TabularPolicy
from recil.exact.solve import start_value, uniform_policy


@pytest.fixture(scope="module")
def tried():
    return smallest("sample_efficiency")


def test_it_holds(tried):
    assert tried.standing == "holds", tried.points


def test_it_would_not_if_arms_changed_places(tried):
    assert tried.swapped("clone 1000", "scratch").standing == "does not hold"
    assert tried.swapped("clone 1000", "clone and demonstrations 1000").points[-1].standing == "does not hold"


def test_scratch_begins_near_uniform_and_the_clone_near_the_demonstrator(tried):
    settings = tried.settings
    uniform = (1 + (settings.items - 1) / 50) / settings.items
    demonstrator = settings.skill + (1 - settings.skill) / 50
    assert tried.found.mean("scratch", "start").value == pytest.approx(uniform / demonstrator, rel=0.1)
    assert tried.found.mean("clone 1000", "start").value == pytest.approx(1, abs=0.35)


def test_values_in_the_world_are_exact(tried):
    mdp, demonstrator = sample_efficiency._world(tried.settings, 0)
    world = recil.TabularWorld(mdp, 1)
    for table in (demonstrator, uniform_policy(mdp)):
        value = sample_efficiency._value(world, TabularPolicy(table))
        assert value == pytest.approx(float(start_value(mdp, table)), abs=1e-12)


def test_sessions_are_counted_between_policies():
    values = {0: 0.1, 200: 0.3, 400: 0.7}
    assert sample_efficiency._until(values, 0.2, 1000) == pytest.approx(100)
    assert sample_efficiency._until(values, 0.5, 1000) == pytest.approx(300)
    assert sample_efficiency._until(values, 0.05, 1000) == 1
    assert sample_efficiency._until(values, 0.8, 1000) == 1000


def test_who_is_good_enough_is_stopped(tried):
    mdp, demonstrator = sample_efficiency._world(tried.settings, 0)
    watched = sample_efficiency._Watched(recil.TabularWorld(mdp, 1), float(start_value(mdp, demonstrator)))
    with pytest.raises(sample_efficiency._GotThereError):
        watched.rollout(TabularPolicy(demonstrator), torch.arange(3), recil.random.Streams(0))
    assert list(watched.values) == [0]
