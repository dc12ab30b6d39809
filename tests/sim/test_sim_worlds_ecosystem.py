"""The ecosystem's story: RecSim NG's own facts, a second writing of it in numpy, and its density written by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from recsim_ng.core.value import Value
from scipy import stats

from recil.random import Streams
from recil.sim.network import network_of
from recil.sim.recommenders.documents import Sizes, clicks_of_providers, similarity, slate_of
from recil.sim.recommenders.myopic import MyopicRecommender
from recil.sim.resolvers import Drawn, Observed
from recil.sim.runtime import TorchRuntime
from recil.sim.worlds.ecosystem import EcosystemUser, ecosystem
from recil.sim.worlds.ecosystem_corpus import EcosystemSettings, ProviderCorpus

RECSIM_MEANS = ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.0, 0.0))
# Every parameter away from its default and from 0, so that each leaves its mark on the moments.
MARKED = EcosystemSettings(
    providers=4,
    means=((1.0, 0.0), (0.0, 3.0), (-2.0, 1.0), (0.2, 0.1)),
    documents_per_provider=2,
    document_spread=0.6,
    gamma=2.5,
    discount=0.5,
    user_spread=3.0,
    utility_spread=0.7,
    slate_size=2,
    boost_cap=5.0,
    population=8,
)


def runtime_of(settings: EcosystemSettings, populations: int, seed: int = 0) -> TorchRuntime:
    """The story with RecSim NG's recommender, for populations 0, 1, ..."""
    world, batch = ecosystem(settings), populations * settings.population
    variables = world.story(world.myopic(batch), batch)
    return TorchRuntime(network_of(variables), Drawn(Streams(seed), torch.arange(batch)))


def test_recsims_mean_cumulative_reward() -> None:
    """2,000 users, horizon 2, mean -14 within 5%: RecSim NG's metrics lag, its horizon 2 counts one interaction.

    RecSim NG's test takes the mean of 2 runs, which differ by the documents of the moment; here it is that of 20.
    """
    settings = EcosystemSettings(providers=4, means=RECSIM_MEANS, population=2000)
    with torch.no_grad():
        metrics = runtime_of(settings, populations=20).execute(0)["metrics"]
    assert float(metrics.get("cumulative_utility").mean()) == pytest.approx(-14, rel=0.05)


def numpy_population(settings: EcosystemSettings, steps: int, draw: np.random.Generator) -> dict[str, np.ndarray]:
    """One population, user by user and document by document."""
    means = np.array(settings.means)
    providers, users = len(means), settings.population
    norms = 1 + np.sqrt((means**2).sum(1))
    kinds = draw.choice(providers, users, p=(1 / norms) / (1 / norms).sum())
    interests = [means[kind] + settings.user_spread / norms[kind] * draw.standard_normal(2) for kind in kinds]
    clicks, pulls = np.zeros(providers), np.zeros(providers)
    seen: dict[str, list] = {"clicks": [], "utility": [], "consumed": [], "published": []}
    for _ in range(steps):
        weight = (1 + clicks) ** settings.gamma
        publisher = draw.choice(providers, providers * settings.documents_per_provider, p=weight / weight.sum())
        documents = [means[p] + settings.document_spread * draw.standard_normal(2) for p in publisher]
        boost = [min(max(pulls.mean() - pull, -settings.boost_cap), settings.boost_cap) for pull in pulls]
        now, utilities = np.zeros(providers), []
        for interest in interests:
            near = [2 - math.dist(interest, document) for document in documents]
            boosted = [score + boost[provider] for score, provider in zip(near, publisher, strict=True)]
            scores = draw.uniform(np.minimum(near, boosted), np.maximum(near, boosted))
            slate = sorted(range(len(scores)), key=lambda place: -scores[place])[: settings.slate_size]
            worth = np.array([near[place] for place in slate])
            choice = draw.choice(len(slate), p=np.exp(worth) / np.exp(worth).sum())
            now[publisher[slate[choice]]] += 1
            utilities.append(worth[choice] + settings.utility_spread * draw.standard_normal())
        seen["published"].append(np.bincount(publisher, minlength=providers))
        seen["clicks"].append(clicks)
        seen["consumed"].append(now)
        seen["utility"].append(utilities)
        clicks, pulls = settings.discount * clicks + now, pulls + now
    return {name: np.array(values) for name, values in seen.items()}


