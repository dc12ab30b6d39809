"""Long-term satisfaction against its formulas, written out here once more: steps, moments, densities, fits."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from recsim_ng.core.value import Value
from scipy import integrate, optimize, stats
from shown_slates import Shows
from statistics_helper import assert_mean
from torch import Tensor, nn

from recil.logs.history import History
from recil.random import Streams
from recil.sim.network import network_of
from recil.sim.recommendation import recommendation_story
from recil.sim.recommenders.policy import PolicyRecommender
from recil.sim.recommenders.uniform import UniformRecommender
from recil.sim.resolvers import Drawn
from recil.sim.runtime import TorchRuntime
from recil.sim.worlds.long_term_satisfaction import (
    RECSIM,
    ClickbaitCorpus,
    LongTermSatisfactionSettings,
    LongTermSatisfactionUser,
    long_term_satisfaction,
)

SETTINGS = LongTermSatisfactionSettings(
    items=7,
    slate_size=3,
    horizon=9,
    attraction=1.5,
    no_click_logit=0.5,
    memory_discount=0.8,
    sensitivity=0.3,
    innovation_noise=0.25,
    initial_exposure=4.0,
    choc_mean=5.0,
    choc_spread=1.25,
    kale_mean=3.0,
    kale_spread=0.5,
)
"""No two numbers alike, so that none can stand in for another."""
SLATES = "offer.items"
FIELDS = ("outcome.reward", "response.choice", "user.exposure")
ALWAYS_ONE = replace(SETTINGS, slate_size=1, no_click_logit=-math.inf, items=2)
KALE, CHOC = Shows([[0]], 2), Shows([[1]], 2)


def expit(x):
    return 1 / (1 + np.exp(-x))


def runtime_of(settings: LongTermSatisfactionSettings, batch: int, seed: int = 0, **learned: Tensor) -> TorchRuntime:
    """Users who meet uniform slates, in double precision."""
    user = LongTermSatisfactionUser(settings, batch, **learned)
    shows = UniformRecommender(batch, settings.items, settings.slate_size)
    network = network_of(recommendation_story(ClickbaitCorpus(settings), user, shows))
    return TorchRuntime(network, Drawn(Streams(seed), torch.arange(batch))).to(dtype=torch.float64)


def observed_in(path) -> dict[str, Tensor]:
    return {name: path[name.split(".")[0]].get(name.split(".")[1]) for name in (SLATES, *FIELDS)}


def clickbait_of(settings: LongTermSatisfactionSettings) -> np.ndarray:
    return ClickbaitCorpus(settings).clickbait.double().numpy()


def log_engagement(settings: LongTermSatisfactionSettings, clickbait, exposure, sensitivity=None):
    """Mean and standard deviation of the log of engagement with an item."""
    satisfaction = expit((settings.sensitivity if sensitivity is None else sensitivity) * exposure)
    mean = clickbait * settings.choc_mean + (1 - clickbait) * settings.kale_mean
    return satisfaction * mean, clickbait * settings.choc_spread + (1 - clickbait) * settings.kale_spread


def scores_by_hand(settings: LongTermSatisfactionSettings, seen: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Log-density of every field of the users, [T, B], number by number."""
    items, reward, choice, exposure = (seen[name] for name in (SLATES, *FIELDS))
    clickbait, size = clickbait_of(settings), settings.slate_size
    scores = {name: np.zeros(choice.shape) for name in FIELDS}
    for step, session in np.ndindex(choice.shape):
        shown, picked = clickbait[items[step, session]], choice[step, session]
        logits = np.append(settings.attraction * shown, settings.no_click_logit)
        scores["response.choice"][step, session] = logits[picked] - np.log(np.exp(logits).sum())
        if picked < size:
            mean, spread = log_engagement(settings, shown[picked], exposure[step, session])
            engagement = reward[step, session, picked]
            scores["outcome.reward"][step, session] = stats.lognorm.logpdf(engagement, spread, scale=math.exp(mean))
        if step == 0:
            scores["user.exposure"][step, session] = -math.log(2 * settings.initial_exposure)
        elif choice[step - 1, session] < size:
            eaten = clickbait[items[step - 1, session, choice[step - 1, session]]]
            place = settings.memory_discount * exposure[step - 1, session] - 2 * (eaten - 0.5)
            moved = stats.norm.logpdf(exposure[step, session], place, settings.innovation_noise)
            scores["user.exposure"][step, session] = moved
    return scores


