"""The cloning loss."""

import math

import pytest
import torch

from recil.ops.imitation import masked_negative_log_likelihood


def test_is_the_mean_over_what_counts():
    log_prob = torch.tensor([[-1.0, -2.0], [-3.0, -50.0]])
    mask = torch.tensor([[True, True], [True, False]])
    assert masked_negative_log_likelihood(log_prob, mask).item() == pytest.approx(2.0)
    weight = torch.tensor([[1.0, 1.0], [2.0, 9.0]])
    assert masked_negative_log_likelihood(log_prob, mask, weight).item() == pytest.approx((1 + 2 + 6) / 4)


def test_what_is_masked_has_neither_value_nor_gradient():
    log_prob = torch.tensor([-1.0, -math.inf, math.nan], requires_grad=True)
    loss = masked_negative_log_likelihood(log_prob, torch.tensor([True, False, False]))
    loss.backward()
    assert loss.item() == 1.0
    assert log_prob.grad.tolist() == [-1.0, 0.0, 0.0]


def test_nothing_to_score_is_zero_not_nan():
    assert masked_negative_log_likelihood(torch.tensor([-1.0]), torch.tensor([False])).item() == 0.0


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="against mask"):
        masked_negative_log_likelihood(torch.zeros(2, 3), torch.ones(2, 2, dtype=torch.bool))
