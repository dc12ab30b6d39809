"""Interest evolution against RecSim NG's formulas, and its moments against a simulation written here in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from recsim_ng.core.value import Value
from scipy import stats
from statistics_helper import assert_mean

from recil.random import Streams
from recil.sim.network import network_of
from recil.sim.recommenders.uniform import UniformRecommender
from recil.sim.resolvers import Drawn
from recil.sim.runtime import TorchRuntime
from recil.sim.worlds.interest_evolution import (
    InterestEvolutionSettings,
    InterestEvolutionUser,
    TopicCorpus,
    interest_evolution,
    squash,
)

SETTINGS = InterestEvolutionSettings(items=40, slate_size=3, horizon=12, topics=4, step_size=0.3)


def slate_of(items: torch.Tensor) -> Value:
    corpus = TopicCorpus(SETTINGS)
    return corpus.available(Value()).map(lambda field: field[items]).union(Value(items=items))


def test_responses_follow_recsim_ngs_formulas() -> None:
    user, slate = InterestEvolutionUser(SETTINGS, 2), slate_of(torch.tensor([[1, 5, 7], [0, 2, 3]]))
    interest = torch.tensor([[0.1, -0.4, 1.0, 0.3], [2.0, 0.0, 0.5, -1.0]])
    distribution = user.response(Value(interest=interest), slate).get("choice")
    for row in range(2):
        away = np.linalg.norm(interest[row].numpy() - slate.get("features")[row].numpy(), axis=1)
        weights = np.exp(np.append(2 - away, 0.0))
        np.testing.assert_allclose(distribution.probs[row].numpy(), weights / weights.sum(), rtol=1e-5)
    reward = user.outcome(Value(interest=interest), slate, Value(choice=torch.tensor([2, 3]))).get("reward")
    quality, length = slate.get("quality")[0, 2], slate.get("length")[0, 2]
    assert reward[0].tolist() == pytest.approx([0, 0, float(torch.sigmoid(-quality) * length)])
    assert reward[1].tolist() == [0, 0, 0]


def test_interest_moves_by_quality_and_is_squashed() -> None:
    user, slate = InterestEvolutionUser(SETTINGS, 2), slate_of(torch.tensor([[1, 5, 7], [0, 2, 3]]))
    before = torch.tensor([[0.1, -0.4, 1.0, 0.3], [8.0, 0.0, 0.5, -15.0]])
    after = user.next_state(
        Value(interest=before), slate, Value(choice=torch.tensor([1, 3])), Value(reward=torch.zeros(2, 3))
    ).get("interest").loc.numpy()  # fmt: skip
    quality, features = slate.get("quality")[0, 1].item(), slate.get("features")[0, 1].numpy()
    moved = before[0].numpy() + 0.3 * quality * (features - before[0].numpy())
    for row, values in ((0, moved), (1, before[1].numpy())):
        np.testing.assert_allclose(after[row], 40 * (1 / (1 + np.exp(-values / 10)) - 0.5), rtol=1e-5)
    assert abs(float(squash(torch.tensor(1e6), 10.0))) == pytest.approx(20)


def test_the_catalogue_is_drawn_from_its_seed() -> None:
    large = TopicCorpus(InterestEvolutionSettings(items=20_000, topics=10))
    means = np.concatenate([np.linspace(-1, 0, 7), np.linspace(0, 1, 3)])
    assert stats.chisquare(np.bincount(large.topic.numpy(), minlength=10)).pvalue > 1e-6
    topic = large.topic.numpy()
    assert stats.kstest((large.quality.numpy() - means[topic]) / 0.1, "norm").pvalue > 1e-6
    rest = (large.features.numpy() - np.eye(10)[topic]) / 0.7
    assert stats.kstest(rest.ravel()[:20_000], "norm").pvalue > 1e-6
    assert torch.equal(TopicCorpus(SETTINGS).features, TopicCorpus(SETTINGS).features)
    other = InterestEvolutionSettings(items=40, topics=4, seed=1)
    assert not torch.equal(TopicCorpus(other).features, TopicCorpus(SETTINGS).features)


def simulate_by_hand(settings: InterestEvolutionSettings, users: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Cumulative reward and last interest of users under uniform slates. Own generator, own loop."""
    corpus, random = TopicCorpus(settings), np.random.default_rng(5)
    features, quality, length = (getattr(corpus, name).numpy() for name in ("features", "quality", "length"))
    interest, total = random.normal(size=(users, settings.topics)), np.zeros(users)
    for _ in range(settings.horizon):
        slate = np.argsort(random.random((users, settings.items)), 1)[:, : settings.slate_size]
        logits = 2 - np.sqrt(((interest[:, None] - features[slate]) ** 2).sum(-1))
        logits = np.concatenate([logits, np.zeros((users, 1))], 1)
        choice = (logits + random.gumbel(size=logits.shape)).argmax(1)
        consumed = choice < settings.slate_size
        item = slate[np.arange(users), np.minimum(choice, settings.slate_size - 1)]
        total += np.where(consumed, length[item] / (1 + np.exp(quality[item])), 0)
        last = interest
        step = settings.step_size * quality[item][:, None] * (features[item] - interest)
        step += noise * random.normal(size=interest.shape)
        interest = interest + np.where(consumed[:, None], step, 0)
        interest = 40 * (1 / (1 + np.exp(-interest / 10)) - 0.5)
    return total, last


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_moments_agree_with_a_simulation_written_here(noise: float) -> None:
    settings = InterestEvolutionSettings(
        items=40, slate_size=3, horizon=12, topics=4, step_size=0.3, interest_noise=noise
    )
    users = 20_000
    story = interest_evolution(settings).story(UniformRecommender(users, 40, 3), users)
    end = TorchRuntime(network_of(story), Drawn(Streams(0), torch.arange(users))).execute(settings.horizon - 1)
    total, interest = end["metrics"].get("cumulative_reward").numpy(), end["user"].get("interest").numpy()
    by_hand, interest_by_hand = simulate_by_hand(settings, users, noise)
    bound = stats.norm.isf(1e-6 / 2)

    def assert_equal_means(one: np.ndarray, other: np.ndarray) -> None:
        error = math.sqrt(one.var() / len(one) + other.var() / len(other))
        assert abs(one.mean() - other.mean()) < bound * error, (one.mean(), other.mean(), error)

    assert_equal_means(total, by_hand)
    assert_equal_means(total**2, by_hand**2)
    for topic in range(4):
        assert_equal_means(interest[:, topic], interest_by_hand[:, topic])
        assert_equal_means(interest[:, topic] ** 2, interest_by_hand[:, topic] ** 2)