def test_the_density_of_a_simulated_trajectory_is_the_one_written_by_hand() -> None:
    runtime = runtime_of(SETTINGS, 40)
    seen = observed_in(runtime.trajectory(9))
    scored = runtime.log_prob(seen, 9)
    by_hand = scores_by_hand(SETTINGS, {name: values.numpy() for name, values in seen.items()})
    for name in FIELDS:
        np.testing.assert_allclose(scored.fields[name].numpy(), by_hand[name], rtol=0, atol=1e-10, err_msg=name)
    of_users = scored.by_step - scored.fields[SLATES]
    np.testing.assert_allclose(of_users.sum(0).numpy(), sum(by_hand.values()).sum(0), rtol=0, atol=1e-10)
    consumed = seen["response.choice"] < SETTINGS.slate_size
    assert 0 < int(consumed.sum()) < consumed.numel()


def test_a_step_from_a_known_state_is_the_formula() -> None:
    user = LongTermSatisfactionUser(replace(SETTINGS, innovation_noise=0.0, time_budget=5), 4)
    before = Value(exposure=torch.tensor([2.0, -3.0, 0.5, 1.0]), consumed=torch.tensor([0, 4, 3, 4]))
    slate = Value(clickbait=torch.tensor([[0.0, 1.0, 0.25]]).expand(4, 3), items=torch.tensor([[0, 6, 2]]).expand(4, 3))
    response = Value(choice=torch.tensor([0, 1, 2, 3]))  # the last one: nothing
    outcome = user.outcome(before, slate, response)
    assert outcome.get("leaves").tolist() == [False, True, False, False]
    after = user.next_state(before, slate, response, outcome)
    assert after.get("consumed").tolist() == [1, 5, 4, 4]
    wanted = [0.8 * 2 + 1, 0.8 * -3 - 1, 0.8 * 0.5 + 0.5, 1.0]
    exposure = after.get("exposure")
    np.testing.assert_allclose(exposure.mean.numpy(), wanted, rtol=1e-6)
    assert exposure.log_prob(exposure.mean).tolist() == [0.0] * 4  # without noise it is certain
    assert "leaves" not in LongTermSatisfactionUser(SETTINGS, 4).outcome(before, slate, response).as_dict


def test_engagement_that_cannot_be_is_impossible() -> None:
    user = LongTermSatisfactionUser(SETTINGS, 1)
    slate = Value(clickbait=torch.tensor([[0.0, 1.0, 0.5]]), items=torch.tensor([[0, 6, 3]]))
    state = Value(exposure=torch.zeros(1), consumed=torch.tensor([0]))
    reward = user.outcome(state, slate, Value(choice=torch.tensor([1]))).get("reward")
    for values, finite in (
        ([0.0, 2.0, 0.0], [True, True, True]),
        ([1.0, 2.0, 0.0], [False, True, True]),
        ([0.0, 0.0, 0.0], [True, False, True]),
        ([0.0, -2.0, 0.0], [True, False, True]),
    ):
        score = reward.log_prob(torch.tensor([values]))
        assert torch.isfinite(score).tolist() == [finite] and bool((score < torch.inf).all())


@pytest.mark.parametrize(("policy", "push"), [(KALE, 1.0), (CHOC, -1.0)])
def test_exposure_and_engagement_have_the_moments_of_their_recursion(policy: Shows, push: float) -> None:
    world = long_term_satisfaction(ALWAYS_ONE)
    done = world.rollout(policy, torch.arange(20_000), Streams(1))
    bait = policy.slates[0][0]
    # The first exposure is uniform; the log of the first engagement is normal around what follows from it.
    first = done.reward[:, 0, 0].log().double().numpy()
    of_exposure = [
        integrate.quad(lambda x, power=power: log_engagement(ALWAYS_ONE, bait, x)[0] ** power / 8, -4, 4)[0]
        for power in (1, 2)
    ]
    spread = log_engagement(ALWAYS_ONE, bait, 0.0)[1]
    assert_mean(first, of_exposure[0])
    assert_mean(first**2, of_exposure[1] + spread**2)
    exposures = exposures_under(policy, steps=4, batch=20_000)
    discount, noise = ALWAYS_ONE.memory_discount, ALWAYS_ONE.innovation_noise
    for step in range(4):
        mean = push * (1 - discount**step) / (1 - discount)
        variance = discount ** (2 * step) * 16 / 3 + noise**2 * (1 - discount ** (2 * step)) / (1 - discount**2)
        assert_mean(exposures[step], mean)
        assert_mean((exposures[step] - mean) ** 2, variance)


