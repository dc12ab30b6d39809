"""Sessions in built worlds: the same in any batch, compiled or not, left or cut; and settings that are refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from recsim_ng.core.value import Value
from shown_slates import Shows
from torch import Tensor, nn

from recil.errors import InputError
from recil.logs.history import History
from recil.random import Streams
from recil.sim.entity import Entity
from recil.sim.network import network_of
from recil.sim.recommendation import recommendation_story
from recil.sim.recommenders.uniform import UniformRecommender
from recil.sim.resolvers import Drawn
from recil.sim.runtime import TorchRuntime
from recil.sim.worlds.built import BuiltWorld
from recil.sim.worlds.latent_variable import (
    LatentVariableSettings,
    LatentVariableUser,
    latent_variable,
    learning_story,
)
from recil.sim.worlds.long_term_satisfaction import (
    LongTermSatisfactionSettings,
    LongTermSatisfactionUser,
    long_term_satisfaction,
)

CHOCKALE = LongTermSatisfactionSettings(items=9, horizon=12, time_budget=7)
LATENT = LatentVariableSettings(items=9, slate_size=2, horizon=12, initial_satisfaction=0.0)
CHOC, AIM = "long-term satisfaction", "latent variable"
WORLDS = {CHOC: long_term_satisfaction(CHOCKALE), AIM: latent_variable(LATENT)}
SLATES = Shows([[0, 8], [7, 1], [2, 6], [5, 3], [4, 0]], 9)
SESSIONS = torch.arange(200)


def rollout(world: BuiltWorld, sessions: Tensor = SESSIONS, policy: Shows = SLATES) -> History:
    return world.rollout(policy, sessions, Streams(3))


@pytest.mark.parametrize("name", WORLDS)
def test_a_session_evolves_the_same_alone_and_among_many(name: str) -> None:
    whole = rollout(WORLDS[name])
    # Bit for bit: a function that rounds otherwise in a vector is seen in some sessions only, so there are many.
    for sessions in (torch.tensor([199, 5, 60]), *torch.arange(40).split(1)):
        part = rollout(WORLDS[name], sessions)
        steps = part.steps
        assert torch.equal(part.items, whole.items[sessions, :steps])
        assert torch.equal(part.reward, whole.reward[sessions, :steps])
        assert torch.equal(part.length, whole.length[sessions])
        assert torch.equal(part.terminated, whole.terminated[sessions])
    assert int((whole.reward.sum((1, 2)) > 0).sum()) > 0


def test_users_leave_when_their_budget_is_spent_and_are_cut_where_it_is_not() -> None:
    done = rollout(WORLDS[CHOC])
    consumed = (done.reward > 0).sum((1, 2))
    assert torch.equal(done.terminated, consumed == 7) and 0 < int(done.terminated.sum()) < len(SESSIONS)
    assert bool((done.length[~done.terminated] == 12).all())
    last = done.reward[torch.arange(200), done.length - 1].sum(-1)
    assert bool((last[done.terminated] > 0).all())  # they leave at once
    assert bool((done.terminated & (done.length == 12)).any())  # some at the very last slate, and that is no cut
    assert bool((done.terminated & (done.length < 12)).any())


def test_nothing_is_shown_to_users_who_have_left_and_they_consume_nothing() -> None:
    done = rollout(WORLDS[CHOC])
    assert bool((done.items[~done.happened] == -1).all()) and bool((done.items[done.happened] >= 0).all())
    assert bool((done.reward[~done.happened] == 0).all())


@pytest.mark.parametrize(("budget", "horizon", "length"), [(5, 12, 5), (5, 5, 5), (6, 5, 5), (None, 12, 12)])
def test_a_budget_of_slates_is_terminated_and_a_horizon_truncated(
    budget: int | None, horizon: int, length: int
) -> None:
    settings = replace(CHOCKALE, time_budget=budget, horizon=horizon, no_click_logit=-math.inf)
    done = rollout(long_term_satisfaction(settings))
    assert done.steps == length and bool((done.length == length).all())
    assert bool((done.terminated == (budget == 5)).all())


def test_the_horizon_cuts_users_with_latent_intents() -> None:
    done = rollout(WORLDS[AIM])
    assert not bool(done.terminated.any()) and bool((done.length == 12).all())
    assert 0.5 < float(done.reward.sum(-1).mean()) < 0.95 and float(done.reward.max()) == 1


@pytest.mark.parametrize("no_click_logit", [0.0, -math.inf])
def test_what_is_not_shown_is_not_chosen(no_click_logit: float) -> None:
    chockale = LongTermSatisfactionUser(replace(CHOCKALE, no_click_logit=no_click_logit), 2)
    latent = LatentVariableUser(replace(LATENT, no_click_logit=no_click_logit), 2)
    items = torch.tensor([[-1, -1], [3, -1]])
    slate = Value(items=items, clickbait=torch.ones(2, 2), features=torch.zeros(2, 2, 3))
    for user, state in (
        (chockale, Value(exposure=torch.zeros(2), consumed=torch.zeros(2, dtype=torch.int64))),
        (latent, Value(intent=torch.zeros(2, 3), satisfaction=torch.full((2,), 4.0), best=torch.zeros(2))),
    ):
        probs = user.response(state, slate).get("choice").probs
        assert probs[0].tolist() == [0, 0, 1] and float(probs[1, 1]) == 0 and float(probs[1, 0]) > 0.7


def stories(batch: int) -> dict[str, Callable[[], list]]:
    chockale = WORLDS[CHOC]
    return {
        CHOC: lambda: chockale.story(UniformRecommender(batch, 9, 2), batch),
        AIM: lambda: learning_story(LATENT, batch),
    }


@pytest.mark.slow  # a compiler takes its time
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", stories(1))
def test_compiled_steps_are_those_of_eager_ones(name: str) -> None:
    """A fall back to eager steps would warn, and warnings are errors."""
    eager, compiled = (
        TorchRuntime(network_of(stories(50)[name]()), Drawn(Streams(0), torch.arange(50)), compiled=compiled)
        for compiled in (False, True)
    )
    with torch.no_grad():
        wanted, found = eager.execute(6), compiled.execute(6)
    for variable, values in wanted.items():
        for field, content in values.as_dict.items():
            torch.testing.assert_close(found[variable].get(field), content, rtol=1e-5, atol=1e-5, msg=field)


def test_gradients_reach_a_parameter_through_simulated_rewards() -> None:
    """Engagement rises with sensitivity in users who take the kale: the derivative along draws is the difference's."""

    def earned(sensitivity: Tensor) -> Tensor:
        settings = replace(CHOCKALE, time_budget=None, no_click_logit=-math.inf, attraction=-20.0)
        user, corpus = LongTermSatisfactionUser(settings, 300, sensitivity=sensitivity), WORLDS[CHOC].corpus(300)
        network = network_of(recommendation_story(corpus, user, UniformRecommender(300, 9, 2)))
        runtime = TorchRuntime(network, Drawn(Streams(0), torch.arange(300))).to(dtype=torch.float64)
        return runtime.execute(5)["outcome"].get("reward").sum(-1).mean()

    sensitivity = nn.Parameter(torch.tensor(0.2, dtype=torch.float64))
    earned(sensitivity).backward()
    above, below = (float(earned(torch.tensor(0.2 + step, dtype=torch.float64))) for step in (1e-5, -1e-5))
    assert float(sensitivity.grad) == pytest.approx((above - below) / 2e-5, rel=1e-6) and float(sensitivity.grad) > 0


