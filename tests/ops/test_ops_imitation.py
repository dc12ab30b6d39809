"""The cloning loss."""

import math

import pytest
import torch

from recil.ops.imitation import margin_loss, masked_negative_log_likelihood


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


def test_the_margin_is_paid_until_the_demonstrated_action_leads_by_it():
    values = torch.tensor([[2.0, 1.5, 0.0], [1.0, 3.0, 0.0], [1.0, 0.0, 0.1]], dtype=torch.float64, requires_grad=True)
    loss = margin_loss(values, torch.tensor([0, 0, 0]), margin=0.8)
    assert loss.tolist() == pytest.approx([0.3, 2.8, 0.0])
    loss.sum().backward()
    assert values.grad.tolist() == [[-1, 1, 0], [-1, 1, 0], [0, 0, 0]]


def test_the_margin_against_its_definition():
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(20, 4, generator=draw, dtype=torch.float64)
    action = torch.randint(0, 4, (20,), generator=draw)
    for row, (one, own) in enumerate(zip(values.tolist(), action.tolist(), strict=True)):
        wanted = max(value + (0.5 if item != own else 0) for item, value in enumerate(one)) - one[own]
        assert float(margin_loss(values, action, 0.5)[row]) == pytest.approx(wanted)
    with pytest.raises(ValueError, match="margin_loss"):
        margin_loss(values, action[:3])