def moments(seen: dict[str, np.ndarray]) -> np.ndarray:
    """[populations, statistics]: independent between populations, and each with a mean that the world's law fixes."""
    clicks, published, consumed, utility = (seen[name] for name in ("clicks", "published", "consumed", "utility"))
    leaders = clicks.argmax(-1)[..., None]
    parts = [
        np.take_along_axis(published, leaders, -1),
        clicks,
        clicks**2,
        published,
        published * clicks,
        consumed / consumed.sum(-1, keepdims=True),
        consumed**2,
        utility.mean(-1),
        (utility**2).mean(-1),
        utility[:, 1:].mean(-1) * utility[:, :-1].mean(-1),
        (utility > 0).mean(-1),
    ]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], 1)


def test_moments_are_those_of_a_second_writing() -> None:
    """Two-sample bounds on every moment, steps 0 to 3. False alarm: 1e-6 in all."""
    populations, steps = 500, 4
    draw = np.random.default_rng(5)
    written = [numpy_population(MARKED, steps, draw) for _ in range(populations)]
    theirs = moments({name: np.stack([seen[name] for seen in written]) for name in written[0]})
    many = 6000
    with torch.no_grad():
        told = runtime_of(MARKED, many, seed=3).trajectory(steps)
    groups = (steps, many, MARKED.population)
    items = told["slate"].get("items").reshape(*groups, -1)
    click = told["outcome"].get("consumed").reshape(*groups, -1).bool()
    one_hot = torch.nn.functional.one_hot(items, 4) * click[..., None]
    ours = moments(
        {
            "clicks": told["corpus"].get("clicks").transpose(0, 1).numpy(),
            "published": torch.nn.functional.one_hot(told["available"].get("provider"), 4)
            .sum(2)
            .transpose(0, 1)
            .numpy(),
            "consumed": one_hot.sum((2, 3)).transpose(0, 1).numpy(),
            "utility": told["outcome"].get("utility").sum(-1).reshape(groups).transpose(0, 1).numpy(),
        }
    )
    error = np.sqrt(ours.var(0) / len(ours) + theirs.var(0) / len(theirs))
    bound = stats.norm.isf(1e-6 / 2 / ours.shape[1]) * error + 1e-6
    apart = np.abs(ours.mean(0) - theirs.mean(0))
    assert (apart <= bound).all(), (np.nonzero(apart > bound)[0], (apart / bound).max())
    assert (error > 0).sum() > 90  # only what holds by construction (no clicks before the first slate) never varies


def test_rewards_are_utilities_above_0() -> None:
    with torch.no_grad():
        told = runtime_of(MARKED, 40).trajectory(3)
    utility, reward, consumed = (told["outcome"].get(name) for name in ("utility", "reward", "consumed"))
    assert torch.equal(reward, (utility > 0).float()) and 0 < float(reward.mean()) < 0.5
    assert torch.equal(consumed.sum(-1), torch.ones(3, 320)) and bool((utility[consumed == 0] == 0).all())
    metrics = told["metrics"]
    torch.testing.assert_close(metrics.get("cumulative_utility"), utility.sum(-1).cumsum(0))
    torch.testing.assert_close(metrics.get("cumulative_reward"), reward.sum(-1).cumsum(0))


def test_the_log_probability_is_the_sum_of_densities_written_by_hand() -> None:
    populations, steps = 3, 3
    with torch.no_grad():
        runtime = runtime_of(MARKED, populations).to(dtype=torch.float64)
        told = runtime.trajectory(steps)
        seen = {
            f"{variable}.{field}": told[variable].get(field)
            for variable, field in (
                ("corpus", "provider"), ("available", "features"), ("user", "interest"),
                ("offer", "share"), ("response", "choice"), ("response", "surprise"),
            )
        }  # fmt: skip
        scored = runtime.log_prob(seen, steps)
    by_hand = [sum(_densities(told, population, steps)) for population in range(populations)]
    of_populations = scored.total.reshape(populations, -1).sum(1)
    np.testing.assert_allclose(of_populations.numpy(), by_hand, rtol=0, atol=1e-6)
    # What a population shares is counted once, with its first user.
    shared = scored.fields["available.features"].reshape(steps, populations, -1)
    assert bool((shared[..., 0] != 0).all()) and not bool(shared[..., 1:].any())
    torch.testing.assert_close(runtime.score_function(steps - 1)[1].detach(), scored.total)
    start = next(runtime.steps())
    from_start = runtime.log_prob(seen, steps, start).by_step
    torch.testing.assert_close(from_start[1:], scored.by_step[1:])
    assert not bool(from_start[0].any()) and not bool(
        runtime.log_prob({n: v[:1] for n, v in seen.items()}, 1, start).total.any()
    )
    moved = {**seen, "available.features": seen["available.features"] + 0.1}
    assert not bool(torch.isclose(runtime.log_prob(moved, steps).total.sum(), scored.total.sum()))