@pytest.mark.parametrize("name", WORLDS)
def test_a_story_that_moves_leaves_the_world_where_it_was(name: str) -> None:
    world, before = WORLDS[name], rollout(WORLDS[name])
    network = network_of(world.story(UniformRecommender(4, 9, 2), 4))
    moved = TorchRuntime(network, Drawn(Streams(0), torch.arange(4))).to(dtype=torch.float64)
    reward = moved.execute(2)["outcome"].get("reward")
    assert reward.dtype == torch.float64
    assert torch.equal(rollout(world).reward, before.reward)


@pytest.mark.parametrize("name", WORLDS)
def test_a_policy_of_another_catalogue_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="policy: 8 items, the world has 9"):
        rollout(WORLDS[name], policy=replace(SLATES, catalogue=8))


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_says_what_its_items_are_like_and_how_much_users_like_them(name: str) -> None:
    world = WORLDS[name]
    assert world.vectors.shape[0] == world.appeal.shape[0] == len(world.item_ids) == 9
    assert bool(world.vectors.isfinite().all())
    ranked = world.appeal.argsort().tolist()
    best, worst = (
        rollout(world, torch.arange(1000), Shows([slate], 9)).reward[:, 0].sum(-1).double()
        for slate in (ranked[-2:], ranked[:2])
    )
    gain = best - worst  # at first: what users come to like is not in an item's appeal
    assert float(gain.mean()) > 4.8 * float(gain.std()) / math.sqrt(len(gain))  # false alarm 1e-6


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("items", 0, "a number above 0"),
        ("horizon", math.inf, "a number above 0"),
        ("slate_size", 10, "at most items, 9"),
        ("choc_spread", 0.0, "a number above 0"),
        ("kale_spread", math.nan, "a number above 0"),
        ("initial_exposure", -1.0, "a number above 0"),
        ("attraction", math.inf, "a finite number"),
        ("sensitivity", math.nan, "a finite number"),
        ("innovation_noise", -0.1, "0 or more"),
        ("memory_discount", 1.0, "0 to below 1"),
        ("memory_discount", -0.1, "0 to below 1"),
        ("no_click_logit", math.inf, "a number, or minus infinity"),
        ("time_budget", 0, "1 or more, or None"),
    ],
)
def test_settings_of_long_term_satisfaction_that_cannot_be_are_refused(name: str, value: float, wanted: str) -> None:
    with pytest.raises(ValueError, match=f"long-term satisfaction: {name} = {value}: wanted {wanted}"):
        replace(CHOCKALE, **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("topics", 0, "a number above 0"),
        ("document_spread", 0.0, "a number above 0"),
        ("intent_spread", -1.0, "a number above 0"),
        ("satisfaction_noise", 0.0, "a number above 0"),
        ("slate_size", 10, "at most items, 9"),
        ("initial_satisfaction", math.inf, "a finite number"),
        ("sensitivity", 1.5, "0 to 1"),
        ("sensitivity", math.nan, "0 to 1"),
        ("no_click_logit", math.nan, "a number, or minus infinity"),
    ],
)
def test_settings_of_latent_variables_that_cannot_be_are_refused(name: str, value: float, wanted: str) -> None:
    with pytest.raises(ValueError, match=f"latent variable: {name} = {value}: wanted {wanted}"):
        replace(LATENT, **{name: value})


@pytest.mark.parametrize(
    "make",
    [
        lambda given: LongTermSatisfactionUser(CHOCKALE, 3, sensitivity=given),
        lambda given: LatentVariableUser(LATENT, 3, given),
    ],
)
def test_what_is_learned_is_one_number_or_one_per_user(make: Callable[[Tensor], Entity]) -> None:
    for good in (torch.tensor(0.5), torch.rand(3), nn.Parameter(torch.rand(3))):
        assert make(good).sensitivity is good
    assert list(make(nn.Parameter(torch.rand(3))).parameters()) and not list(make(torch.rand(3)).parameters())
    with pytest.raises(ValueError, match=r"User: sensitivity of shape \[4\]; wanted one number, or \[3\], one per"):
        make(torch.rand(4))
