import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recil.ops.returns import discounted_return, discounts, rewards_to_go


@given(st.integers(0, 99), st.sampled_from([0.0, 0.3, 0.99, 1.0]))
def test_against_the_definition(seed, gamma):
    draw = torch.Generator().manual_seed(seed)
    reward = torch.randn(5, 6, generator=draw, dtype=torch.float64)
    length = torch.randint(0, 7, (5,), generator=draw)
    happened = torch.arange(6) < length[:, None]
    to_go = rewards_to_go(reward, happened, gamma)
    for row in range(5):
        for step in range(6):
            wanted = sum(gamma ** (k - step) * float(reward[row, k]) for k in range(step, int(length[row])))
            assert float(to_go[row, step]) == pytest.approx(wanted, abs=1e-12)
    torch.testing.assert_close(discounted_return(reward, happened, gamma), to_go[:, 0], atol=1e-12, rtol=0)


def test_no_discount_is_finite_at_zero():
    assert discounts(3, 0.0, torch.zeros(1)).tolist() == [1.0, 0.0, 0.0]


def test_nan_behind_the_end_is_not_read():
    reward = torch.tensor([[1.0, float("nan")]])
    happened = torch.tensor([[True, False]])
    assert discounted_return(reward, happened).tolist() == [1.0]
    assert rewards_to_go(reward, happened, 0.9).tolist() == [[1.0, 0.0]]


def test_discount_outside_the_unit_interval_is_refused():
    with pytest.raises(ValueError, match=r"gamma is 1\.5"):
        rewards_to_go(torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool), 1.5)
