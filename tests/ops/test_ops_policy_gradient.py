"""Gradients against enumeration: every trajectory of a tiny world, every item of a bandit."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from recil.ops import policy_gradient as pg

ACTIONS, STEPS, DISCOUNT = 3, 3, 0.9
TOLERANCE = {"rtol": 0, "atol": 1e-10}


class TinyWorld:
    """Three steps, three actions; policy and reward depend on the step and on the action before."""

    def __init__(self) -> None:
        draws = torch.Generator().manual_seed(5)
        self.paths = torch.tensor(list(product(range(ACTIONS), repeat=STEPS)))
        self.before = torch.cat([torch.zeros(len(self.paths), 1, dtype=torch.int64), self.paths[:, :-1]], 1)
        table = torch.randn(STEPS, ACTIONS, ACTIONS, generator=draws, dtype=torch.float64)
        self.reward = table[torch.arange(STEPS), self.before, self.paths]
        self.behaviour = torch.randn(STEPS, ACTIONS, ACTIONS, generator=draws, dtype=torch.float64)
        self.policy = torch.randn(STEPS, ACTIONS, ACTIONS, generator=draws, dtype=torch.float64).requires_grad_()

    def log_prob(self, logits: Tensor) -> Tensor:
        """[paths, T] of every path there is."""
        return logits.log_softmax(-1)[torch.arange(STEPS), self.before, self.paths]

    def discounted(self) -> Tensor:
        return DISCOUNT ** torch.arange(STEPS, dtype=torch.float64) * self.reward

    def true_gradient(self) -> Tensor:
        value = (self.log_prob(self.policy).sum(-1).exp() * self.discounted().sum(-1)).sum()
        return torch.autograd.grad(value, self.policy)[0]

    def expectation(self, surrogate: Tensor) -> Tensor:
        """Gradient of the surrogate's expectation under the behaviour policy; surrogate [paths]."""
        chance = self.log_prob(self.behaviour).sum(-1).exp()
        return torch.autograd.grad((chance * surrogate).sum(), self.policy, retain_graph=True)[0]

    def score(self) -> Tensor:
        """[paths, T, T, A, A]: gradient of log pi_t by hand, one-hot minus probability, in its row of the table."""
        score = torch.zeros(len(self.paths), STEPS, STEPS, ACTIONS, ACTIONS, dtype=torch.float64)
        probability = self.policy.detach().softmax(-1)
        for path, step in product(range(len(self.paths)), range(STEPS)):
            before, action = self.before[path, step], self.paths[path, step]
            score[path, step, step, before] = (
                torch.eye(ACTIONS, dtype=torch.float64)[action] - probability[step, before]
            )
        return score


@pytest.fixture
def world() -> TinyWorld:
    return TinyWorld()


@pytest.mark.parametrize("form", [pg.trajectory, pg.per_decision])
def test_trajectory_and_per_decision_are_unbiased(world, form):
    surrogate = form(world.log_prob(world.policy), world.log_prob(world.behaviour), world.reward, DISCOUNT)
    torch.testing.assert_close(world.expectation(surrogate), world.true_gradient(), **TOLERANCE)


def per_step_terms(world: TinyWorld, cap: float | None, top_k: int) -> Tensor:
    log_prob, behaviour = world.log_prob(world.policy), world.log_prob(world.behaviour)
    to_go = world.discounted().flip(-1).cumsum(-1).flip(-1)
    return pg.per_step(log_prob, pg.per_step_weight(log_prob, behaviour, cap, top_k), to_go)


@pytest.mark.parametrize(("cap", "top_k"), [(99.0, 1), (1.2, 1), (99.0, 4), (1.2, 4)])
def test_per_step_is_the_formula_exactly(world, cap, top_k):
    pi, beta = world.log_prob(world.policy).detach().exp(), world.log_prob(world.behaviour).exp()
    assert (pi / beta > 1.2).any()
    weight = (pi / beta).clamp(max=cap) * top_k * (1 - pi) ** (top_k - 1)
    to_go = world.discounted().flip(-1).cumsum(-1).flip(-1)
    by_hand = torch.einsum("p,pt,ptsab->sab", beta.prod(-1), weight * to_go, world.score())
    got = world.expectation(per_step_terms(world, cap, top_k).sum(-1))
    torch.testing.assert_close(got, by_hand, **TOLERANCE)


def test_per_step_is_biased_over_steps_unbiased_in_the_last_and_varies_less(world):
    log_prob, behaviour = world.log_prob(world.policy), world.log_prob(world.behaviour)
    first_order = world.expectation(per_step_terms(world, None, 1).sum(-1))
    bias = first_order - world.true_gradient()
    assert bias.abs().max() > 0.01
    one_step = pg.per_step(log_prob[:, :1], pg.per_step_weight(log_prob[:, :1], behaviour[:, :1]), world.reward[:, :1])
    value = (log_prob.sum(-1).exp() * world.reward[:, 0]).sum()
    expected = torch.autograd.grad(value, world.policy, retain_graph=True)[0]
    torch.testing.assert_close(world.expectation(one_step.sum(-1)), expected, **TOLERANCE)

    def variance(surrogate: Tensor) -> float:
        chance = behaviour.sum(-1).exp()
        rows = torch.stack(
            [torch.autograd.grad(term, world.policy, retain_graph=True)[0].flatten() for term in surrogate]
        )
        mean = chance @ rows
        return float((chance @ (rows - mean) ** 2).sum())

    whole = variance(pg.trajectory(log_prob, behaviour, world.reward, DISCOUNT))
    partial = variance(pg.per_decision(log_prob, behaviour, world.reward, DISCOUNT))
    assert variance(per_step_terms(world, None, 1).sum(-1)) < min(whole, partial)