def _densities(told, population: int, steps: int) -> list[float]:
    """Log-densities of all that one population drew."""
    users = slice(population * MARKED.population, (population + 1) * MARKED.population)
    means = np.array(MARKED.means, dtype=np.float32).astype(float)
    norms = 1 + np.linalg.norm(means, axis=1)
    interest = told["user"].get("interest")[:, users].numpy()
    kinds = [stats.multivariate_normal(means[p], (3.0 / norms[p]) ** 2) for p in range(4)]
    prior = (1 / norms) / (1 / norms).sum()
    found = [float(np.log(sum(prior[p] * kinds[p].pdf(interest[0]) for p in range(4))).sum())]
    for step in range(steps):
        clicks = told["corpus"].get("clicks")[step, population].numpy()
        provider = told["corpus"].get("provider")[step, population].numpy()
        features = told["available"].get("features")[step, population].numpy()
        share = (1 + clicks) ** 2.5 / ((1 + clicks) ** 2.5).sum()
        found.append(np.log(share[provider]).sum())
        found.append(stats.norm(means[provider], 0.6).logpdf(features).sum())
        document = told["slate"].get("document")[step, users].numpy()
        choice = told["response"].get("choice")[step, users].numpy()
        worth = 2 - np.linalg.norm(interest[step][:, None] - features[document], axis=-1)
        chance = np.exp(worth) / np.exp(worth).sum(1, keepdims=True)
        rows = np.arange(len(choice))
        found.append(np.log(chance[rows, choice]).sum())
        utility = told["outcome"].get("utility")[step, users].numpy()[rows, choice]
        found.append(stats.norm(worth[rows, choice], 0.7).logpdf(utility).sum())
    return found


