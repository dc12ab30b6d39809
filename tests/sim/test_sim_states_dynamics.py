"""Linear and finite dynamics against cycles, hand-written densities, closed-form moments and enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from recsim_ng.core.value import Value
from scipy import stats
from statistics_helper import assert_mean
from test_sim_states import sample
from torch import Tensor

from recil.random import Streams
from recil.sim.draws import draw
from recil.sim.states import (
    ControlledLinearGaussian,
    DiagonalNoise,
    FiniteStateMarkov,
    FullNoise,
    LinearGaussian,
    Matrix,
    Scale,
    StateModel,
)

MANY = 20_000
GENERATOR = torch.Generator().manual_seed(3)
CYCLES = torch.stack([torch.eye(3)[[1, 2, 0]], torch.eye(3)[[2, 0, 1]]])
"""Two sessions: one turns its coordinates one way, one the other."""
START = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
TRIANGLE = torch.tensor([[0.8, 0.0], [-0.6, 0.5]], dtype=torch.float64)
FORWARD, BACKWARD = torch.eye(3)[[1, 2, 0]].log(), torch.eye(3)[[2, 0, 1]].log()


def certain_step(model: StateModel, state: Tensor, inputs: Value | None = None) -> Tensor:
    """The next state of a model without noise."""
    return sample(model.next_state(Value(state=state), inputs).get("state"), torch.arange(len(state)))


def test_cycles_of_three_close_in_both_directions() -> None:
    model = LinearGaussian.from_matrix(2, CYCLES)
    first = certain_step(model, START)
    assert first.tolist() == [[0, 0, 1], [0, 1, 0]]
    second = certain_step(model, first)
    assert second.tolist() == [[0, 1, 0], [0, 0, 1]]
    assert torch.equal(certain_step(model, second), START)


def test_a_push_is_added_to_the_turn() -> None:
    model = ControlledLinearGaussian.from_matrices(2, CYCLES, torch.eye(3))
    assert certain_step(model, START, Value(input=-START)).tolist() == [[-1, 0, 1], [-1, 1, 0]]


def test_a_turn_by_sixty_degrees_closes_after_six_steps() -> None:
    angle = math.pi / 3
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    model, state = LinearGaussian.from_matrix(1, turn), torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    path = [state]
    for _ in range(6):
        path.append(certain_step(model, path[-1]))
    torch.testing.assert_close(path[6], path[0])
    torch.testing.assert_close(path[3], -path[0])


def test_matrices_act_from_the_left_and_may_have_other_inputs_than_states() -> None:
    control = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])
    model = ControlledLinearGaussian.from_matrices(2, torch.zeros(3, 3), control)
    pushed = certain_step(model, START, Value(input=torch.tensor([[10.0, 1.0], [10.0, 7.0]])))
    assert pushed.tolist() == [[12, 34, 56], [0, 7, 0]]


@pytest.mark.parametrize(
    "scale", [2.0, torch.tensor([2.0, 3.0]), torch.tensor([[2.0, 3.0, 4.0]]), torch.arange(6.0).reshape(2, 3)]
)
def test_scales_are_diagonal_matrices(scale: Tensor | float) -> None:
    rows = torch.as_tensor(scale)
    rows = (rows[:, None] if rows.ndim == 1 else rows).expand(2, 3)
    state, push = torch.randn(2, 3, generator=GENERATOR), torch.randn(2, 3, generator=GENERATOR)
    for model in (
        ControlledLinearGaussian.scaled(2, 3, transition=scale, control=scale),
        ControlledLinearGaussian.from_matrices(2, torch.diag_embed(rows), torch.diag_embed(rows)),
    ):
        torch.testing.assert_close(certain_step(model, state, Value(input=push)), rows * (state + push))
    noisy = LinearGaussian.scaled(2, 3, noise=rows + 1, initial=rows + 1)
    for value, mean in ((noisy.initial_state(), torch.zeros(2, 3)), (noisy.next_state(Value(state=state)), state)):
        wanted = stats.norm.logpdf(push.numpy(), mean.numpy(), rows.numpy() + 1).sum(-1)
        np.testing.assert_allclose(value.get("state").log_prob(push), wanted, rtol=1e-5)


def test_scales_left_out_are_one_and_noise_left_out_is_none() -> None:
    model = ControlledLinearGaussian.scaled(2, 3)
    assert certain_step(model, START, Value(input=2 * START)).tolist() == (3 * START).tolist()
    value = torch.randn(2, 3, generator=GENERATOR)
    wanted = stats.norm.logpdf(value.numpy()).sum(-1)
    for start in (model, LinearGaussian.scaled(2, 3), LinearGaussian.from_matrix(2, CYCLES)):
        np.testing.assert_allclose(start.initial_state().get("state").log_prob(value), wanted, rtol=1e-5)


def test_a_random_walk_scores_whole_steps_as_known() -> None:
    """Each step of 1 under N(previous, 1) has log-probability -1.4189385."""
    model = LinearGaussian.scaled(1, 1, noise=1.0)
    for place in range(3):
        score = (
            model.next_state(Value(state=torch.full((1, 1), float(place))))
            .get("state")
            .log_prob(torch.full((1, 1), place + 1.0))
        )
        assert float(score) == pytest.approx(-1.4189385, abs=1e-6)


def test_full_noise_is_scored_by_its_covariance() -> None:
    matrices = torch.randn(3, 2, 2, generator=GENERATOR, dtype=torch.float64)
    model = LinearGaussian.from_matrix(3, matrices, FullNoise(TRIANGLE), FullNoise(TRIANGLE.expand(3, 2, 2) * 2))
    old, new = torch.randn(2, 3, 2, generator=GENERATOR, dtype=torch.float64)
    covariance = TRIANGLE.numpy() @ TRIANGLE.numpy().T
    first, after = model.initial_state().get("state"), model.next_state(Value(state=old)).get("state")
    for session in range(3):
        mean = matrices[session].numpy() @ old[session].numpy()
        wanted = stats.multivariate_normal.logpdf(new[session].numpy(), mean, covariance)
        assert float(after.log_prob(new)[session]) == pytest.approx(wanted)
        wanted = stats.multivariate_normal.logpdf(new[session].numpy(), cov=4 * covariance)
        assert float(first.log_prob(new)[session]) == pytest.approx(wanted)


def test_noise_is_the_same_with_and_without_control() -> None:
    noises = DiagonalNoise(0.3), FullNoise(TRIANGLE)
    free = LinearGaussian.from_matrix(2, TRIANGLE, *noises)
    steered = ControlledLinearGaussian.from_matrices(2, TRIANGLE, TRIANGLE, *noises)
    old, new = torch.randn(2, 2, 2, generator=GENERATOR, dtype=torch.float64)
    still = Value(input=torch.zeros(2, 2, dtype=torch.float64))
    for value, wanted in (
        (steered.initial_state(), free.initial_state()),
        (steered.next_state(Value(state=old), still), free.next_state(Value(state=old))),
    ):
        torch.testing.assert_close(value.get("state").log_prob(new), wanted.get("state").log_prob(new))
        assert type(value.get("state")) is type(wanted.get("state"))


def test_draws_of_full_noise_have_its_covariance() -> None:
    seen = sample(FullNoise(TRIANGLE).around(torch.ones(MANY, 2, dtype=torch.float64)), torch.arange(MANY)).numpy() - 1
    covariance = TRIANGLE @ TRIANGLE.T
    for row, column in ((0, 0), (0, 1), (1, 1)):  # false alarm 1e-6 each, for the means too
        assert_mean(seen[:, row] * seen[:, column], float(covariance[row, column]))
    assert_mean(seen[:, 0], 0.0)
    assert_mean(seen[:, 1], 0.0)


def test_the_variance_of_a_shrinking_walk_follows_its_closed_form() -> None:
    shrink, push, noise, initial = 0.8, 0.5, 0.6, 2.0
    model = ControlledLinearGaussian.scaled(MANY, 2, shrink, push, noise, initial)
    sessions, inputs = torch.arange(MANY), Value(input=torch.tensor([1.0, -2.0]).expand(MANY, 2))
    state = sample(model.initial_state().get("state"), sessions)
    for step in range(1, 4):
        state = sample(model.next_state(Value(state=state), inputs).get("state"), sessions, step)
    left = shrink**3
    mean = push * (1 - left) / (1 - shrink)
    square = left**2 * initial**2 + noise**2 * (1 - left**2) / (1 - shrink**2)
    for axis, direction in enumerate((1.0, -2.0)):  # false alarm 1e-6 for each of five means
        around = state[:, axis].double().numpy() - direction * mean
        assert_mean(around, 0.0)
        assert_mean(around**2, square)
    assert_mean((state[:, 0] - mean).numpy() * (state[:, 1] + 2 * mean).numpy(), 0.0)


def test_paths_are_differentiable_in_the_parameters() -> None:
    """Three steps under full noise and control, against finite differences."""
    streams, sessions = Streams(5), torch.arange(2)
    push = torch.randn(2, 1, generator=GENERATOR, dtype=torch.float64)

    def end(transition: Tensor, control: Tensor, scale: Tensor) -> Tensor:
        free = LinearGaussian(2, 2, Matrix(transition), FullNoise(scale.tril()))
        model, state = ControlledLinearGaussian(free, Matrix(control)), torch.ones(2, 2, dtype=torch.float64)
        for step in range(3):
            after = model.next_state(Value(state=state), Value(input=push)).get("state")
            state = draw(after, streams.uniform("x", sessions, step, 2, torch.float64))
        return state

    transition, control = torch.randn(3, 2, generator=GENERATOR, dtype=torch.float64).split([2, 1])
    given = tuple(values.clone().requires_grad_() for values in (transition, control.T, TRIANGLE))
    assert torch.autograd.gradcheck(end, given)


def test_a_learned_triangle_stays_one() -> None:
    triangle = torch.nn.Parameter(TRIANGLE.clone())
    noise = FullNoise(triangle).around(torch.zeros(4, 2, dtype=torch.float64))
    (sample(noise, torch.arange(4)) ** 2).sum().backward()
    assert float(triangle.grad[0, 1]) == 0 and bool((triangle.grad.tril()[[0, 1, 1], [0, 0, 1]] != 0).all())


def test_the_likelihood_of_a_path_peaks_at_least_squares() -> None:
    """The gradient in A vanishes where A is the regression of each state on the one before."""
    before, after = torch.randn(2, 500, 3, generator=GENERATOR, dtype=torch.float64)
    best = torch.linalg.lstsq(before, after).solution.T.contiguous()
    for transition, peak in ((best, True), (best + 0.1, False)):
        matrix = torch.nn.Parameter(transition.clone())
        model = LinearGaussian.from_matrix(500, matrix, DiagonalNoise(0.7))
        model.next_state(Value(state=before)).get("state").log_prob(after).sum().backward()
        assert (float(matrix.grad.abs().max()) < 1e-9) == peak


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: LinearGaussian.from_matrix(3, CYCLES), r"transition: shape \[2, 3, 3\].*1 or 3"),
        (lambda: LinearGaussian.from_matrix(3, torch.zeros(2, 3)), r"transition: shape \[2, 3\]; wanted square"),
        (lambda: ControlledLinearGaussian.from_matrices(2, CYCLES, torch.eye(2)), "control.*states of 3 numbers"),
        (lambda: ControlledLinearGaussian.from_matrices(3, torch.eye(3), CYCLES), r"control.*1 or 3"),
        (lambda: DiagonalNoise(0.0), "positive"),
        (lambda: DiagonalNoise(torch.ones(1, 2, 2)), "one, "),
        (lambda: FullNoise(torch.tensor([[1.0, 0.5], [0.0, 1.0]])), "lower triangular"),
        (lambda: FullNoise(torch.tensor([[1.0, 0.0], [0.5, -1.0]])), "positive diagonal"),
        (lambda: FullNoise(torch.ones(2)), r"\[D, D\]"),
        (lambda: Matrix(torch.ones(2)), "matrix: shape"),
        (lambda: Scale(torch.ones(2, 2, 2)), "scale: shape"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(make, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        make()


@pytest.mark.parametrize("inputs", [None, Value(condition=torch.ones(2))])
def test_a_controlled_step_without_input_is_refused(inputs: Value | None) -> None:
    wanted = "ControlledLinearGaussian.next_state: wanted inputs with the field 'input'"
    with pytest.raises(ValueError, match=wanted):
        ControlledLinearGaussian.scaled(2, 3).next_state(Value(state=START), inputs)


def test_a_step_forward_and_one_back_lead_home() -> None:
    model = FiniteStateMarkov(2, torch.stack([FORWARD, BACKWARD])[None], torch.eye(3)[[0, 2]].log())
    start = sample(model.initial_state().get("state"), torch.arange(2))
    assert start.tolist() == [0, 2]
    ahead = certain_step(model, start, Value(input=torch.tensor([0, 0])))
    assert ahead.tolist() == [1, 0]
    assert certain_step(model, ahead, Value(input=torch.tensor([1, 0]))).tolist() == [0, 1]


def test_a_chain_has_transitions_of_its_own_in_each_session() -> None:
    model = FiniteStateMarkov(2, torch.stack([FORWARD, BACKWARD])[:, None], torch.zeros(1, 3))
    assert certain_step(model, torch.tensor([0, 0])).tolist() == [1, 2]


@pytest.mark.parametrize("lead", [1, 2])
def test_the_probabilities_of_all_paths_are_products_and_sum_to_one(lead: int) -> None:
    transition = torch.randn(lead, 2, 3, 3, generator=GENERATOR, dtype=torch.float64) * 2
    initial = torch.randn(1, 3, generator=GENERATOR, dtype=torch.float64)
    model, pushes = FiniteStateMarkov(2, transition, initial), torch.tensor([[0, 1], [1, 1], [0, 0]])
    kernel, start = torch.softmax(transition, -1).numpy(), torch.softmax(initial[0], -1).numpy()
    total = torch.zeros(2, dtype=torch.float64)
    for path in itertools.product(range(3), repeat=4):
        state = torch.full((2,), path[0])
        score = model.initial_state().get("state").log_prob(state)
        for push, place in zip(pushes, path[1:], strict=True):
            after = model.next_state(Value(state=state), Value(input=push)).get("state")
            state = torch.full((2,), place)
            score = score + after.log_prob(state)
        for session in range(2):
            steps = zip(pushes[:, session].tolist(), path, path[1:], strict=False)
            wanted = start[path[0]] * math.prod(kernel[session % lead, push, a, b] for push, a, b in steps)
            assert float(score[session].exp()) == pytest.approx(float(wanted))
        total = total + score.exp()
    torch.testing.assert_close(total, torch.ones(2, dtype=torch.float64))


def test_a_chain_moves_as_often_as_its_logits_say() -> None:
    transition = torch.randn(1, 2, 3, 3, generator=GENERATOR)
    model, sessions = FiniteStateMarkov(MANY, transition, torch.zeros(1, 3)), torch.arange(MANY)
    state, push = sessions % 3, sessions // 3 % 2
    after = sample(model.next_state(Value(state=state), Value(input=push)).get("state"), sessions)
    for before, pushed, place in itertools.product(range(3), range(2), range(3)):  # false alarm 1e-6 for each of 18
        seen = after[(state == before) & (push == pushed)] == place
        assert_mean(seen.double().numpy(), float(torch.softmax(transition[0, pushed, before], -1)[place]))


def test_the_likelihood_of_moves_has_the_gradient_of_their_counts() -> None:
    logits = torch.nn.Parameter(torch.randn(1, 1, 3, 3, generator=GENERATOR, dtype=torch.float64))
    model = FiniteStateMarkov(8, logits, torch.zeros(1, 3, dtype=torch.float64))
    before, after = torch.tensor([0, 0, 1, 2, 2, 2, 0, 1]), torch.tensor([1, 2, 1, 0, 0, 2, 1, 0])
    model.next_state(Value(state=before)).get("state").log_prob(after).sum().backward()
    counts = torch.zeros(3, 3, dtype=torch.float64)
    for a, b in zip(before.tolist(), after.tolist(), strict=True):
        counts[a, b] += 1
    wanted = counts - counts.sum(1, keepdim=True) * torch.softmax(logits.detach()[0, 0], -1)
    torch.testing.assert_close(logits.grad[0, 0], wanted)


@pytest.mark.parametrize(
    ("transition", "initial", "problem"),
    [
        (torch.zeros(3, 3), torch.zeros(1, 3), "transition: .*wanted 4 dimensions"),
        (torch.zeros(1, 1, 3, 3), torch.zeros(1, 4), "for 4 initial states"),
        (torch.full((1, 1, 3, 3), -torch.inf), torch.zeros(1, 3), "transition: logits .* all minus infinity"),
        (torch.zeros(1, 1, 3, 3), torch.full((1, 3), torch.nan), "initial: logits that are nan"),
    ],
)
def test_impossible_chains_are_refused(transition: Tensor, initial: Tensor, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        FiniteStateMarkov(2, transition, initial)


def test_a_steered_chain_without_input_is_refused() -> None:
    model = FiniteStateMarkov(2, torch.zeros(1, 2, 3, 3), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"FiniteStateMarkov.next_state: wanted inputs with the field 'input'"):
        model.next_state(Value(state=torch.tensor([0, 1])))