def test_no_gradient_flows_through_weight_behaviour_or_credit():
    log_prob = torch.tensor([-0.5, -2.0], dtype=torch.float64, requires_grad=True)
    behaviour = torch.tensor([-1.0, -1.5], dtype=torch.float64, requires_grad=True)
    credit = torch.tensor([2.0, 3.0], dtype=torch.float64, requires_grad=True)
    weight = pg.per_step_weight(log_prob, behaviour, cap=1.5, top_k=3)
    assert not weight.requires_grad
    pg.per_step(log_prob, weight, credit).sum().backward()
    torch.testing.assert_close(log_prob.grad, weight * credit.detach(), **TOLERANCE)
    assert behaviour.grad is None
    assert credit.grad is None
    for form in (pg.trajectory, pg.per_decision):
        grads = torch.autograd.grad(form(log_prob[None], behaviour[None], credit[None]).sum(), log_prob)
        assert torch.isfinite(grads[0]).all()
        assert not form(log_prob.detach()[None], behaviour[None], credit[None]).requires_grad


def fixed_point(reward: Tensor, behaviour: Tensor, corrected: bool, top_k: int = 1, rounds: int = 3_000) -> Tensor:
    """Where mirror ascent along the exact expected gradient comes to rest."""
    logits = torch.zeros_like(reward, requires_grad=True)
    for _ in range(rounds):
        log_prob = logits.log_softmax(-1)
        weight = pg.per_step_weight(log_prob, behaviour.log() if corrected else log_prob, None, top_k)
        gradient = torch.autograd.grad((behaviour * pg.per_step(log_prob, weight, reward)).sum(), logits)[0]
        with torch.no_grad():
            logits += 0.02 * gradient / log_prob.exp().clamp(min=1e-12)
            logits -= logits.max()
            logits.clamp_(min=-40)
    return logits.detach().softmax(-1)


def test_uncorrected_gradient_clones_what_was_logged_times_its_reward():
    item = torch.arange(1, 11, dtype=torch.float64)
    behaviour = (11 - item) / 55
    uncorrected = fixed_point(item, behaviour, corrected=False)
    torch.testing.assert_close(uncorrected, item * (11 - item) / 220, **TOLERANCE)
    assert float(uncorrected @ item) == pytest.approx(5.5)
    corrected = fixed_point(item, behaviour, corrected=True)
    assert float(corrected @ item) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("k", "first", "second", "rest"), [(1, 1, 0, 0), (2, 10 / 19, 9 / 19, 0), (3, None, None, 0), (8, None, None, None)]
)
def test_top_k_spreads_the_policy_over_the_best_items(k, first, second, rest):
    reward = torch.tensor([10.0, 9.0] + [1.0] * 8, dtype=torch.float64)
    behaviour = torch.full((10,), 0.1, dtype=torch.float64)
    policy = fixed_point(reward, behaviour, corrected=True, top_k=k)
    if k == 3:
        first = 1 / (1 + 0.9**0.5)  # 10 (1 - p)^2 = 9 p^2
        second = 1 - first
    if k == 8:  # every item keeps r (1 - p)^7 equal to one multiplier, which the sum of one determines
        root = 9 / (reward ** (-1 / 7)).sum()
        first, second, rest = (1 - root * reward[[0, 1, 2]] ** (-1 / 7)).tolist()
        assert (round(first, 4), round(second, 4), round(rest, 4)) == (0.3146, 0.3042, 0.0476)
    expected = torch.tensor([first, second] + [rest] * 8, dtype=torch.float64)
    torch.testing.assert_close(policy, expected, rtol=0, atol=1e-8)


def test_divergence_and_entropy_against_their_definitions():
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    reference = torch.randn(4, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=logits), torch.distributions.Categorical(logits=reference)
    )
    torch.testing.assert_close(pg.kl_divergence(logits, reference), expected, **TOLERANCE)
    torch.testing.assert_close(pg.entropy(logits), torch.distributions.Categorical(logits=logits).entropy())
    pi, beta = logits.log_softmax(-1), reference.log_softmax(-1)
    backwards = pg.kl_divergence(reference, logits)
    torch.testing.assert_close((beta.exp() * pg.sampled_kl(pi, beta)).sum(-1), backwards, **TOLERANCE)


def test_shapes_are_asserted():
    with pytest.raises(ValueError, match="shapes differ"):
        pg.per_step(torch.zeros(3), torch.zeros(3, 1), torch.zeros(3))
    with pytest.raises(ValueError, match="wanted 1 or more"):
        pg.top_k_factor(torch.zeros(1), 0)