def exposures_under(policy: Shows, steps: int, batch: int) -> np.ndarray:
    """[steps, batch]."""
    streams, sessions = Streams(2), torch.arange(batch)
    shows = PolicyRecommender(policy, History.start(sessions, 1), streams)
    network = network_of(long_term_satisfaction(ALWAYS_ONE).story(shows, batch))
    path = TorchRuntime(network, Drawn(streams, sessions)).trajectory(steps, variables=["user"])
    return path["user"].get("exposure").double().numpy()


def test_discount_and_sensitivity_are_recovered_from_what_was_observed() -> None:
    sessions, steps = 300, 20
    seen = observed_in(runtime_of(SETTINGS, sessions, seed=5).trajectory(steps))
    learned = {
        "discount": nn.Parameter(torch.tensor(0.3, dtype=torch.float64)),
        "sensitivity": nn.Parameter(torch.tensor(0.0, dtype=torch.float64)),
    }
    runtime = runtime_of(SETTINGS, sessions, **learned)
    optimiser = torch.optim.LBFGS(learned.values(), max_iter=60, tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = -runtime.log_prob(seen, steps).total.mean()
        value.backward()
        return value

    optimiser.step(loss)
    for name, (estimate, error) in estimates_by_hand({name: values.numpy() for name, values in seen.items()}).items():
        truth = {"discount": SETTINGS.memory_discount, "sensitivity": SETTINGS.sensitivity}[name]
        assert learned[name].item() == pytest.approx(estimate, rel=1e-5), name
        assert abs(estimate - truth) < 4.9 * error < 0.05, name  # false alarm 1e-6


def estimates_by_hand(seen: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """Maximum likelihood and its standard error: least squares for the discount, a search for the sensitivity."""
    items, reward, choice, exposure = (seen[name] for name in (SLATES, *FIELDS))
    consumed = choice < SETTINGS.slate_size
    place = choice.clip(max=SETTINGS.slate_size - 1)[..., None]
    eaten = clickbait_of(SETTINGS)[np.take_along_axis(items, place, -1)[..., 0]]
    went = consumed[:-1]
    x, y = exposure[:-1][went], (exposure[1:] + 2 * (eaten[:-1] - 0.5))[went]
    logged = np.log(np.take_along_axis(reward, place, -1)[..., 0][consumed])

    def residual(sensitivity: float) -> np.ndarray:
        mean, spread = log_engagement(SETTINGS, eaten[consumed], exposure[consumed], sensitivity)
        return (logged - mean) / spread

    best = optimize.minimize_scalar(
        lambda at: (residual(at) ** 2).sum(), bounds=(-1, 2), method="bounded", options={"xatol": 1e-10}
    ).x
    slope = (residual(best + 1e-5) - residual(best - 1e-5)) / 2e-5
    return {
        "discount": ((x @ y) / (x @ x), SETTINGS.innovation_noise / math.sqrt(x @ x)),
        "sensitivity": (best, 1 / math.sqrt(slope @ slope)),
    }


def ahead(gain: np.ndarray) -> bool:
    """Whether the mean is above 0 beyond chance, false alarm 1e-6."""
    return gain.mean() > 4.8 * gain.std() / math.sqrt(len(gain))


def test_choc_is_ahead_at_first_and_kale_in_the_long_run() -> None:
    world, sessions = long_term_satisfaction(), torch.arange(1000)
    kale, choc = (
        world.rollout(Shows([slate], 100), sessions, Streams(0)).reward.sum(-1).double().numpy()
        for slate in ([0, 1], [99, 98])
    )
    assert ahead(choc[:, 0] - kale[:, 0])
    assert ahead(kale.sum(1) - choc.sum(1)) and ahead(kale[:, 30:].sum(1) - 2 * choc[:, 30:].sum(1))


def test_recsims_own_users_are_never_moved_enough() -> None:
    world, sessions = long_term_satisfaction(RECSIM), torch.arange(1000)
    kale, choc = (
        world.rollout(Shows([[item]], 100), sessions, Streams(0)).reward.sum(-1).double().numpy() for item in (0, 99)
    )
    assert ahead(choc[:, 0] - kale[:, 0]) and ahead(choc[:, -1] - kale[:, -1])
