"""Adversarial imitation: what its rewards descend, that it imitates, refuses lengths that differ, and resumes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from taste_world import TastePolicy, TasteWorld

from recil.errors import InputError
from recil.logs.history import History
from recil.ops.adversarial import discriminator_loss, log_d, log_odds, minus_log_one_minus_d
from recil.policies.encoders import EncoderConfig
from recil.policies.inputs import Feature
from recil.policies.softmax import SoftmaxConfig, SoftmaxPolicy
from recil.train.adversarial import adversarial
from recil.train.adversarial_config import AdversarialConfig
from recil.train.adversarial_coverage import Coverage
from recil.train.adversarial_step import Discriminator

GRID = torch.linspace(-60, 60, 6001, dtype=torch.float64)
WIDTH = float(GRID[1] - GRID[0])


def log_normal(mean, deviation):
    return -0.5 * ((GRID - mean) / deviation) ** 2 - math.log(math.sqrt(2 * math.pi)) - torch.log(deviation)


def two_modes() -> torch.Tensor:
    """log of .4 N(-8, 2) + .6 N(8, 2) on the grid."""
    two = torch.tensor(2.0, dtype=torch.float64)
    return torch.logaddexp(log_normal(-8, two) + math.log(0.4), log_normal(8, two) + math.log(0.6))


def policy_gradient_on(reward, theta: torch.Tensor) -> torch.Tensor:
    """sum q r(best discriminator's logit) grad log q, with the reward as a constant. theta: mean, log deviation."""
    theta = theta.detach().requires_grad_(True)
    log_q = log_normal(theta[0], theta[1].exp())
    paid = reward(two_modes() - log_q).detach()
    surrogate = (log_q.detach().exp() * paid * log_q).sum() * WIDTH
    return torch.autograd.grad(surrogate, theta)[0]


def gradient_of(divergence, theta: torch.Tensor) -> torch.Tensor:
    """divergence: (log p, log q) -> its integrand on the grid."""
    theta = theta.detach().requires_grad_(True)
    value = divergence(two_modes(), log_normal(theta[0], theta[1].exp())).sum() * WIDTH
    return torch.autograd.grad(value, theta)[0]


def reverse_kl(log_p, log_q):
    return log_q.exp() * (log_q - log_p)


def forward_kl(log_p, log_q):
    return log_p.exp() * (log_p - log_q)


def jensen_shannon(log_p, log_q):
    middle = torch.logaddexp(log_p, log_q) - math.log(2)
    return 0.5 * (log_p.exp() * (log_p - middle) + log_q.exp() * (log_q - middle))


@pytest.mark.parametrize("theta", [(0.0, 1.5), (5.0, 1.0), (-3.0, 2.0)])
def test_what_each_reward_descends_with_the_best_discriminator(theta):
    """E11: on log D - log(1 - D) it is -grad KL(q || p), on -log(1 - D) -2 grad JSD, on log D what is between them."""
    theta = torch.tensor(theta, dtype=torch.float64)
    reverse, shannon = gradient_of(reverse_kl, theta), gradient_of(jensen_shannon, theta)
    close = {"rtol": 1e-8, "atol": 1e-9}
    torch.testing.assert_close(policy_gradient_on(log_odds, theta), -reverse, **close)
    torch.testing.assert_close(policy_gradient_on(minus_log_one_minus_d, theta), -2 * shannon, **close)
    torch.testing.assert_close(policy_gradient_on(log_d, theta), 2 * shannon - reverse, **close)
    assert reverse.abs().min() > 1e-2 and shannon.abs().max() > 1e-3


def test_cloning_covers_both_modes_and_the_adversary_drops_one():
    """One Gaussian on two modes: likelihood has the moments of both, log-odds ends on the heavier, where it began."""

    def ascended(gradient) -> tuple[float, float]:
        theta = torch.tensor([3.0, 1.5], dtype=torch.float64)
        for _ in range(400):
            # The natural gradient: a Gaussian's Fisher information is (1 / variance, 2).
            theta = theta + 0.1 * torch.stack([(2 * theta[1]).exp(), theta.new_tensor(0.5)]) * gradient(theta)
        return float(theta[0]), float(theta[1].exp())

    cloned = ascended(lambda theta: -gradient_of(forward_kl, theta))
    assert cloned == pytest.approx((0.4 * -8 + 0.6 * 8, math.sqrt(4 + 0.24 * 16**2)), abs=1e-6)
    adversary = ascended(lambda theta: policy_gradient_on(log_odds, theta))
    assert adversary == pytest.approx((8.0, 2.0), abs=5e-3)


def test_rewards_have_the_signs_they_are_said_to_have():
    logit = torch.linspace(-30, 30, 61)
    odds = torch.sigmoid(logit.double())
    assert (log_d(logit) <= 0).all() and (minus_log_one_minus_d(logit) >= 0).all()
    assert (log_odds(logit)[:30] < 0).all() and (log_odds(logit)[31:] > 0).all()
    torch.testing.assert_close(log_d(logit.double()), odds.log())
    torch.testing.assert_close((log_d(logit) + minus_log_one_minus_d(logit)), log_odds(logit))
    assert float(discriminator_loss(torch.zeros(3), torch.zeros(5))) == pytest.approx(math.log(4))
    mean = discriminator_loss(torch.tensor([1.0, 3.0]), torch.tensor([0.5]))
    assert float(mean) == pytest.approx(float(np.log1p(np.exp([-1.0, -3.0])).mean() + np.log1p(np.exp(0.5))), rel=1e-6)


SLOW = pytest.mark.slow
SOME_REWARDS = [log_odds, pytest.param(minus_log_one_minus_d, marks=SLOW), pytest.param(log_d, marks=SLOW)]


def fixed_world(seed: int = 0, horizon: int = 4) -> TasteWorld:
    """Nobody leaves."""
    world = TasteWorld.sparse(seed, tastes=3, items=12, liked=3)
    return replace(world, slate_size=2, horizon=horizon, leave=0.0, leave_after_click=0.0)


def untrained(catalogue: int = 12, seed: int = 0) -> SoftmaxPolicy:
    encoder = EncoderConfig("bag", 8, user=(Feature("taste", 3),))
    return SoftmaxPolicy(SoftmaxConfig(catalogue, encoder), np.arange(catalogue), seed=seed).eval()


@torch.no_grad()
def divergence(world: TasteWorld, demonstrator: TastePolicy, policy: SoftmaxPolicy) -> float:
    """KL(demonstrator || policy) of a first item, mean over tastes."""
    history = History.start(torch.arange(world.tastes), 2, user={"taste": torch.arange(world.tastes)})
    log_p, log_q = (logits.double().log_softmax(-1) for logits in (demonstrator.logits, policy.next_logits(history)))
    return float((log_p.exp() * (log_p - log_q)).sum(-1).mean())


@pytest.mark.parametrize("reward", SOME_REWARDS)
def test_it_imitates_without_a_click(reward):
    """With sessions of one length any of the rewards will do. No click is ever seen; it comes from .64 nats."""
    world = replace(fixed_world(), click=0 * fixed_world().click)
    demonstrator = fixed_world().demonstrator(0, opinion=1.5)
    log, start = world.log(demonstrator, 1000, 0), untrained()
    config = AdversarialConfig(sessions=4000, sessions_per_iteration=200, batch=100)
    rows: list[dict] = []
    found = adversarial(start, world, log, config, reward=reward, on_metrics=lambda _, row: rows.append(row))
    before, after = (divergence(world, demonstrator, policy) for policy in (start, found.policy))
    assert after < 0.3 * before
    accuracy = [
        row["adversarial/discriminator_accuracy"] for row in rows if "adversarial/discriminator_accuracy" in row
    ]
    assert np.mean(accuracy[-5:]) < 0.7 < accuracy[0]


def test_the_policy_is_paid_by_the_discriminator_and_not_by_clicks():
    """Where the demonstrator shuns what is clicked, the learner comes to shun it too."""
    world = fixed_world()
    shy = TastePolicy(-3.0 * (world.click > 0.01).double())
    rich = replace(world, click=(world.click > 0.01).double())
    log, start = rich.log(shy, 1000, 0), untrained()
    found = adversarial(start, rich, log, AdversarialConfig(sessions=2000, sessions_per_iteration=200, batch=100))
    before, after, wanted = (float(rich.returns(each, 1000).mean()) for each in (start, found.policy, shy))
    assert wanted < after < 0.7 * before


def test_coverage_tells_a_mode_seeker_from_the_demonstrations():
    world = fixed_world()
    log = world.log(TastePolicy(torch.zeros(3, 12)), 300, 0)
    narrow = untrained()
    with torch.no_grad():
        narrow.bias.weight[:, 0] = torch.where(torch.arange(12) < 3, 12.0, -12.0)
    config = AdversarialConfig(sessions=20, sessions_per_iteration=20, critic_warmup=0, learning_rate=1e-9)
    rows: list[dict] = []
    found = adversarial(narrow, world, log, config, on_metrics=lambda _, row: rows.append(row))
    assert found.demonstrated.share == 1.0 and found.demonstrated.effective > 11.5
    assert found.coverage.share == 0.25 and found.coverage.effective == pytest.approx(3.0, abs=0.1)
    assert found.coverage.shown == found.demonstrated.shown == 300 * 4 * 2
    assert rows[-1]["adversarial/coverage"] == 0.25 and rows[-1]["adversarial/demonstrated_coverage"] == 1.0
    counted = Coverage.of(torch.tensor([[0, 0], [1, -1]]), 4)
    assert (counted.share, counted.shown) == (0.5, 3)
    assert counted.effective == pytest.approx(math.exp(-(2 / 3) * math.log(2 / 3) - (1 / 3) * math.log(1 / 3)))


def test_kl_keeps_it_near_the_start():
    world = fixed_world()
    log, start = world.log(world.best(), 200, 0), untrained()

    def moved(kl: float) -> float:
        rows: list[dict] = []
        quick = {"sessions": 300, "sessions_per_iteration": 150, "batch": 50, "learning_rate": 1e-2}
        config = AdversarialConfig(kl=kl, critic_warmup=5, discriminator_warmup=20, **quick)
        adversarial(start, world, log, config, on_metrics=lambda _, row: rows.append(row))
        return next(row for row in rows[::-1] if "adversarial/kl_start" in row)["adversarial/kl_start"]

    # Without a start to stay near no divergence is worked out; it is 0.
    assert moved(0.0) == 0.0
    assert 0 < moved(1000.0) < 0.02 < moved(1e-6)


@torch.no_grad()
def test_a_discriminators_logit_is_its_networks_score_of_the_item_shown():
    world = fixed_world()
    history = world.log(world.best(), 5, 0).batch()
    history = replace(history, items=torch.where(torch.arange(2) < 1, history.items, -1))
    discriminator = Discriminator.like(untrained(), AdversarialConfig(), 3)
    network = discriminator.network
    network.bias.weight += torch.arange(12.0)[:, None]
    every = network.logits(network.encode(history)[:, :-1])
    expected = every.gather(2, history.items[..., :1])
    torch.testing.assert_close(discriminator.logits(history)[..., :1], expected)
    assert (discriminator.logits(history)[..., 1] == 0).all()


class Stopped(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("stop", [2, 11, 19])
def test_interrupted_and_resumed_is_straight_through(tmp_path, stop):
    world = fixed_world()
    log, start, path = world.log(world.demonstrator(0), 100, 0), untrained(), tmp_path / "run"
    quick = {"critic_warmup": 3, "discriminator_warmup": 3}
    config = AdversarialConfig(sessions=130, sessions_per_iteration=30, batch=15, kl=0.1, **quick)
    straight: list = []
    whole = adversarial(start, world, log, config, 3, on_metrics=lambda *row: straight.append(row))
    seen: list = []

    def stop_there(*row):
        seen.append(row)
        if len(seen) == stop:
            raise Stopped

    with pytest.raises(Stopped):
        adversarial(start, world, log, config, 3, on_metrics=stop_there, checkpoint=path)
    after: list = []
    resumed = adversarial(start, world, log, config, 3, on_metrics=lambda *row: after.append(row), checkpoint=path)
    pairs = zip(resumed.policy.state_dict().values(), whole.policy.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert (resumed.coverage, resumed.demonstrated) == (whole.coverage, whole.demonstrated)
    assert straight[-len(after) :] == after and (len(after) < len(straight) or stop == 2)
    for other, reward in ((replace(config, kl=0.2), log_odds), (config, log_d)):
        with pytest.raises(InputError, match="other settings"):
            adversarial(start, world, log, other, 3, reward=reward, checkpoint=path)


def test_the_given_policy_is_left_alone():
    world, start = fixed_world(), untrained()
    before = [value.clone() for value in start.state_dict().values()]
    adversarial(start, world, world.log(world.best(), 50, 0), AdversarialConfig(sessions=50, critic_warmup=1))
    assert all(torch.equal(a, b) for a, b in zip(before, start.state_dict().values(), strict=True))


def test_sessions_of_different_lengths_are_refused_with_a_remedy():
    world, leaving = fixed_world(), replace(fixed_world(), leave=0.3, leave_after_click=0.3)
    short = r"sessions|demonstrations do not have 4 steps but 1 to 4: .* -> give a world that nobody leaves"
    with pytest.raises(InputError, match=short):
        adversarial(untrained(), world, leaving.log(leaving.best(), 100, 0))
    with pytest.raises(InputError, match=r"of the world's sessions do not have 4 steps .* or learn by clone or dagger"):
        adversarial(untrained(), leaving, world.log(world.best(), 100, 0))
    with pytest.raises(InputError, match="do not have 5 steps but 4 to 4"):
        adversarial(untrained(), fixed_world(horizon=5), world.log(world.best(), 100, 0))


def test_bad_input_is_one_message_that_names_place_and_remedy():
    world = fixed_world()
    log = world.log(world.best(), 20, 0)
    with pytest.raises(InputError, match="the world has 12 items, the policy 13, the demonstrations 12"):
        adversarial(untrained(13), world, log)
    with pytest.raises(InputError, match="slates of 2 items and the world of 3"):
        adversarial(untrained(), replace(world, slate_size=3), log)
    with pytest.raises(InputError, match=r"adversarial step 0: the critic's loss is nan"):
        adversarial(untrained(), world, log, AdversarialConfig(sessions=20), reward=lambda logit: logit * torch.nan)
    for name, value in (("discriminator_steps", 0), ("kl", -1.0), ("batch", 0), ("discriminator_decay", -0.1)):
        with pytest.raises(InputError, match=f"AdversarialConfig {name}"):
            AdversarialConfig(**{name: value})
