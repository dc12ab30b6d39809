"""The ecosystem as an environment of providers: populations apart, silent providers, policies and logs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from recsim_ng.core.value import Value
from torch.distributions import Categorical, Normal, Uniform

from recil.errors import InputError
from recil.evaluate.simulate import simulate, simulated_value
from recil.logs.history import History
from recil.policies.protocol import log_prob_of_sessions
from recil.policies.softmax import SoftmaxConfig, SoftmaxPolicy
from recil.random import Streams
from recil.sim.draws import uniforms_needed
from recil.sim.network import network_of
from recil.sim.plan import NetworkValue
from recil.sim.recommendation import SlateMaker
from recil.sim.recommenders.documents import BestDocuments, Sizes
from recil.sim.recommenders.policy import PolicyRecommender
from recil.sim.recommenders.uniform import UniformRecommender
from recil.sim.resolvers import Drawn
from recil.sim.runtime import TorchRuntime
from recil.sim.shared import Shared
from recil.sim.worlds.ecosystem import EcosystemWorld, ecosystem
from recil.sim.worlds.ecosystem_corpus import EcosystemSettings

# Few documents, and interests near enough for rewards: some providers fall silent, some users are content.
SETTINGS = EcosystemSettings(
    providers=5, cluster_spread=1.5, documents_per_provider=1, user_spread=3.0, slate_size=2, population=3, horizon=4
)
WORLD = ecosystem(SETTINGS)
POLICY = SoftmaxPolicy(SoftmaxConfig(5), seed=1)


def sessions_of(*populations: int) -> torch.Tensor:
    return (torch.tensor(populations)[:, None] * SETTINGS.population + torch.arange(SETTINGS.population)).flatten()


def rollout(*populations: int) -> History:
    return WORLD.rollout(POLICY, sessions_of(*populations), Streams(7))


def story_values(world: EcosystemWorld, sessions: torch.Tensor, steps: int) -> Iterator[NetworkValue]:
    variables = world.story(world.myopic(len(sessions)), len(sessions))
    with torch.no_grad():
        yield from islice(TorchRuntime(network_of(variables), Drawn(Streams(7), sessions)).steps(), steps)


def of_population(values: NetworkValue, place: int, populations: int) -> dict[str, torch.Tensor]:
    """All fields of the population at this place of the batch, whether they lead with populations or with sessions."""
    found = {}
    for variable, value in values.items():
        for name, field in value.as_dict.items():
            rows = len(field) // populations
            found[f"{variable}.{name}"] = field[place * rows : (place + 1) * rows]
    return found


def test_a_population_evolves_the_same_in_any_batch() -> None:
    order = (5, 0, 9, 2)
    together = list(story_values(WORLD, sessions_of(*order), 4))
    for place, population in enumerate(order):
        for step, alone in enumerate(story_values(WORLD, sessions_of(population), 4)):
            mine, other = of_population(alone, 0, 1), of_population(together[step], place, len(order))
            assert {name for name in mine if not torch.equal(mine[name], other[name])} == set()
    documents = [of_population(together[0], place, 4)["available.features"] for place in range(4)]
    assert not any(torch.equal(documents[0], other) for other in documents[1:])


def test_users_of_a_population_meet_the_same_documents_and_differ_in_all_else() -> None:
    values = next(story_values(WORLD, sessions_of(0, 1), 1))
    for name in ("user.interest", "offer.share", "response.surprise"):
        variable, field = name.split(".")
        assert len(values[variable].get(field).unique(dim=0)) == 6, name
    assert values["available"].get("features").shape == (2, 5, 2) and values["corpus"].get("clicks").shape == (2, 5)


def test_one_users_clicks_change_what_the_others_can_see() -> None:
    """Another policy for one population: it meets other documents in later slates; the other population stays."""
    sessions, seen = sessions_of(0, 1), {}
    for bias in (0.0, 50.0):
        policy = SoftmaxPolicy(SoftmaxConfig(5), seed=1)
        with torch.no_grad():
            policy.bias.weight[4] = bias
        recommender = _ForPopulation(PolicyRecommender(POLICY, History.start(sessions, 2), Streams(7)), policy, 1)
        runtime = TorchRuntime(network_of(WORLD.story(recommender, 6)), Drawn(Streams(7), sessions))
        with torch.no_grad():
            seen[bias] = runtime.trajectory(3, variables=["available", "slate", "corpus"])
    same = {
        name: [torch.equal(*(seen[bias]["available"].get(name)[step, group] for bias in seen)) for group in (0, 1)]
        for name in ("provider", "features")
        for step in (2,)
    }
    assert same == {"provider": [True, False], "features": [True, False]}
    first = [seen[bias]["available"].get("provider")[0] for bias in seen]
    assert torch.equal(*first) and bool((seen[50.0]["slate"].get("items")[:, 3:, 0] == 4).all())


class _ForPopulation:
    """One policy for all populations but one, which has another."""

    def __init__(self, inner: PolicyRecommender, other: SoftmaxPolicy, population: int) -> None:
        self.inner, self.other, self.population = inner, other, population
        self.initial_state, self.next_state, self.specs = inner.initial_state, inner.next_state, inner.specs

    def offer(self, state: Value, observation: Value, available: Value) -> Value:
        theirs = self.inner.offer(state, observation, available).as_dict
        history = state.get("sessions")
        own = PolicyRecommender(self.other, self.inner.start, self.inner.streams).offer(state, observation, available)
        chosen = (history.session // SETTINGS.population == self.population)[:, None]
        return Value(**{name: torch.where(chosen, own.get(name), theirs[name]) for name in theirs})


def test_the_best_document_of_each_offered_provider_is_shown() -> None:
    sizes = Sizes(population=2, providers=4, documents=4, topics=1, slate_size=3)
    available = Value(
        provider=torch.tensor([[0, 0, 2, 0], [3, 1, 1, 3]]),
        features=torch.tensor([[[0.0], [5.0], [1.0], [9.0]], [[1.0], [2.0], [3.0], [4.0]]]),
    )
    observation = Value(interest=torch.tensor([[4.0], [8.0], [2.6], [3.9]]))
    items = torch.tensor([[0, 1, 2], [2, 0, 3], [1, 3, 0], [3, -1, 1]])
    slate = BestDocuments(UniformRecommender(4, 4, 3), sizes).slate(observation, available, Value(items=items))
    assert slate.get("document").tolist() == [[1, -1, 2], [2, 3, -1], [2, 3, -1], [3, -1, 2]]
    assert torch.equal(slate.get("items"), items)
    assert slate.get("features")[[0, 0, 2, 3], [0, 2, 0, 0], 0].tolist() == [5.0, 1.0, 3.0, 4.0]


def test_silent_providers_keep_their_place_and_are_not_clicked() -> None:
    sessions = sessions_of(*range(40))
    recommender = PolicyRecommender(POLICY, History.start(sessions, 2), Streams(7))
    runtime = TorchRuntime(network_of(WORLD.story(recommender, len(sessions))), Drawn(Streams(7), sessions))
    nothing = 0
    with torch.no_grad():
        for values in islice(runtime.steps(), 4):
            slate, outcome = values["slate"], values["outcome"]
            provider = values["available"].get("provider").repeat_interleave(3, 0)
            silent = ~(slate.get("items")[..., None] == provider[:, None]).any(-1)
            assert torch.equal(slate.get("document") < 0, silent) and 0 < int(silent.sum()) < silent.numel()
            assert bool((slate.get("items") >= 0).all())
            for name in ("consumed", "reward", "utility"):
                assert not bool(outcome.get(name)[silent].any()), name
            assert torch.equal(outcome.get("consumed").sum(-1) == 0, silent.all(-1))
            nothing += int(silent.all(-1).sum())
    assert nothing > 0


def test_stories_of_items_and_of_documents_are_told_apart() -> None:
    assert isinstance(WORLD.myopic(3), SlateMaker) and not isinstance(UniformRecommender(3, 5, 2), SlateMaker)
    story = {variable.name: variable for variable in WORLD.story(UniformRecommender(3, 5, 2), 3)}
    assert set(story["slate"].spec.as_dict) == {"items", "document", "features"}


@pytest.mark.parametrize("sessions", [[0, 1], [1, 2, 3], [0, 2, 1], [3, 4, 5, 6], [0, 1, 5], [0, 0, 0]])
def test_populations_that_are_not_whole_are_refused(sessions: list[int]) -> None:
    with pytest.raises(InputError, match="users of ecosystem meet in populations of 3"):
        WORLD.rollout(POLICY, torch.tensor(sessions), Streams(7))


def test_batches_of_populations_that_are_not_whole_are_refused() -> None:
    with pytest.raises(ValueError, match="batch = 4: wanted a multiple of the population, 3"):
        WORLD.story(UniformRecommender(4, 5, 2), 4)


def test_rollouts_are_sessions_of_the_policy() -> None:
    done = rollout(0, 1)
    assert done.items.shape == (6, 4, 2) and not bool(done.terminated.any())
    assert bool((done.items[..., 0] != done.items[..., 1]).all())
    torch.testing.assert_close(log_prob_of_sessions(POLICY, done).detach(), done.propensity.log())
    turns = list(WORLD.turns(POLICY, sessions_of(0, 1), Streams(7)))
    assert len(turns) == 4 and torch.equal(turns[-1].history.items, done.items)
    for population, part in ((1, done.take(torch.arange(3, 6))), (0, done.take(torch.arange(3)))):
        alone = rollout(population)
        assert torch.equal(alone.items, part.items) and torch.equal(alone.reward, part.reward)
        assert torch.equal(alone.feedback["utility"], part.feedback["utility"])
        torch.testing.assert_close(alone.propensity, part.propensity)


def test_logs_do_not_depend_on_how_populations_are_batched() -> None:
    one, several = (simulate(POLICY, WORLD, 36, seed=2, batch=batch) for batch in (3, 16))  # 16: 5 populations
    assert np.array_equal(one.items, several.items) and np.array_equal(one.reward, several.reward)
    utility = one.feedback["utility"].values
    assert np.array_equal(utility, several.feedback["utility"].values)
    assert np.array_equal(one.reward, (utility > 0).astype(np.float32)) and 0 < one.reward.mean() < 0.5
    assert set(np.unique(one.feedback["consumed"].values)) == {0.0, 1.0}
    value = simulated_value(POLICY, WORLD, 36, seed=2, batch=15)
    assert value.value == pytest.approx(one.reward.sum() / 36)
    with pytest.raises(InputError, match="populations of 3"):
        simulate(POLICY, WORLD, 35, batch=15)


def test_the_default_world_fits_the_default_batch_and_says_what_items_are_like() -> None:
    world = ecosystem()
    assert 2048 % world.population == 0 and world.catalogue == 80
    world.check_sessions(torch.arange(2048))
    policy = SoftmaxPolicy(SoftmaxConfig(80))
    log = simulate(policy, replace(world, horizon=3), 512)
    rate = log.reward.sum(1).mean()
    assert log.steps == 1536 and 0.03 < rate < 0.2  # RecSim NG's recommender: .77
    assert world.vectors.shape == (80, 2) and world.appeal.shape == (80,)


def test_appeal_is_what_the_average_user_expects() -> None:
    """2 minus the distance, whose mean lies a little below the root of the mean square; the order is the same."""
    sessions = torch.arange(30_000)
    with torch.no_grad():
        user = WORLD.user(30_000)
        interest = Drawn(Streams(0), sessions).resolve("user.interest", user.initial_state().get("interest"), 0)
        noise = Drawn(Streams(1), sessions).resolve("noise", Normal(torch.zeros(30_000, 2), 1.0), 0)
        distance = torch.cdist(interest - noise, WORLD.vectors).mean(0)
    assert bool((WORLD.appeal <= 2 - distance + 0.05).all()) and bool((WORLD.appeal > 2 - 1.3 * distance).all())
    assert torch.equal(WORLD.appeal.argsort(), (2 - distance).argsort())


def test_a_shared_field_is_drawn_at_its_groups_first_address() -> None:
    sessions = torch.tensor([8, 9, 10, 11, 0, 1, 2, 3])
    shared = Shared(Normal(torch.zeros(2, 3), torch.ones(2, 3)), 4)
    drawn = Drawn(Streams(0), sessions).resolve("field", shared, 5)
    assert torch.equal(drawn, Drawn(Streams(0), torch.tensor([8, 0])).resolve("field", shared.base, 5))
    assert uniforms_needed(shared) == 3 and torch.equal(shared.mean, torch.zeros(2, 3))
    score = shared.log_prob(drawn)
    torch.testing.assert_close(score[[0, 4]], shared.base.log_prob(drawn).sum(1))
    assert score.shape == (8,) and not bool(score[[1, 2, 3, 5, 6, 7]].any())
    choice = Shared(Categorical(logits=torch.zeros(2, 7), validate_args=False), 4)
    assert choice.log_prob(torch.tensor([0, 6])).exp().tolist() == pytest.approx([1 / 7, 1, 1, 1, 1 / 7, 1, 1, 1])
    one = Shared(Uniform(torch.zeros(1), torch.ones(1), validate_args=False), 1)
    assert one.log_prob(torch.tensor([0.5])).tolist() == [0.0]


def test_groups_that_are_not_whole_are_refused() -> None:
    shared = Shared(Normal(torch.zeros(2), torch.ones(2)), 4)
    with pytest.raises(ValueError, match="7 sessions for 2 groups of 4"):
        Drawn(Streams(0), torch.arange(7)).resolve("field", shared, 0)


@pytest.mark.slow
def test_compiled_steps_agree_with_eager_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recil.sim.compiled._noticed", set())  # a story that is not compiled warns, and so fails here
    sessions = sessions_of(0, 4)
    story = [network_of(WORLD.story(WORLD.myopic(6), 6)) for _ in range(2)]
    with torch.no_grad():
        eager, compiled = (
            TorchRuntime(network, Drawn(Streams(7), sessions), compiled=mode).execute(6)
            for network, mode in zip(story, (False, True), strict=True)
        )
    for variable, value in eager.items():
        for name, field in value.as_dict.items():
            torch.testing.assert_close(compiled[variable].get(name), field, msg=f"{variable}.{name}")
