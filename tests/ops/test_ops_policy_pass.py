"""The policy-gradient step's one pass, against the plain definitions and autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recil.ops import one_pass, policy_gradient
from recil.ops.policy_pass import Reference, policy_pass
from recil.ops.slates import plackett_luce_log_prob

ROWS, ITEMS, WIDTH = 19, 13, 4


def by_definition(
    states: Tensor, slate: Tensor, weight: Tensor, bias: Tensor, reference: Reference | None, coefficient
):
    """(sum of c log p, log p, mean entropy, mean KL, mean reference entropy)."""
    logits = states @ weight.T + bias
    log_prob = plackett_luce_log_prob(logits, slate)
    total = torch.where(slate >= 0, coefficient(slice(None), log_prob.detach()) * log_prob, 0.0).sum()
    entropy = policy_gradient.entropy(logits).mean()
    if reference is None:
        return total, log_prob, entropy, torch.zeros((), dtype=logits.dtype), torch.tensor(ITEMS).double().log()
    other = reference.states @ reference.weight.T + reference.bias
    return (
        total,
        log_prob,
        entropy,
        policy_gradient.kl_divergence(logits, other).mean(),
        policy_gradient.entropy(other).mean(),
    )


@pytest.mark.parametrize("positions", [1, 3])
@pytest.mark.parametrize("with_reference", [True, False])
@pytest.mark.parametrize(("kl", "entropy"), [(0.0, 0.0), (0.7, 0.0), (0.0, -1.0), (0.4, 0.3)])
@pytest.mark.parametrize("at_once", [4 * ITEMS, 1 << 20])
@pytest.mark.parametrize("tame", [50.0, 0.0])
def test_values_and_gradients_are_those_of_the_definition(
    positions, with_reference, kl, entropy, at_once, tame, monkeypatch
) -> None:
    """Tame: logits below this need no maximum taken off."""
    monkeypatch.setattr(one_pass, "LOGITS_AT_ONCE", at_once)
    monkeypatch.setattr(one_pass, "_TAME", tame)
    generator = torch.Generator().manual_seed(positions)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    variables = [
        normal(ROWS, WIDTH).mul(2).requires_grad_(),
        normal(ITEMS, WIDTH).requires_grad_(),
        normal(ITEMS).requires_grad_(),
    ]
    states, weight, bias = variables
    slate = torch.stack([torch.randperm(ITEMS, generator=generator)[:positions] for _ in range(ROWS)])
    slate[2, 1:], slate[5] = -1, -1
    reference = Reference(normal(ROWS, WIDTH), normal(ITEMS, WIDTH), normal(ITEMS)) if with_reference else None
    advantage, behaviour = normal(ROWS, positions), normal(ROWS, positions) - 2

    def coefficient(rows: slice, log_prob: Tensor) -> Tensor:
        return -policy_gradient.per_step_weight(log_prob, behaviour[rows], 2.0) * advantage[rows]

    total, log_prob, *means = by_definition(states, slate, weight, bias, reference, coefficient)
    kl_cost = kl if with_reference else 0.0
    expected = total + kl_cost * means[1] + entropy * means[0]
    wanted = torch.autograd.grad(expected, variables)
    found = policy_pass(states, slate, weight, bias, reference, coefficient, kl_cost, entropy)
    assert torch.allclose(found.loss, expected, rtol=1e-10) and torch.allclose(found.log_prob, log_prob, atol=1e-10)
    for one, other in zip((found.entropy, found.kl, found.reference_entropy), means, strict=True):
        assert one.item() == pytest.approx(float(other.detach()), abs=1e-10) and not one.requires_grad
    for one, other in zip(torch.autograd.grad(2 * found.loss, variables), wanted, strict=True):
        assert torch.allclose(one, 2 * other, rtol=1e-8, atol=1e-10)


def test_without_gradients_nothing_is_collected() -> None:
    states, weight, bias = torch.ones(2, 3), torch.ones(4, 3), torch.zeros(4)
    found = policy_pass(
        states, torch.tensor([[1], [2]]), weight, bias, None, lambda _, log_prob: -torch.ones_like(log_prob)
    )
    assert not found.loss.requires_grad and found.loss.item() == pytest.approx(2 * torch.tensor(4.0).log().item())


def test_gradients_stay_finite_where_one_item_holds_all_that_single_precision_can_tell() -> None:
    states, bias = torch.tensor([[1.0]]).requires_grad_(), torch.zeros(3)
    weight = torch.tensor([[200.0], [0.0], [-1.0]]).requires_grad_()
    reference = Reference(torch.ones(1, 1), torch.zeros(3, 1), bias)
    constant = torch.tensor([[1000.0, -1000.0]])
    found = policy_pass(states, torch.tensor([[0, 1]]), weight, bias, reference, lambda rows, _: constant[rows], 1.0)
    found.loss.backward()
    assert weight.grad.isfinite().all() and states.grad.isfinite().all()
