"""What demonstrations weigh, and the weights of sessions drawn from a mixture."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recil.errors import InputError
from recil.ops.demonstrations import demonstration_weight, mixture_log_weight, with_demonstrations


def test_the_weight_decays_from_the_largest_advantage():
    advantage = torch.tensor([-1.0, 4.0, 2.0], dtype=torch.float64, requires_grad=True)
    for iteration in (0, 1, 7):
        weight = demonstration_weight(advantage, iteration, scale=0.1, decay=0.9)
        assert float(weight) == pytest.approx(0.1 * 0.9**iteration * 4)
        assert not weight.requires_grad
    assert float(demonstration_weight(-advantage.abs(), 0)) == 0.0
    for wrong in ({"iteration": -1}, {"iteration": 0, "decay": 1.1}, {"iteration": 0, "scale": -1.0}):
        with pytest.raises(InputError, match="demonstration_weight"):
            demonstration_weight(advantage, **wrong)


def test_the_gradient_is_the_weighted_sum_of_scores():
    own = torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True)
    shown = torch.tensor([-0.5, -0.1, -3.0], dtype=torch.float64, requires_grad=True)
    advantage = torch.tensor([3.0, -1.0], dtype=torch.float64, requires_grad=True)
    with_demonstrations(own, advantage, shown, demonstration_weight(advantage, 2, 0.5, 0.5)).backward()
    assert own.grad.tolist() == [3.0, -1.0]
    assert shown.grad.tolist() == [0.375] * 3
    assert advantage.grad is None
    with pytest.raises(InputError, match="with_demonstrations"):
        with_demonstrations(own, advantage[:1], shown, 1.0)


@given(st.integers(0, 50), st.floats(0.0, 0.99))
def test_mixture_weights_are_bounded_and_unbiased(seed, share):
    draw = torch.Generator().manual_seed(seed)
    policy, demo = (4 * torch.randn(6, generator=draw, dtype=torch.float64) for _ in range(2))
    log_pi, log_demo = policy.log_softmax(-1), demo.log_softmax(-1)
    weight = mixture_log_weight(log_pi, log_demo, share).exp()
    assert float(weight.max()) <= 1 / (1 - share) * (1 + 1e-12)
    mixture = (1 - share) * log_pi.exp() + share * log_demo.exp()
    torch.testing.assert_close(mixture * weight, log_pi.exp(), rtol=0, atol=1e-12)


def test_the_bound_is_reached_where_the_demonstrator_never_acts():
    log_pi, log_demo = torch.tensor([0.5, 0.5]).log().double(), torch.tensor([0.0, 1.0]).log().double()
    weight = mixture_log_weight(log_pi, log_demo, 0.75)
    assert float(weight[0]) == pytest.approx(math.log(4))
    assert float(weight[1]) == pytest.approx(math.log(0.5 / (0.125 + 0.75)))
    nobody = torch.tensor([-math.inf]).double()
    assert mixture_log_weight(nobody, nobody, 0.5).tolist() == [-math.inf]
    for share in (1.0, -0.1):
        with pytest.raises(InputError, match="mixture share"):
            mixture_log_weight(log_pi, log_demo, share)
    with pytest.raises(InputError, match="mixture_log_weight"):
        mixture_log_weight(log_pi, log_demo[:1], 0.5)
