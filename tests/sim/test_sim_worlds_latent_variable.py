"""Users with latent intents against their formulas, written out here once more: steps, moments, densities, fits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from recsim_ng.core.value import Value
from scipy import special, stats
from statistics_helper import assert_mean
from torch import Tensor, nn

from recil.random import Streams
from recil.sim.likelihood import LogProb
from recil.sim.network import network_of
from recil.sim.resolvers import Drawn
from recil.sim.runtime import TorchRuntime
from recil.sim.worlds.latent_variable import (
    LatentVariableSettings,
    LatentVariableUser,
    learning_story,
)

SETTINGS = LatentVariableSettings(
    slate_size=3,
    topics=2,
    document_spread=0.75,
    intent_spread=0.5,
    initial_satisfaction=1.5,
    sensitivity=0.7,
    satisfaction_noise=0.4,
    no_click_logit=1.0,
)
INTENT = "user.intent"
FIELDS = ("offer.features", "response.choice", "user.satisfaction")


def runtime_of(
    settings: LatentVariableSettings, batch: int, seed: int = 0, sensitivity: Tensor | None = None
) -> TorchRuntime:
    network = network_of(learning_story(settings, batch, sensitivity))
    return TorchRuntime(network, Drawn(Streams(seed), torch.arange(batch))).to(dtype=torch.float64)


def simulated(settings: LatentVariableSettings, batch: int, steps: int, seed: int = 0, **given: Tensor):
    path = runtime_of(settings, batch, seed, **given).trajectory(steps)
    return {name: path[name.split(".")[0]].get(name.split(".")[1]) for name in (INTENT, *FIELDS)}


def utilities(intent: np.ndarray, features: np.ndarray) -> np.ndarray:
    """[..., K]. intent: [..., D]; features: [..., K, D]."""
    return 2 - np.sqrt(((intent[..., None, :] - features) ** 2).sum(-1))


def improvements(utility: np.ndarray) -> np.ndarray:
    """[T - 1, ...], of the best item on each slate over the slate before, which at first is 0. utility: [T, ..., K]."""
    best = utility.max(-1)
    return np.diff(best, axis=0, prepend=np.zeros_like(best[:1]))[:-1]


def choice_logits(utility: np.ndarray, satisfaction: np.ndarray, settings: LatentVariableSettings) -> np.ndarray:
    scores = utility + satisfaction[..., None]
    return np.concatenate([scores, np.full_like(scores[..., :1], settings.no_click_logit)], -1)


def log_intent(intent: np.ndarray, settings: LatentVariableSettings) -> np.ndarray:
    """[...]: log-density of a mixture of normal distributions around the unit vectors."""
    parts = stats.norm.logpdf(intent[..., None, :], np.eye(settings.topics), settings.intent_spread).sum(-1)
    return special.logsumexp(parts, axis=-1) - math.log(settings.topics)


def log_steps(
    intent: np.ndarray, seen: dict[str, np.ndarray], settings: LatentVariableSettings, sensitivity
) -> dict[str, np.ndarray]:
    """Log-density of each field, [T, ...], given the intent ([..., D]) and the steps before."""
    features, choice, satisfaction = (seen[name] for name in FIELDS)
    utility = utilities(intent, features)
    logits = choice_logits(utility, satisfaction, settings)
    picked = np.take_along_axis(logits, np.broadcast_to(choice[..., None], (*logits.shape[:-1], 1)), -1)[..., 0]
    moved = sensitivity * satisfaction[:-1] + improvements(utility)
    steps = stats.norm.logpdf(satisfaction[1:], moved, settings.satisfaction_noise)
    return {
        "offer.features": stats.norm.logpdf(features, 0, settings.document_spread).sum((-1, -2)),
        "response.choice": picked - special.logsumexp(logits, axis=-1),
        "user.satisfaction": np.concatenate([np.zeros_like(steps[:1]), steps]),
    }


def to_numpy(seen: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: values.detach().numpy() for name, values in seen.items()}


def test_the_density_of_a_simulated_trajectory_is_the_one_written_by_hand() -> None:
    seen = simulated(SETTINGS, 30, 7)
    scored = runtime_of(SETTINGS, 30).log_prob(seen, 7)
    arrays = to_numpy(seen)
    by_hand = log_steps(arrays[INTENT][0], arrays, SETTINGS, SETTINGS.sensitivity)
    by_hand[INTENT] = np.concatenate([log_intent(arrays[INTENT][:1], SETTINGS), np.zeros((6, 30))])
    assert set(by_hand) == set(scored.fields)
    for name, wanted in by_hand.items():
        np.testing.assert_allclose(scored.fields[name].numpy(), wanted, rtol=0, atol=1e-10, err_msg=name)
    np.testing.assert_allclose(scored.total.numpy(), sum(by_hand.values()).sum(0), rtol=0, atol=1e-10)
    assert np.array_equal(arrays[INTENT], np.broadcast_to(arrays[INTENT][0], arrays[INTENT].shape))


def test_a_step_from_a_known_state_is_the_formula() -> None:
    user = LatentVariableUser(SETTINGS, 3, torch.tensor([0.5, 0.7, 0.7]))
    before = Value(
        intent=torch.tensor([[1.0, 0.0]]).expand(3, 2),
        satisfaction=torch.tensor([2.0, -1.0, 3.0]),
        best=torch.tensor([0.5, 0.0, 1.25]),
    )
    features = torch.tensor([[4.0, 4.0], [1.0, 1.0], [1.0, 0.0]]).expand(3, 3, 2)
    items = torch.tensor([[0, 1, 2], [0, 1, -1], [-1, -1, -1]])
    slate = Value(features=features, items=items)
    after = user.next_state(before, slate, Value(), Value())
    assert after.get("best").tolist() == [2.0, 1.0, 1.25]
    np.testing.assert_allclose(after.get("satisfaction").mean.numpy(), [0.5 * 2 + 1.5, -0.7 + 1, 2.1], rtol=1e-6)
    probs = user.response(before, slate).get("choice").probs.numpy()
    logits = np.array([[2 - 5 + 2, 1 + 2, 2 + 2, 1.0], [2 - 5 - 1, 1 - 1, -np.inf, 1.0], [-np.inf] * 3 + [1.0]])
    np.testing.assert_allclose(probs, special.softmax(logits, -1), rtol=1e-6)
    reward = user.outcome(before, slate, Value(choice=torch.tensor([0, 2, 3]))).get("reward")
    assert reward.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_a_short_simulation_has_the_moments_of_its_model() -> None:
    seen = to_numpy(simulated(SETTINGS, 20_000, 4))
    intent, utility = seen[INTENT][0], utilities(seen[INTENT][0], seen["offer.features"])
    mean, variance = 1 / 2, 0.5**2 + 1 / 4
    for topic in range(2):
        assert_mean(intent[:, topic], mean)
        assert_mean((intent[:, topic] - mean) ** 2, variance)
    assert_mean(intent.prod(1), 0.0)  # near (1, 0) or near (0, 1): the mixture's coordinates are not independent
    features = seen["offer.features"]
    assert_mean(features.mean((2, 3))[1], 0.0)
    assert_mean((features**2).mean((2, 3))[1], 0.75**2)
    assert bool((seen["user.satisfaction"][0] == 1.5).all())
    moved = 0.7 * seen["user.satisfaction"][:-1] + improvements(utility)
    for surprise in seen["user.satisfaction"][1:] - moved:
        assert_mean(surprise, 0.0)
        assert_mean(surprise**2, 0.4**2)
    probs = special.softmax(choice_logits(utility, seen["user.satisfaction"], SETTINGS), -1)
    for step in (0, 3):
        for place in range(4):
            assert_mean((seen["response.choice"][step] == place) - probs[step, :, place], 0.0)


def maximise(parameter: nn.Parameter, value) -> None:
    optimiser = torch.optim.LBFGS([parameter], max_iter=20, tolerance_change=1e-10, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        negative = -value()
        negative.backward()
        return negative

    optimiser.step(loss)


def test_each_users_sensitivity_is_recovered_from_a_whole_trajectory() -> None:
    truth = torch.linspace(0.1, 0.95, 5, dtype=torch.float64)
    seen = simulated(SETTINGS, 5, 30, sensitivity=truth)
    sensitivity = nn.Parameter(torch.full((5,), 0.5, dtype=torch.float64))
    runtime = runtime_of(SETTINGS, 5, sensitivity=sensitivity)
    assert [name for module in runtime.modules.values() for name, _ in module.named_parameters()] == ["sensitivity"]
    maximise(sensitivity, lambda: runtime.log_prob(seen, 30).total.mean())
    arrays = to_numpy(seen)
    x = arrays["user.satisfaction"][:-1]
    y = arrays["user.satisfaction"][1:] - improvements(utilities(arrays[INTENT][0], arrays["offer.features"]))
    least_squares = (x * y).sum(0) / (x**2).sum(0)
    np.testing.assert_allclose(sensitivity.detach().numpy(), least_squares, rtol=0, atol=1e-5)
    errors = SETTINGS.satisfaction_noise / np.sqrt((x**2).sum(0))
    assert bool((np.abs(least_squares - truth.numpy()) < 5.2 * errors).all())  # false alarm 1e-6 for the five


def without_intent(settings, seen: dict[str, Tensor], draws: int, sensitivity: Tensor, seed: int = 9) -> LogProb:
    """Scores of [B] trajectories under `draws` intents each, drawn from their prior: rows B x draws, users first."""
    rows = {name: seen[name].repeat_interleave(draws, 1) for name in FIELDS}
    steps, batch = rows["response.choice"].shape
    latent = Drawn(Streams(seed), torch.arange(batch))
    return runtime_of(settings, batch, sensitivity=sensitivity).log_prob(rows, steps, latent=latent)


def test_a_latent_intent_is_averaged_out_as_numerical_integration_does() -> None:
    seen = {name: values[:, :1] for name, values in simulated(SETTINGS, 1, 3, seed=4).items()}
    sensitivity = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    scored = without_intent(SETTINGS, seen, 20_000, sensitivity)
    drawn, arrays = scored.latent[INTENT].detach().numpy(), to_numpy(seen)
    given = sum(log_steps(drawn[0], arrays, SETTINGS, 0.6).values()).sum(0)
    np.testing.assert_allclose(scored.total.detach().numpy(), given, rtol=0, atol=1e-10)
    axis = np.arange(-3, 4, 0.02)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)

    def integrated(at: float) -> float:
        density = log_intent(grid, SETTINGS) + sum(log_steps(grid, arrays, SETTINGS, at).values()).sum(0)
        return special.logsumexp(density) + 2 * math.log(0.02)

    evidence = integrated(0.6)
    assert_mean(np.exp(given - evidence), 1.0)
    # The gradient of the logarithm of the average is the average gradient, weighed by how well draws explain.
    (slope,) = torch.autograd.grad(torch.logsumexp(scored.total, 0), sensitivity)
    weights = np.exp(given - evidence)
    slopes = np.array([integrated(0.6 + step) for step in (1e-4, -1e-4)]) @ [5e3, -5e3]
    by_draw = gradient_by_hand(drawn[0], arrays, 0.6)
    error = math.sqrt((weights**2 * (by_draw - float(slope)) ** 2).sum()) / weights.sum()
    assert abs(float(slope) - slopes) < 4.9 * error < 0.1 * abs(slopes)  # false alarm 1e-6


def gradient_by_hand(intent: np.ndarray, arrays: dict[str, np.ndarray], at: float) -> np.ndarray:
    """Of the log-density of satisfaction by the sensitivity, for each intent."""
    satisfaction = arrays["user.satisfaction"]
    moved = at * satisfaction[:-1] + improvements(utilities(intent, arrays["offer.features"]))
    return ((satisfaction[1:] - moved) * satisfaction[:-1]).sum(0) / SETTINGS.satisfaction_noise**2


def test_sensitivity_is_recovered_though_intents_are_latent() -> None:
    users, draws, steps = 60, 100, 8
    seen = simulated(SETTINGS, users, steps, seed=2)
    sensitivity = nn.Parameter(torch.tensor(0.1, dtype=torch.float64))

    def evidence() -> Tensor:
        by_draw = without_intent(SETTINGS, seen, draws, sensitivity).total.reshape(users, draws)
        return (torch.logsumexp(by_draw, 1) - math.log(draws)).mean()

    maximise(sensitivity, evidence)
    assert sensitivity.item() == pytest.approx(SETTINGS.sensitivity, abs=0.05)
