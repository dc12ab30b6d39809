"""The chunked softmax equals the whole one, in value and gradient, and keeps its bound."""

import pytest
import torch

from recil.ops import softmax
from recil.ops.slates import plackett_luce_log_prob
from recil.ops.softmax import chunked_log_prob


@pytest.fixture
def problem():
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(23, 5, generator=draw, dtype=torch.float64)
    weight, bias = torch.randn(11, 5, generator=draw, dtype=torch.float64), torch.randn(11, generator=draw).double()
    slate = torch.rand(23, 11, generator=draw).argsort(1)[:, :3]
    slate[::4, 2] = -1
    return [tensor.requires_grad_() for tensor in (states, weight, bias)], slate


@pytest.mark.parametrize("rows", [1, 5, 23])
def test_equals_the_whole_softmax_with_its_gradients(problem, rows):
    (states, weight, bias), slate = problem
    whole = plackett_luce_log_prob(states @ weight.T + bias, slate)
    chunked = chunked_log_prob(states, slate, weight, bias, logits_at_once=11 * rows)
    torch.testing.assert_close(chunked, whole, rtol=1e-12, atol=1e-12)
    upstream = torch.randn(whole.shape, generator=torch.Generator().manual_seed(1)).double()
    expected = torch.autograd.grad((whole * upstream).sum(), (states, weight, bias))
    found = torch.autograd.grad((chunked * upstream).sum(), (states, weight, bias))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gradients", [True, False])
def test_no_block_is_larger_than_the_bound(problem, monkeypatch, gradients):
    (states, weight, bias), slate = problem
    sizes = []

    def watched(logits, shown):
        sizes.append(logits.numel())
        return plackett_luce_log_prob(logits, shown)

    monkeypatch.setattr(softmax, "plackett_luce_log_prob", watched)
    with torch.set_grad_enabled(gradients):
        scores = chunked_log_prob(states, slate, weight, bias, logits_at_once=50)
    if gradients:
        kept = len(sizes)
        scores.sum().backward()
        assert len(sizes) == 2 * kept, "the backward pass computes each block again instead of keeping it"
    assert max(sizes) <= 50
    assert len(sizes) > 1


def test_a_bound_below_one_row_still_takes_one_row_at_a_time(problem):
    (states, weight, bias), slate = problem
    assert chunked_log_prob(states, slate, weight, bias, logits_at_once=1).shape == slate.shape


def test_shapes_that_do_not_fit_are_refused(problem):
    (states, weight, bias), slate = problem
    with pytest.raises(ValueError, match="chunked_log_prob"):
        chunked_log_prob(states, slate[:-1], weight, bias)
