"""Slates against a sample: exact where it is the catalogue, right in the limit, and what its bias is said to be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from recil.ops import by_items, sampled_pass
from recil.ops.by_items import slate_log_prob_by_items
from recil.ops.policy_pass import Reference, policy_pass
from recil.ops.proposal import Proposal
from recil.ops.sampled_pass import Columns, Costs
from recil.ops.slates import plackett_luce_log_prob
from recil.random import Streams

ROWS, ITEMS, WIDTH, POSITIONS = 9, 30, 4, 3


def case(scale: float = 1.0) -> tuple[list[Tensor], Tensor, Reference, Tensor]:
    """states, weight and bias; slates with pads; a reference; coefficients."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = [normal(*shape).mul(scale).requires_grad_() for shape in ((ROWS, WIDTH), (ITEMS, WIDTH), (ITEMS,))]
    slate = torch.stack([torch.randperm(ITEMS, generator=generator)[:POSITIONS] for _ in range(ROWS)])
    slate[2, 1:], slate[5] = -1, -1
    return inputs, slate, Reference(normal(ROWS, WIDTH), normal(ITEMS, WIDTH), normal(ITEMS)), normal(ROWS, POSITIONS)


def passes(columns: Columns, reference: Reference | None, costs: Costs, scale: float = 1.0):
    """The sampled pass and its gradients."""
    (states, weight, bias), slate, _, constant = case(scale)
    found = sampled_pass.sampled_pass(
        states, slate, weight, bias, columns, lambda rows, _: constant[rows], reference, costs
    )
    return found, torch.autograd.grad(found.loss, (states, weight, bias))


def exact(reference: Reference | None, costs: Costs):
    inputs, slate, _, constant = case()
    found = policy_pass(inputs[0], slate, *inputs[1:], reference, lambda rows, _: constant[rows], *costs)
    return found, torch.autograd.grad(found.loss, inputs)


def everything() -> Columns:
    order = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(2))
    return Columns(order, torch.zeros(ITEMS))


@pytest.mark.parametrize("at_once", [2 * ITEMS, 1 << 20])
@pytest.mark.parametrize("costs", [None, Costs(0.0, 0.0), Costs(0.7, 0.0), Costs(0.0, -1.0), Costs(0.4, 0.3)])
def test_the_whole_catalogue_as_the_sample_is_the_full_pass(costs, at_once, monkeypatch):
    monkeypatch.setattr(sampled_pass, "LOGITS_AT_ONCE", at_once)
    reference = None if costs is None else case()[2]
    found, gradients = passes(everything(), reference, costs or Costs())
    full, expected = exact(reference, costs or Costs())
    torch.testing.assert_close(found.log_prob, full.log_prob)
    torch.testing.assert_close(found.loss, full.loss)
    if reference is not None:
        torch.testing.assert_close(tuple(found[2:]), tuple(full[2:]))
    torch.testing.assert_close(gradients, expected)


def test_log_p_is_too_large_by_half_the_relative_variance_of_the_sum():
    """Of one row: the sum is unbiased, so the mean error is Var / (2 Z^2) to first order."""
    (states, weight, bias), slate, _, _ = case(0.4)
    states, slate = states.detach()[:1], slate[:1, :1]
    truth = plackett_luce_log_prob(states @ weight.T + bias, slate).detach()
    own = (states @ weight.T + bias).detach()[0, slate[0, 0]]
    proposal = Proposal.of(np.arange(ITEMS), 12)
    log_probs = []
    for number in range(300):
        sample = proposal.draw(Streams(0), "test", number)
        found = sampled_pass.sampled_pass(
            states, slate, weight.detach(), bias.detach(), Columns(*sample), lambda rows, _: torch.zeros(1, 1)
        )
        log_probs.append(found.log_prob[0, 0])
    errors = torch.stack(log_probs) - truth[0, 0]
    sums = (own - torch.stack(log_probs)).exp()
    whole = (own - truth[0, 0]).exp()
    assert abs(float(sums.mean() / whole) - 1) < 4 * float(sums.std() / whole) / len(sums) ** 0.5
    # What the sums themselves are off has mean 0, and most of the noise.
    beyond = float((errors + sums / whole - 1).mean())
    assert beyond == pytest.approx(float(sums.var() / whole**2) / 2, rel=0.15)


def test_gradients_of_all_costs_tend_to_the_exact_ones_as_negatives_grow():
    """The mean over draws: its distance from the exact gradient falls as 1 / negatives, and ends at 0."""
    reference, costs = case()[2], Costs(0.7, 0.2)
    _, expected = exact(reference, costs)
    whole = torch.cat([part.flatten() for part in expected])
    distances = []
    for negatives in (5, 20, ITEMS):
        proposal = Proposal.of(np.ones(ITEMS), negatives)
        draws = 60 if negatives < ITEMS else 1
        mean = torch.zeros_like(whole)
        for number in range(draws):
            _, found = passes(Columns(*proposal.draw(Streams(0), "test", number)), reference, costs)
            mean += torch.cat([part.flatten() for part in found]) / draws
        distances.append(float((mean - whole).norm() / whole.norm()))
    assert distances[0] < 0.6 and distances[1] < 0.5 * distances[0] and distances[2] < 1e-12


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("block", [7, 4096])
def test_items_a_block_at_a_time_give_the_exact_likelihood(block, scale, monkeypatch):
    monkeypatch.setattr(by_items, "ITEMS_AT_ONCE", block)
    monkeypatch.setattr(by_items, "ROWS_AT_ONCE", 4)
    (states, weight, bias), slate, _, _ = case(scale)
    found = slate_log_prob_by_items(states, slate, lambda items: (weight[items], bias[items]), ITEMS)
    torch.testing.assert_close(found, plackett_luce_log_prob(states @ weight.T + bias, slate))


def test_large_logits_and_a_sample_of_slate_items_alone_stay_numbers():
    slate = case()[1]
    columns = Columns(slate[0].sort().values, torch.zeros(POSITIONS))
    found, gradients = passes(columns, None, Costs(), scale=100.0)
    assert torch.isfinite(found.log_prob).all() and all(torch.isfinite(part).all() for part in gradients)
    assert float(found.log_prob[0, -1]) == pytest.approx(0, abs=1e-9)
