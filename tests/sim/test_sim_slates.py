"""Distributions over slates against enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from recil.ops.slates import plackett_luce_log_prob
from recil.random import Streams
from recil.sim.draws import draw, precision_of, uniforms_needed
from recil.sim.slates import InnerProductSlate, SoftmaxSlate, UniformSlate

SLATES = torch.tensor(list(itertools.permutations(range(5), 3)))
STATES = torch.tensor([[0.3, -1.0], [2.0, 0.5]], dtype=torch.float64)
WEIGHT = torch.tensor([[1.0, 0.2], [-0.5, 0.7], [0.0, -1.1], [0.4, 0.4], [2.0, 0.1]], dtype=torch.float64)
BIAS = torch.tensor([0.1, -0.3, 0.0, 0.6, -1.0], dtype=torch.float64)


def test_every_uniform_slate_is_as_likely_as_any_other() -> None:
    scores = UniformSlate(len(SLATES), 5, 3).log_prob(SLATES)
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores, torch.full((60,), -math.log(60), dtype=torch.float64), rtol=0, atol=1e-12)
    impossible = torch.tensor([[0, 1, 1], [0, 1, 5], [-1, 0, 1]])
    assert UniformSlate(3, 5, 3).log_prob(impossible).tolist() == [-math.inf] * 3


def test_uniform_draws_meet_every_slate_equally_often() -> None:
    sessions = 60_000
    slates = UniformSlate(sessions, 5, 3)
    assert uniforms_needed(slates) == 3 and precision_of(slates) == torch.float64
    items = draw(slates, Streams(2).uniform("slate", torch.arange(sessions), 0, 3, torch.float64))
    seen = np.bincount((items * torch.tensor([25, 5, 1])).sum(1).numpy(), minlength=125)
    expected = np.bincount((SLATES * torch.tensor([25, 5, 1])).sum(1).numpy(), minlength=125) > 0
    assert seen[~expected].sum() == 0
    assert stats.chisquare(seen[expected]).pvalue > 1e-6


@pytest.mark.parametrize("size", [0, 6])
def test_uniform_slates_that_cannot_be_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} of 5 items; wanted 1 to 5"):
        UniformSlate(1, 5, size)


def test_inner_products_are_the_softmax_they_stand_for() -> None:
    logits = STATES @ WEIGHT.T + BIAS
    for row in range(2):
        inner = InnerProductSlate(STATES[row].expand(60, 2), WEIGHT, BIAS, 3)
        softmax = SoftmaxSlate(logits[row].expand(60, 5), 3)
        wanted = plackett_luce_log_prob(logits[row].expand(60, 5), SLATES).sum(1)
        torch.testing.assert_close(inner.log_prob(SLATES), wanted, rtol=0, atol=1e-12)
        torch.testing.assert_close(softmax.log_prob(SLATES), wanted, rtol=0, atol=1e-12)
        assert float(wanted.exp().sum()) == pytest.approx(1, abs=1e-12)


def test_inner_products_and_softmax_draw_the_same_items() -> None:
    sessions = 5000
    states, weight = (torch.randn(rows, 8, generator=torch.Generator().manual_seed(rows)) for rows in (sessions, 300))
    uniforms = Streams(4).uniform("slate", torch.arange(sessions), 0, 4, torch.float64)
    inner = draw(InnerProductSlate(states, weight, torch.zeros(300), 4), uniforms)
    softmax = draw(SoftmaxSlate(states @ weight.T, 4), uniforms)
    assert float((inner == softmax).double().mean()) > 0.9999  # products of other sizes round otherwise
    assert all(len(set(row)) == 4 for row in inner.tolist())


def test_gradients_reach_states_weights_and_bias() -> None:
    parameters = [values.clone().requires_grad_() for values in (STATES, WEIGHT, BIAS)]
    slates = SLATES[[3, 40]]
    assert torch.autograd.gradcheck(lambda *given: InnerProductSlate(*given, 3).log_prob(slates), parameters)