def test_clicks_are_forgotten_little_by_little() -> None:
    """RecSim NG's corpus_test, and its discount."""
    settings = EcosystemSettings(providers=3, slate_size=2, population=3, discount=0.5)
    corpus = ProviderCorpus(settings, 3)
    items = torch.tensor([[0, 1], [0, 1], [0, 1]])
    slate, outcome = Value(items=items), Value(consumed=torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    after = corpus.next_state(corpus.initial_state(), slate, Value(), outcome)
    assert after.get("clicks").tolist() == [[1.0, 2.0, 0.0]]
    again = corpus.next_state(Value(clicks=after.get("clicks")), slate, Value(), outcome)
    assert again.get("clicks").tolist() == [[1.5, 3.0, 0.0]]


def test_documents_come_from_providers_as_one_plus_clicks_to_the_gamma() -> None:
    settings = EcosystemSettings(providers=3, means=((1.0, 1.0), (0.0, 0.0), (-1.0, -1.0)), population=1)
    corpus = ProviderCorpus(settings, 1)
    before = Value(clicks=torch.tensor([[0.0, 100.0, 0.0]]) / 0.96)
    nothing = Value(items=torch.full((1, 3), -1)), Value(), Value(consumed=torch.zeros(1, 3))
    provider = corpus.next_state(before, *nothing).get("provider")
    wanted = torch.tensor([1.0, 101.0**2, 1.0])
    torch.testing.assert_close(provider.base.probs, (wanted / wanted.sum()).expand(1, 15, 3))
    features = corpus.available(Value(provider=torch.tensor([[0, 2]]))).get("features")
    assert features.mean.tolist() == [[[1.0, 1.0], [-1.0, -1.0]]]


def test_clicks_are_counted_within_each_population() -> None:
    items = torch.tensor([[0, 2], [2, 0], [1, 2], [-1, 1]])
    click = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert clicks_of_providers(items, click, 2, 3).tolist() == [[1, 0, 1], [0, 1, 1]]


SIZES = Sizes(population=3, providers=1, documents=4, topics=2, slate_size=2)


def _documents(provider: list[int], features: list[list[float]]) -> Value:
    return Value(provider=torch.tensor([provider]), features=torch.tensor([features]))


def test_the_nearest_documents_are_shown_where_nobody_is_boosted() -> None:
    """RecSim NG's recommender_test: 2 minus the distance, the two best first. Its ties are left out."""
    available = _documents([0, 0, 0, 0], [[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    observation = Value(interest=torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.9, 1.0]]))
    recommender = MyopicRecommender(3, SIZES, 1.2)
    offer = recommender.offer(recommender.initial_state(), observation, available)
    root = 2 - math.sqrt(2)
    expected = torch.tensor([[1.0, 1.0, 2.0, root], [1.0, 1.0, root, 2.0]])
    torch.testing.assert_close(offer.get("similarity")[:2], expected)
    drawn = Value(**{**offer.as_dict, "share": torch.full((3, 4), 0.7)})
    slate = recommender.slate(observation, available, drawn)
    assert slate.get("document")[:, 0].tolist() == [2, 3, 1] and slate.get("document")[2].tolist() == [1, 2]
    assert slate.get("items").tolist() == [[0, 0]] * 3
    assert slate.get("features")[2].tolist() == [[1.0, 1.0], [0.0, 1.0]]


def test_providers_are_boosted_by_what_they_lack_of_the_mean_within_the_cap() -> None:
    sizes = Sizes(population=1, providers=3, documents=4, topics=2, slate_size=1)
    available = _documents([0, 1, 2, 2], [[0.0, 0.0], [0.4, 0.0], [0.9, 0.0], [9.0, 0.0]])
    observation = Value(interest=torch.zeros(1, 2))
    recommender = MyopicRecommender(1, sizes, 0.9)
    offer = recommender.offer(Value(pulls=torch.tensor([[9.0, 3.5, 0.1]])), observation, available)
    torch.testing.assert_close(offer.get("boost"), torch.tensor([[-0.9, 4.2 - 3.5, 0.9, 0.9]]))
    shares = {0: [0.0, 0.0, 0.0, 0.0], 1: [0.5, 0.5, 0.5, 0.5], 2: [1.0, 0.0, 1.0, 1.0]}
    for best, share in shares.items():  # scores less 2: (0, -.4, -.9), then (-.45, -.05, -.45), then (-.9, -.4, 0)
        drawn = Value(**{**offer.as_dict, "share": torch.tensor([share])})
        assert recommender.slate(observation, available, drawn).get("items").tolist() == [[best]]


def test_pulls_are_counted_without_discount() -> None:
    recommender = MyopicRecommender(3, SIZES, 1.2)
    slate, outcome = Value(items=torch.zeros(3, 2, dtype=torch.int64)), Value(consumed=torch.eye(3)[:, :2])
    after = recommender.next_state(recommender.initial_state(), slate, Value(), outcome)
    assert recommender.next_state(after, slate, Value(), outcome).get("pulls").tolist() == [[4.0]]


def test_users_see_the_documents_of_their_own_population() -> None:
    features = torch.arange(24.0).reshape(2, 6, 2)
    available = Value(provider=torch.arange(12).reshape(2, 6) % 5, features=features)
    slate = slate_of(available, torch.tensor([[5, -1], [0, 0], [5, 1], [-1, 2]]))
    assert slate.get("items").tolist() == [[0, -1], [0, 0], [1, 2], [-1, 3]]
    assert slate.get("features")[0, 0].tolist() == [10.0, 11.0] and slate.get("features")[3, 1].tolist() == [16.0, 17.0]
    interest = torch.tensor([[10.0, 11.0], [0.0, 4.0], [12.0, 13.0], [9.0, 17.0]])
    near = similarity(interest, features)
    assert near[0, 5] == 2 and near[1, 0] == 2 - math.dist((0, 4), (0, 1)) and near[2, 0] == 2
    assert float(near[3, 2]) == pytest.approx(2 - 7)


def test_surprise_is_what_utility_adds_to_the_similarity() -> None:
    user = EcosystemUser(MARKED, 2)
    state = Value(interest=torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    slate = Value(document=torch.tensor([[0, 1], [1, -1]]), features=torch.tensor([[[3.0, 4.0], [0.0, 1.0]]] * 2))
    choice = user.response(state, slate).get("choice")
    torch.testing.assert_close(choice.probs[0], torch.tensor([-3.0, 1.0, -math.inf]).softmax(0))
    assert choice.probs[1].tolist() == [1, 0, 0]
    outcome = user.outcome(state, slate, Value(choice=torch.tensor([1, 2]), surprise=torch.tensor([0.5, 9.0])))
    assert outcome.get("utility").tolist() == [[0.0, 1.5], [0.0, 0.0]]
    assert outcome.get("reward").tolist() == [[0.0, 1.0], [0.0, 0.0]]
    assert outcome.get("consumed").tolist() == [[0.0, 1.0], [0.0, 0.0]]


def test_fewer_and_closer_users_gather_around_far_providers() -> None:
    mixture = EcosystemUser(MARKED, 1).interests.mixture()
    norms = 1 + np.linalg.norm(np.array(MARKED.means), axis=1)
    chances, spreads = mixture.logits.softmax(-1)[0].numpy(), mixture.parts.base_dist.scale[0, :, 0].numpy()
    np.testing.assert_allclose(chances, (1 / norms) / (1 / norms).sum(), rtol=1e-5)
    np.testing.assert_allclose(spreads, 3.0 / norms, rtol=1e-5)


def test_provider_means_come_from_the_seed_in_clusters() -> None:
    first, same, other = (EcosystemSettings(seed=seed).provider_means() for seed in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other) and first.shape == (80, 2)
    wide = EcosystemSettings(providers=5001, slate_size=1, cluster_size=3).provider_means()
    assert wide.shape == (5001, 2)
    within = (wide - wide.reshape(-1, 3, 2).mean(1).repeat_interleave(3, 0)).square().sum() / (2 * 3334)
    assert float(within) == pytest.approx(0.5, rel=0.1)
    assert float(wide.square().mean()) == pytest.approx(64.5, rel=0.12)
    # 6,668 and 3,334 squares of normal numbers: relative errors .017 and .024, so these are bounds of 5 errors.


def test_gradients_reach_the_providers_means_through_an_observed_trajectory() -> None:
    runtime = runtime_of(MARKED, 2)
    with torch.no_grad():
        told = runtime.trajectory(2)
    means = runtime.modules["ProviderCorpus"].means.requires_grad_()
    features, provider = told["available"].get("features"), told["corpus"].get("provider")
    scored = runtime.log_prob({"available.features": features, "corpus.provider": provider}, 2, latent=_again(told))
    scored.fields["available.features"].sum().backward()
    residual = (features - means.detach()[provider]) / 0.36
    expected = torch.zeros(4, 2).index_add(0, provider.flatten(), residual.flatten(0, 2))
    torch.testing.assert_close(means.grad, expected, rtol=1e-4, atol=1e-3)


def _again(told) -> Observed:
    names = (("user", "interest"), ("offer", "share"), ("response", "choice"), ("response", "surprise"))
    return Observed({f"{variable}.{field}": told[variable].get(field) for variable, field in names})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"providers": 0}, "providers = 0: wanted 1 or more"),
        ({"population": 0}, "population = 0: wanted 1 or more"),
        ({"utility_spread": 0.0}, "utility_spread = 0.0: wanted a number above 0"),
        ({"user_spread": math.inf}, "user_spread = inf: wanted a number above 0"),
        ({"gamma": -1.0}, "gamma = -1.0: wanted 0 or more"),
        ({"boost_cap": math.nan}, "boost_cap = nan: wanted 0 or more"),
        ({"discount": 1.5}, "discount = 1.5: wanted 0 to 1"),
        ({"providers": 2}, "slate_size = 3: wanted at most providers, 2"),
        ({"means": RECSIM_MEANS}, "wanted 80 rows of 2 finite numbers"),
        ({"means": RECSIM_MEANS, "providers": 4, "topics": 3}, "wanted 4 rows of 3 finite numbers"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EcosystemSettings(**changes)


def test_recommenders_that_cannot_be_are_refused() -> None:
    for batch, sizes, cap, message in (
        (4, SIZES, 1.0, "batch = 4: wanted a multiple of the population, 3"),
        (3, Sizes(3, 1, 1, 2, 2), 1.0, "slate_size = 2: there are 1 documents"),
        (3, SIZES, -1.0, "boost_cap = -1.0: wanted 0 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            MyopicRecommender(batch, sizes, cap)
