"""Gradients of one-step estimators against every context and action of a small bandit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from recil.errors import InputError
from recil.ops import counterfactual as ops
from recil.ops.policy_gradient import per_step, per_step_weight

CLOSE = {"rtol": 0, "atol": 1e-10}
CONTEXTS, ITEMS = 3, 4


class Bandit:
    """Every (context, action) once, with its probability under the policy that acted."""

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(1)

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=draw, dtype=torch.float64)

        self.table = random(CONTEXTS, ITEMS).requires_grad_()
        self.behaviour = random(CONTEXTS, ITEMS).softmax(-1)
        self.reward, self.model = random(CONTEXTS, ITEMS), random(CONTEXTS, ITEMS)
        self.context = torch.arange(CONTEXTS).repeat_interleave(ITEMS)
        self.action = torch.arange(ITEMS).repeat(CONTEXTS)
        self.probability = self.behaviour.flatten() / CONTEXTS

    def rows(self, table: Tensor) -> Tensor:
        return table[self.context]

    def gradient(self, terms: Tensor) -> Tensor:
        return torch.autograd.grad((self.probability * terms).sum(), self.table)[0]

    def true_gradient(self) -> Tensor:
        value = (self.table.softmax(-1) * self.reward).sum(-1).mean()
        return torch.autograd.grad(value, self.table)[0]

    def scored(self) -> tuple[Tensor, Tensor]:
        """log pi and log beta of the actions, [n] each."""
        return self.table.log_softmax(-1).flatten(), self.behaviour.log().flatten()


@pytest.fixture
def bandit() -> Bandit:
    return Bandit()


def doubly_robust(bandit: Bandit, model: Tensor) -> Tensor:
    return ops.doubly_robust(
        bandit.rows(bandit.table),
        bandit.action,
        bandit.behaviour.log().flatten(),
        bandit.reward.flatten(),
        bandit.rows(model),
    )


def truncated(bandit: Bandit, model: Tensor, cap: float) -> Tensor:
    return ops.truncated_with_correction(
        bandit.rows(bandit.table),
        bandit.action,
        bandit.rows(bandit.behaviour),
        bandit.reward.flatten(),
        bandit.rows(model),
        cap,
    )


def variance(bandit: Bandit, terms: Tensor) -> float:
    rows = torch.stack([torch.autograd.grad(term, bandit.table, retain_graph=True)[0].flatten() for term in terms])
    mean = bandit.probability @ rows
    return float(bandit.probability @ (rows - mean).square().sum(-1))


def test_doubly_robust_is_unbiased_whatever_the_model(bandit):
    for model in (bandit.model, torch.zeros_like(bandit.model), bandit.reward):
        torch.testing.assert_close(bandit.gradient(doubly_robust(bandit, model)), bandit.true_gradient(), **CLOSE)
    plain = per_step(*(part := bandit.scored())[:1], per_step_weight(*part), bandit.reward.flatten())
    assert variance(bandit, doubly_robust(bandit, bandit.reward)) < 0.5 * variance(bandit, plain)


@pytest.mark.parametrize("cap", [0.2, 1.0, 1.5])
def test_cut_ratios_are_made_up_for_by_a_right_model_only(bandit, cap):
    ratio = bandit.table.detach().softmax(-1) / bandit.behaviour
    assert float(ratio.max()) > cap
    torch.testing.assert_close(bandit.gradient(truncated(bandit, bandit.reward, cap)), bandit.true_gradient(), **CLOSE)
    biased = bandit.gradient(truncated(bandit, bandit.model, cap)) - bandit.true_gradient()
    assert float(biased.abs().max()) > 1e-3
    # A wrong model does no harm on items that are not cut.
    elsewhere = torch.where(ratio > cap, bandit.reward, bandit.model)
    torch.testing.assert_close(bandit.gradient(truncated(bandit, elsewhere, cap)), bandit.true_gradient(), **CLOSE)


def test_shifting_rewards_leaves_the_expected_gradient(bandit):
    for baseline in (0.0, 0.7, -3.0):
        terms = ops.shifted(*bandit.scored(), bandit.reward.flatten(), baseline)
        torch.testing.assert_close(bandit.gradient(terms), bandit.true_gradient(), **CLOSE)


def test_self_normalised_is_the_gradient_of_the_ratio_of_sums(bandit):
    chosen = torch.tensor([0, 3, 3, 5, 6, 9, 11])
    log_prob, behaviour = (part[chosen] for part in bandit.scored())
    reward = bandit.reward.flatten()[chosen]
    surrogate = ops.self_normalised(log_prob, behaviour, reward).mean()
    gradient = torch.autograd.grad(surrogate, bandit.table, retain_graph=True)[0]
    weight = (log_prob - behaviour).exp()
    direct = torch.autograd.grad((weight * reward).sum() / weight.sum(), bandit.table, retain_graph=True)[0]
    torch.testing.assert_close(gradient, direct, **CLOSE)
    moved = ops.self_normalised(log_prob, behaviour, reward + 5).mean()
    torch.testing.assert_close(
        torch.autograd.grad(moved, bandit.table)[0], gradient, rtol=0, atol=1e-9
    )  # adding a constant to rewards changes nothing


@pytest.mark.parametrize("cap", [None, 1.1])
def test_the_price_of_variance_by_its_formula(bandit, cap):
    log_prob, behaviour = bandit.scored()
    reward = bandit.reward.flatten()
    ratio = (log_prob - behaviour).exp().detach().numpy()
    term = (ratio if cap is None else np.minimum(ratio, cap)) * reward.numpy()
    wanted = term.mean() - 0.6 * math.sqrt(term.var(ddof=1) / len(term))
    value = ops.variance_penalised_value(log_prob, behaviour, reward, 0.6, cap)
    assert float(value.detach()) == pytest.approx(wanted, abs=1e-12)

    def of_table(table: Tensor) -> Tensor:
        return ops.variance_penalised_value(table.log_softmax(-1).flatten(), behaviour, reward, 0.6, cap)

    assert torch.autograd.gradcheck(of_table, (bandit.table,))


def test_without_a_price_its_gradient_is_that_of_importance_sampling(bandit):
    log_prob, behaviour = bandit.scored()
    reward = bandit.reward.flatten()
    free = ops.variance_penalised_value(log_prob, behaviour, reward, 0.0)
    plain = per_step(log_prob, per_step_weight(log_prob, behaviour), reward).mean()
    gradients = [torch.autograd.grad(part, bandit.table, retain_graph=True)[0] for part in (free, plain)]
    torch.testing.assert_close(*gradients, **CLOSE)


def test_equal_terms_have_a_gradient():
    log_prob = torch.full((4,), -1.0, dtype=torch.float64, requires_grad=True)
    value = ops.variance_penalised_value(log_prob, torch.full((4,), -1.0).double(), torch.ones(4).double(), 2.0)
    value.backward()
    assert value.item() == 1.0
    assert torch.isfinite(log_prob.grad).all()


def test_what_does_not_fit_is_refused():
    three, two = torch.zeros(3), torch.zeros(2)
    with pytest.raises(InputError, match="shapes differ"):
        ops.shifted(three, two, three, 0.0)
    with pytest.raises(InputError, match="shapes differ"):
        ops.doubly_robust(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), three, three, torch.zeros(3, 4))
    with pytest.raises(InputError, match="1 terms"):
        ops.variance_penalised_value(three[:1], three[:1], three[:1], 1.0)
    with pytest.raises(InputError, match="penalty -1"):
        ops.variance_penalised_value(three, three, three, -1.0)
