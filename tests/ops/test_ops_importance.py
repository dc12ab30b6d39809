import itertools
import math

import pytest
import torch

from recil.ops.importance import (
    capped,
    cumulative_log_weight,
    effective_sample_size,
    largest_share,
    step_log_ratio,
)


def test_ratio_of_a_slate_multiplies_its_positions():
    log_prob = torch.log(torch.tensor([[[0.5, 0.2], [0.1, 0.9]]]))
    log_propensity = torch.log(torch.tensor([[[0.25, 0.4], [0.2, 1.0]]]))
    shown = torch.tensor([[[True, True], [True, False]]])
    ratio = step_log_ratio(log_prob, log_propensity, shown).exp()
    torch.testing.assert_close(ratio, torch.tensor([[1.0, 0.5]]).double(), atol=1e-6, rtol=0)


def test_an_ended_session_keeps_its_last_weight():
    ratio = torch.tensor([[2.0, 3.0, 7.0], [0.5, 7.0, 7.0]]).double().log()
    happened = torch.tensor([[True, True, False], [True, False, False]])
    weight = cumulative_log_weight(ratio, happened).exp()
    torch.testing.assert_close(weight, torch.tensor([[2.0, 6.0, 6.0], [0.5, 0.5, 0.5]]).double())


def test_the_cap_is_on_the_weight_not_on_the_ratios():
    ratio = torch.tensor([[4.0, 0.5, 0.5]]).double().log()
    happened = torch.ones(1, 3, dtype=torch.bool)
    assert cumulative_log_weight(ratio, happened, cap=3.0).exp()[0].tolist() == pytest.approx([3.0, 2.0, 1.0])
    with pytest.raises(ValueError, match="cap is 0"):
        capped(ratio, 0.0)


@pytest.mark.parametrize("shift", [0.0, 2000.0, -2000.0])
def test_effective_sample_size_and_share_do_not_depend_on_scale(shift):
    weight = torch.tensor([1.0, 1.0, 2.0, 0.0]).double()
    assert float(effective_sample_size(weight.log() + shift)) == pytest.approx(16 / 6)
    assert float(largest_share(weight.log() + shift)) == pytest.approx(0.5)


def test_no_weight_at_all():
    nothing = torch.full((3,), -math.inf).double()
    assert float(effective_sample_size(nothing)) == 0.0


@pytest.mark.parametrize(("steps", "share"), [(1, 0.962), (5, 0.822), (10, 0.676)])
def test_share_of_products_of_ratios(steps, share):
    """A per-step second moment of 1.04 leaves 1.04**-T of the sample: ratios 1 ± .2, equally likely, all paths."""
    ratio = torch.tensor(list(itertools.product((1.2, 0.8), repeat=steps))).double()
    weight = cumulative_log_weight(ratio.log(), torch.ones_like(ratio, dtype=torch.bool))[:, -1]
    assert float(effective_sample_size(weight)) / len(ratio) == pytest.approx(share, abs=6e-4)
