"""Log-probabilities and gradients of one pass, against the plain definition and autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recil.ops import one_pass
from recil.ops.one_pass import slate_log_prob, weighted_log_prob
from recil.ops.slates import plackett_luce_log_prob

ROWS, ITEMS, WIDTH = 23, 17, 5


def inputs(positions: int, sharp: float = 1.0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(positions)
    states = torch.randn(ROWS, WIDTH, generator=generator, dtype=dtype) * sharp
    weight = torch.randn(ITEMS, WIDTH, generator=generator, dtype=dtype)
    bias = torch.randn(ITEMS, generator=generator, dtype=dtype)
    slate = torch.stack([torch.randperm(ITEMS, generator=generator)[:positions] for _ in range(ROWS)])
    slate[3, 1:] = -1
    slate[4] = -1
    coefficient = torch.randn(ROWS, positions, generator=generator, dtype=dtype)
    return states.requires_grad_(), slate, coefficient, weight.requires_grad_(), bias.requires_grad_()


def by_definition(states: Tensor, slate: Tensor, coefficient: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    log_prob = plackett_luce_log_prob(states @ weight.T + bias, slate)
    return torch.where(slate >= 0, log_prob * coefficient, 0.0).sum()


@pytest.mark.parametrize("positions", [1, 2, 5])
@pytest.mark.parametrize("sharp", [1.0, 12.0])
@pytest.mark.parametrize("at_once", [1, 3 * ITEMS, 1 << 20])
@pytest.mark.parametrize("tame", [50.0, 0.0, 1e3])
def test_values_and_gradients_are_those_of_the_definition(positions, sharp, at_once, tame, monkeypatch) -> None:
    """Sharp: most of the mass goes with the first item, so that what is left has to be summed afresh.

    Tame: logits below this need no maximum taken off.
    """
    monkeypatch.setattr(one_pass, "LOGITS_AT_ONCE", at_once)
    monkeypatch.setattr(one_pass, "_TAME", tame)
    states, slate, coefficient, weight, bias = inputs(positions, sharp)
    variables = (states, weight, bias)
    expected = by_definition(states, slate, coefficient, weight, bias)
    wanted = torch.autograd.grad(expected, variables)
    total, log_prob = weighted_log_prob(states, slate, coefficient, weight, bias)
    assert total.item() == pytest.approx(expected.item(), rel=1e-10)
    assert torch.equal(log_prob[4], torch.zeros(positions, dtype=torch.float64)) and not log_prob.requires_grad
    found = torch.autograd.grad(3 * total, variables)
    again = slate_log_prob(states, slate, weight, bias)
    assert torch.allclose(again, plackett_luce_log_prob(states @ weight.T + bias, slate), rtol=1e-9, atol=1e-12)
    backward = torch.autograd.grad((again * coefficient).sum(), variables)
    for one, two, want in zip(found, backward, wanted, strict=True):
        assert torch.allclose(one, 3 * want, rtol=1e-8, atol=1e-10)
        assert torch.allclose(two, want, rtol=1e-8, atol=1e-10)


def test_an_item_that_stands_twice_is_impossible_the_second_time() -> None:
    states, slate, _, weight, bias = inputs(3)
    slate[0] = torch.tensor([2, 5, 2])
    log_prob = slate_log_prob(states, slate, weight, bias)
    assert log_prob[0].isinf().tolist() == [False, False, True] and log_prob[1:].isfinite().all()


def test_reduced_products_move_gradients_by_a_rounding_and_values_not_at_all() -> None:
    given = inputs(2, dtype=torch.float32)
    variables = (given[0], given[3], given[4])
    full, _ = weighted_log_prob(*given)
    less, _ = weighted_log_prob(*given, reduced=True)
    assert full.item() == less.item()
    for one, other in zip(torch.autograd.grad(full, variables), torch.autograd.grad(less, variables), strict=True):
        assert (one - other).norm() < 0.01 * one.norm()


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    states, slate, coefficient, weight, bias = inputs(2)
    with pytest.raises(ValueError, match="coefficient"):
        weighted_log_prob(states, slate, coefficient[:, :1], weight, bias)
    with pytest.raises(ValueError, match="states"):
        slate_log_prob(states[:2], slate, weight, bias)


def test_no_rows_are_no_loss() -> None:
    states, slate, coefficient, weight, bias = inputs(2)
    total, log_prob = weighted_log_prob(states[:0], slate[:0], coefficient[:0], weight, bias)
    total.backward()
    assert total == 0 and log_prob.shape == (0, 2) and not weight.grad.any()


def test_no_block_is_larger_than_the_bound_and_all_share_their_memory(monkeypatch) -> None:
    monkeypatch.setattr(one_pass, "LOGITS_AT_ONCE", 6 * ITEMS + 2)
    states = torch.zeros(10, WIDTH)
    assert [rows for rows, _ in one_pass.blocks_of(states, ITEMS)] == [slice(0, 6), slice(6, 10)]
    blocks = [(rows, *buffers) for rows, buffers in one_pass.blocks_of(states, ITEMS, 2)]
    assert [rows for rows, *_ in blocks] == [slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 10)]
    assert {first.shape for _, first, _ in blocks} == {(3, ITEMS), (1, ITEMS)}
    assert len({first.data_ptr() for _, first, _ in blocks}) == 1 == len({second.data_ptr() for _, _, second in blocks})
    assert len(list(one_pass.blocks_of(states, 1000))) == 10  # a row at a time where no more fit


def test_single_precision_is_near_at_the_bound_of_what_needs_no_maximum() -> None:
    """Logits up to 50 over many items: neither the sums nor what is divided by them leave float32."""
    generator = torch.Generator().manual_seed(1)
    states, weight = torch.randn(40, WIDTH, generator=generator), torch.randn(5000, WIDTH, generator=generator)
    longest = torch.linalg.vector_norm(states, dim=1).amax() * torch.linalg.vector_norm(weight, dim=1).amax()
    states, bias = (states * 49.9 / longest).requires_grad_(), torch.zeros(5000, requires_grad=True)
    weight.requires_grad_()
    assert one_pass.are_tame(states, weight, bias)
    slate = torch.randint(0, 5000, (40, 1), generator=generator)
    coefficient = torch.full((40, 1), 1e-5)
    total, _ = weighted_log_prob(states, slate, coefficient, weight, bias)
    found = torch.autograd.grad(total, (states, weight, bias))
    exact = [part.detach().double().requires_grad_() for part in (states, weight, bias)]
    expected = by_definition(exact[0], slate, coefficient.double(), exact[1], exact[2])
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    for one, other in zip(found, torch.autograd.grad(expected, exact), strict=True):
        assert torch.allclose(one.double(), other, rtol=1e-3, atol=1e-5 * float(other.abs().max()))


def test_gradients_stay_finite_where_one_item_holds_all_that_single_precision_can_tell() -> None:
    states, bias = torch.tensor([[1.0]]).requires_grad_(), torch.zeros(3)
    weight = torch.tensor([[200.0], [0.0], [-1.0]]).requires_grad_()
    coefficient = torch.tensor([[1000.0, -1000.0]])
    total, log_prob = one_pass.weighted_log_prob(states, torch.tensor([[0, 1]]), coefficient, weight, bias)
    total.backward()
    assert log_prob.isfinite().all() and weight.grad.isfinite().all() and states.grad.isfinite().all()