def test_uniform_slates_hold_distinct_items_all_equally_often() -> None:
    users = 20_000
    story = interest_evolution(SETTINGS).story(UniformRecommender(users, 40, 3), users)
    items = TorchRuntime(network_of(story), Drawn(Streams(1), torch.arange(users))).execute(0)["slate"].get("items")
    assert all(len(set(row)) == 3 for row in items.tolist())
    for place in range(3):
        assert stats.chisquare(np.bincount(items[:, place].numpy(), minlength=40)).pvalue > 1e-6
    together = ((items == 3).any(1) & (items == 17).any(1)).double().numpy()
    assert_mean(together, 3 * 2 / (40 * 39))


def test_the_likelihood_of_a_world_with_noise_is_that_of_the_formulas() -> None:
    """Choices and squashed normal steps, scored against scipy's densities with the change of variables by hand."""
    settings = InterestEvolutionSettings(items=40, slate_size=3, horizon=5, topics=4, interest_noise=0.4)
    user = InterestEvolutionUser(settings, 1)
    before, slate = torch.tensor([[0.1, -0.4, 1.0, 0.3]]), slate_of(torch.tensor([[1, 5, 7]]))
    outcome = Value(reward=torch.zeros(1, 3))
    moves = user.next_state(Value(interest=before), slate, Value(choice=torch.tensor([1])), outcome).get("interest")
    stays = user.next_state(Value(interest=before), slate, Value(choice=torch.tensor([3])), outcome).get("interest")
    after = torch.tensor([[0.3, -0.2, 0.9, 0.1]])
    quality, features = slate.get("quality")[0, 1].item(), slate.get("features")[0, 1].numpy()
    centre = before[0].numpy() + 0.1 * quality * (features - before[0].numpy())
    share = after[0].numpy() / 40 + 0.5
    raw = 10 * np.log(share / (1 - share))
    slope = 4 * share * (1 - share)
    wanted = stats.norm.logpdf(raw, centre, 0.4).sum() - np.log(slope).sum()
    assert float(moves.log_prob(after)) == pytest.approx(wanted, rel=1e-4)
    assert float(stays.log_prob(squash(before, 10.0))) == 0 and float(stays.log_prob(after)) == -math.inf


@pytest.mark.parametrize(("name", "number"), [("items", 0), ("slate_size", 41), ("horizon", -1), ("limit", 0.0)])
def test_settings_that_make_no_world_are_refused_by_name_and_value(name: str, number: float) -> None:
    with pytest.raises(ValueError, match=f"interest evolution: {name} = {number}"):
        InterestEvolutionSettings(**{"items": 40, name: number})
