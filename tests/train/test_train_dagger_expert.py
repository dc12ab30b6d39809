"""The best response: the users' true click probabilities, given what a session has shown, and who can tell them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from statistics_helper import assert_mean
from taste_world import TastePolicy, TasteWorld

from recil.errors import InputError
from recil.logs.history import History
from recil.policies.inputs import Feature
from recil.policies.softmax import SoftmaxConfig, SoftmaxPolicy
from recil.random import Streams
from recil.sim.behaviour import Behaviour, UserLayout
from recil.sim.users import Starts, UserModel
from recil.sim.world import World
from recil.train.dagger import dagger
from recil.train.dagger_config import DaggerConfig
from recil.train.dagger_expert import BestResponse, best_response


def world_of_two_types(slate_size: int = 1) -> World:
    """Four items; two types with opposite tastes, one in four of the first; moods that move, some leave."""
    layout = UserLayout(4, 2, 2, 2, "independent", True, 2, window=2, contexts=(Feature("context_tab", 2),))
    behaviour = Behaviour(layout)
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in behaviour.parameters():
            parameter.copy_(0.6 * torch.randn(parameter.shape, generator=draw))
        behaviour.type_home.copy_(torch.tensor([[3.0, 0.0], [-3.0, 0.0]]))
        behaviour.type_logit.zero_()
        behaviour.item_vector[:, 0] = torch.tensor([1.0, 0.5, -0.5, -1.0])
        behaviour.hazard.fill_(-1.5)
        behaviour.type_hazard.copy_(torch.tensor([1.0, -1.0]))
    kinds = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    starts = Starts(kinds, context={"context_tab": torch.zeros(4, 3, dtype=torch.int64)}, lengths=torch.full((4,), 3))
    return World(UserModel(behaviour, starts, np.arange(4), {}), 3, slate_size, known=True)


@torch.no_grad()
def test_the_probabilities_are_those_by_which_users_click():
    """Residuals of simulated clicks vanish whatever the session has shown: by step, item, last item and last click."""
    world = world_of_two_types()
    told = best_response(world).click_probability
    rolled = world.rollout(TastePolicyOfOne(), torch.arange(30_000), Streams(5))
    checked = 0
    for step in range(3):
        here = torch.nonzero(rolled.length > step)[:, 0]
        before = rolled.take(here).prefix(step)
        item = rolled.items[here, step, 0]
        residual = rolled.reward[here, step, 0].double() - told(before).gather(1, item[:, None])[:, 0]
        shown = item if not step else 100 * item + 10 * before.items[:, -1, 0] + before.reward[:, -1, 0].long()
        for group in shown.unique():
            assert_mean(residual[shown == group], 0.0, 1e-7)
            checked += 1
    assert checked == 4 + 2 * 32


class TastePolicyOfOne(TastePolicy):
    """Any of four items with equal chances."""

    def __init__(self):
        super().__init__(torch.zeros(1, 4))

    def sample(self, history, k, streams):
        return super().sample(replace(history, user={"taste": torch.zeros_like(history.length)}), k, streams)


@torch.no_grad()
def test_who_a_user_is_shows_in_what_they_click():
    world = world_of_two_types()
    told = best_response(world).click_probability
    one = torch.tensor([[[0]], [[0]]])
    history = History(
        one,
        torch.tensor([[[1.0]], [[0.0]]]),
        torch.ones(2, dtype=torch.int64),
        torch.arange(2),
        context={"context_tab": torch.zeros(2, 3, dtype=torch.int64)},
    )
    clicked, passed_over = told(history)
    assert clicked[0] > passed_over[0] + 0.2
    assert passed_over[3] > clicked[3] + 0.2


@torch.no_grad()
def test_sessions_in_blocks_say_the_same(monkeypatch):
    world = world_of_two_types(2)
    rolled = world.rollout(SoftmaxPolicy(SoftmaxConfig(4)).eval(), torch.arange(40), Streams(1)).prefix(2)
    whole = best_response(world).click_probability(rolled)
    monkeypatch.setattr("recil.train.dagger_expert._ROWS_AT_ONCE", 24)
    torch.testing.assert_close(best_response(world).click_probability(rolled), whole)


@dataclass(frozen=True)
class TellingWorld(TasteWorld):
    def click_probability(self, history):
        return self.click[history.user["taste"]]


def test_it_shows_the_likeliest_items_for_certain():
    world = TellingWorld(torch.tensor([[0.1, 0.5, 0.3, 0.3]]), slate_size=3)
    expert = best_response(world)
    history = History.start(torch.arange(2), 3, user={"taste": torch.zeros(2, dtype=torch.int64)})
    slates = expert.sample(history, 3, Streams(0))
    assert slates.items.tolist() == [[1, 2, 3]] * 2
    assert (slates.log_prob == 0).all()
    scores = expert.log_prob(history, torch.tensor([[1, -1, 2], [1, 3, 2]]))
    assert scores.tolist() == [[0, 0, 0], [0, -torch.inf, -torch.inf]]


def test_a_learner_comes_close_to_it():
    base = TasteWorld.sparse(3, tastes=3, items=20, liked=3)
    world = TellingWorld(8 * base.click, horizon=4)
    policy = SoftmaxPolicy(
        replace(SoftmaxConfig(20), encoder=replace(SoftmaxConfig(20).encoder, user=(Feature("taste", 3),)))
    ).eval()
    found = dagger(policy, world, best_response(world), DaggerConfig(rounds=2, sessions=200, epochs=15, batch=40))
    best, learned, before = (float(world.returns(each, 2000).mean()) for each in (world.best(), found.policy, policy))
    assert learned > 0.9 * best > 0.5 * best > before


def test_in_a_world_of_users_everything_fits_together():
    world = world_of_two_types(2)
    policy = SoftmaxPolicy(SoftmaxConfig(4), np.arange(4)).eval()
    found = dagger(policy, world, best_response(world), DaggerConfig(rounds=2, sessions=60, epochs=2))
    assert found.data.sessions == 120
    assert found.data.context.keys() == {"context_tab"}


def test_a_world_that_cannot_tell_is_refused():
    with pytest.raises(InputError, match=r"a TasteWorld does not tell .* -> give an expert policy"):
        best_response(TasteWorld.sparse(0))
    assert BestResponse(3, lambda history: torch.zeros(history.batch, 3)).catalogue == 3
