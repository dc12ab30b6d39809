"""States that remember: a gated recurrent unit recomputed by hand, and the last observations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from recsim_ng.core.value import Value
from torch import Tensor

from recil.random import Streams
from recil.sim.spaces import Flags, Integers, Reals, Space
from recil.sim.states import GRU, FiniteHistory

GENERATOR = torch.Generator().manual_seed(2)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def cell(x: np.ndarray, h: np.ndarray, model: GRU) -> np.ndarray:
    """Cho et al. (2014) with torch's order of gates (reset, update, new), written out."""
    weights = [values.detach().numpy() for values in model.cell.parameters()]
    from_input, from_state = x @ weights[0].T + weights[2], h @ weights[1].T + weights[3]
    (r, z, n), (hr, hz, hn) = np.split(from_input, 3, -1), np.split(from_state, 3, -1)
    update = sigmoid(z + hz)
    return (1 - update) * np.tanh(n + sigmoid(r + hr) * hn) + update * h


def path(model: GRU, inputs: Tensor) -> Tensor:
    value = model.initial_state()
    for row in inputs:
        value = model.next_state(value, Value(input=row))
    return value.get("state")


def test_a_gru_steps_as_its_equations_say() -> None:
    model = GRU(3, 2, 5).double()
    inputs = torch.randn(4, 3, 2, generator=GENERATOR, dtype=torch.float64)
    state = np.zeros((3, 5))
    assert model.initial_state().get("state").tolist() == state.tolist()
    for row in inputs:
        state = cell(row.numpy(), state, model)
    np.testing.assert_allclose(path(model, inputs).detach(), state)


def test_the_weights_of_a_gru_have_addresses() -> None:
    first, again, other = (
        GRU(1, 2, 4, streams=Streams(1)),
        GRU(1, 2, 4, streams=Streams(1)),
        GRU(1, 2, 4, streams=Streams(2)),
    )
    for one, two, three in zip(first.cell.parameters(), again.cell.parameters(), other.cell.parameters(), strict=True):
        assert torch.equal(one, two) and not torch.equal(one, three)
        assert float(one.detach().abs().max()) <= 1 / math.sqrt(4)
        assert len(one.unique()) == one.numel()


def test_a_gru_learns_where_it_starts() -> None:
    initial = torch.nn.Parameter(torch.tensor([[0.1, -0.2, 0.3, 0.0]], dtype=torch.float64))
    model, inputs = GRU(3, 2, 4, initial), torch.randn(2, 3, 2, generator=GENERATOR, dtype=torch.float64)
    assert any(parameter is initial for parameter in model.parameters())
    assert model.initial_state().get("state").tolist() == initial.tolist() * 3

    assert torch.autograd.gradcheck(lambda start: path(GRU(3, 2, 4, start), inputs), (initial,))


def test_writing_into_a_start_leaves_the_next_one_alone() -> None:
    for model in (GRU(2, 1, 3, torch.ones(1, 3)), FiniteHistory(2, 2, empty=1)):
        model.initial_state().get("state").fill_(9)
        assert model.initial_state().get("state").unique().tolist() == [1]


@pytest.mark.parametrize("initial", [torch.zeros(4), torch.zeros(2, 4)])
def test_a_start_of_another_shape_is_refused(initial: Tensor) -> None:
    with pytest.raises(ValueError, match="initial: shape"):
        GRU(3, 2, 4, initial)


def test_a_history_has_the_newest_observation_last() -> None:
    model = FiniteHistory(3, 3, Reals((2,)))
    value = model.initial_state()
    assert value.get("state").tolist() == torch.zeros(3, 3, 2).tolist()
    for number in (1.0, 2.0):
        value = model.next_state(value, Value(input=torch.full((3, 2), number)))
    assert value.get("state")[:, :, 1].tolist() == [[0, 1, 2]] * 3


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_history_holds_the_last_observations_and_no_others(length: int) -> None:
    model, observed = FiniteHistory(2, length, Integers(100, (2,)), torch.int64), torch.arange(28).reshape(7, 2, 2)
    value = model.initial_state()
    for row in observed:
        before = value.get("state").clone()
        after = model.next_state(value, Value(input=row))
        assert torch.equal(value.get("state"), before)
        value = after
    assert torch.equal(value.get("state"), observed[-length:].transpose(0, 1))


def test_what_was_not_observed_yet_can_be_told_from_the_first_item() -> None:
    model = FiniteHistory(2, 2, Integers(10, start=-1), torch.int64, -1)
    value = model.next_state(model.initial_state(), Value(input=torch.tensor([0, 4])))
    assert value.get("state").tolist() == [[-1, 0], [-1, 4]]
    assert model.specs().get("state").space.shape == (2,)


def test_flags_are_remembered_as_flags() -> None:
    model = FiniteHistory(2, 2, Flags(), torch.bool)
    value = model.next_state(model.initial_state(), Value(input=torch.tensor([True, False])))
    assert value.get("state").tolist() == [[False, True], [False, False]]


def test_a_gradient_reaches_each_observation_that_is_remembered() -> None:
    model, observed = FiniteHistory(1, 2), torch.tensor([[1.0], [2.0], [3.0]], requires_grad=True)
    value = model.initial_state()
    for row in observed:
        value = model.next_state(value, Value(input=row))
    (value.get("state") * torch.tensor([10.0, 20.0])).sum().backward()
    assert observed.grad.tolist() == [[0], [10], [20]]


@pytest.mark.parametrize(
    ("length", "space", "dtype", "problem"),
    [
        (0, Reals(), None, "history of 0 observations"),
        (2, Reals((None,)), None, "wanted known sizes"),
        (2, Integers(10), None, "float32 where an integer type is wanted"),
        (2, Integers(10, start=1), torch.int64, "values from 0 to 0, wanted 1 to 10"),
    ],
)
def test_a_history_that_cannot_be_empty_is_refused(
    length: int, space: Space, dtype: torch.dtype | None, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        FiniteHistory(2, length, space, dtype)


@pytest.mark.parametrize("model", [GRU(2, 1, 3), FiniteHistory(2, 2)])
def test_a_step_without_input_is_refused(model: GRU | FiniteHistory) -> None:
    with pytest.raises(ValueError, match="wanted inputs with the field 'input'"):
        model.next_state(model.initial_state())
