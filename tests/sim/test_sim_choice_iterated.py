"""Several choices from one slate against a walk through masses in plain Python, over every sequence of picks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from statistics_helper import assert_mean
from torch import Tensor, nn
from torch.distributions import Categorical

from recil.ops.slates import plackett_luce_log_prob
from recil.random import Streams
from recil.sim.choice import IteratedChoice, IteratedMultinomialLogit
from recil.sim.draws import draw, precision_of, uniforms_needed

LOGIT = st.one_of(st.floats(-15, 15), st.just(-math.inf))
LOGITS = st.lists(LOGIT, min_size=4, max_size=4)
MIDDLES = (0.01, 0.5, 0.99)


def sequences(alternatives: int, count: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(alternatives), repeat=count)))


def probability(logits: list[float], picks: list[int]) -> float:
    """Of these picks in this order; where nothing is left, the last alternative is certain."""
    masses = [math.exp(value) for value in logits]
    product = 1.0
    for pick in picks:
        if sum(masses) == 0:
            product *= pick == len(logits) - 1
        else:
            product *= masses[pick] / sum(masses)
            masses[pick] = 0.0
    return product


def picks_of(model: IteratedMultinomialLogit, scores: Tensor, uniform: float) -> list[list[int]]:
    choice = model.choice(scores).get("choice")
    return draw(choice, torch.full((len(scores), uniforms_needed(choice)), uniform)).tolist()


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@settings(deadline=None, max_examples=40)
@given(logits=LOGITS)
def test_every_sequence_has_the_probability_of_its_walk(count: int, logits: list[float]) -> None:
    every = sequences(4, count)
    scores = IteratedChoice(torch.tensor([logits], dtype=torch.float64).expand(len(every), 4), count).log_prob(every)
    wanted = [probability(logits, picks) for picks in every.tolist()]
    assert scores.exp().tolist() == pytest.approx(wanted, rel=1e-9, abs=1e-290)
    assert float(scores.exp().sum()) == pytest.approx(1, abs=1e-12)


def test_it_is_plackett_luce_cut_off() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.5]], dtype=torch.float64).expand(12, 4)
    orders = torch.tensor(list(itertools.permutations(range(4), 2)))
    found = IteratedChoice(logits, 2).log_prob(orders)
    torch.testing.assert_close(found, plackett_luce_log_prob(logits, orders).sum(-1))


@pytest.mark.parametrize("middle", MIDDLES)
def test_a_gap_of_ten_is_picked_first(middle: float) -> None:
    scores = torch.tensor([[10.0, 0.0], [0.0, 10.0]])
    assert picks_of(IteratedMultinomialLogit(2, -math.inf), scores, middle) == [[0, 1], [1, 0]]


@pytest.mark.parametrize("middle", MIDDLES)
def test_no_choice_too_is_picked_once(middle: float) -> None:
    scores = torch.tensor([[0.0, 10.0], [10.0, 0.0]])
    assert picks_of(IteratedMultinomialLogit(2, 100.0), scores, middle) == [[2, 1], [2, 0]]
    assert picks_of(IteratedMultinomialLogit(3, torch.tensor([1000.0, -1000.0])), scores, middle) == [
        [2, 1, 0],
        [0, 1, 2],
    ]


@pytest.mark.parametrize("middle", MIDDLES)
def test_where_nothing_is_left_nothing_is_chosen(middle: float) -> None:
    scores = torch.tensor([[1.0, -math.inf], [-math.inf, -math.inf]])
    assert picks_of(IteratedMultinomialLogit(3, -math.inf), scores, middle) == [[0, 2, 2], [2, 2, 2]]
    assert picks_of(IteratedMultinomialLogit(3, 50.0), scores, middle) == [[2, 0, 2], [2, 2, 2]]


def test_the_first_pick_is_that_of_a_single_choice() -> None:
    sessions = 500
    logits = torch.linspace(-1, 2, 5).expand(sessions, 5)
    uniforms = Streams(2).uniform("first", torch.arange(sessions), 0, 3)
    picks = draw(IteratedChoice(logits, 3), uniforms)
    assert picks.dtype == torch.int64
    assert picks[:, 0].tolist() == draw(Categorical(logits=logits, validate_args=False), uniforms[:, :1]).tolist()
    assert draw(IteratedChoice(logits, 3), uniforms).tolist() == picks.tolist()
    assert draw(IteratedChoice(logits[:7], 3), uniforms[:7]).tolist() == picks[:7].tolist()


def test_draws_follow_the_probabilities() -> None:
    sessions = 60_000
    logits = [0.5, -0.5, 1.0, 0.0]
    choice = IteratedChoice(torch.tensor(logits, dtype=torch.float64).expand(sessions, 4), 2)
    assert precision_of(choice) == torch.float64
    assert uniforms_needed(choice) == 2
    picks = draw(choice, Streams(6).uniform("picks", torch.arange(sessions), 0, 2, torch.float64))
    for sequence in itertools.permutations(range(4), 2):
        met = (picks == torch.tensor(sequence)).all(1)
        assert_mean(met.double().numpy(), probability(logits, list(sequence)))
    assert bool(torch.isfinite(choice.log_prob(picks)).all())


def test_gradients_are_those_of_the_log_probability() -> None:
    picks = torch.tensor([[1, 3, 0], [3, 2, 1]])
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.5]] * 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: IteratedChoice(values, 3).log_prob(picks), (logits,))


def test_gradients_stay_finite_where_nothing_is_left() -> None:
    model = IteratedMultinomialLogit(3, nn.Parameter(torch.tensor(-1.0)), nn.Parameter(torch.tensor(0.5)))
    scores = torch.tensor([[1.0, -math.inf], [-math.inf, -math.inf], [3.0, 1.0]], requires_grad=True)
    picks = torch.tensor([[0, 2, 2], [2, 2, 2], [1, 0, 2]])
    score = model.choice(scores).get("choice").log_prob(picks)
    assert bool(torch.isfinite(score).all())
    score.sum().backward()
    for gradient in (scores.grad, model.no_choice_logit.grad, model.positional_bias.grad):
        assert bool(torch.isfinite(gradient).all())
    assert float(model.no_choice_logit.grad) != 0
    assert float(model.positional_bias.grad) != 0


def test_positional_bias_moves_items_and_not_no_choice() -> None:
    model = IteratedMultinomialLogit(2, 0.5, -2.0)
    choice = model.choice(torch.tensor([[1.0, 1.0, 1.0]])).get("choice")
    every = sequences(4, 2)
    wanted = [probability([1.0, -1.0, -3.0, 0.5], picks) for picks in every.tolist()]
    scores = IteratedChoice(choice.logits.expand(len(every), 4), 2).log_prob(every)
    assert scores.exp().tolist() == pytest.approx(wanted, rel=1e-5)


def test_no_picks_are_refused() -> None:
    with pytest.raises(ValueError, match="0 picks"):
        IteratedChoice(torch.zeros(1, 3), 0)
