"""Choice model entities against their closed forms, and the fields they declare against what they draw."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from statistics_helper import assert_mean
from torch import Tensor, nn

from recil.random import Streams
from recil.sim.choice import (
    Cascade,
    IndependentByPosition,
    IteratedMultinomialLogit,
    MultinomialLogit,
    Proportional,
)
from recil.sim.draws import draw, precision_of, uniforms_needed
from recil.sim.fields import RandomField

SCORES = st.lists(st.floats(-30, 30), min_size=3, max_size=3)
MIDDLES = (0.01, 0.5, 0.99)
MODELS = {
    "multinomial": MultinomialLogit(0.5, -0.25),
    "iterated": IteratedMultinomialLogit(2, 0.5, -0.25),
    "proportional": Proportional(-2.0, 1.0),
    "cascade": Cascade(1.5),
    "positions": IndependentByPosition(torch.tensor([2.0, 0.5, -1.0])),
}


def probabilities(model, scores: list[float], alternatives: int) -> list[float]:
    """Of every alternative, from the log-probabilities of the values."""
    rows = torch.tensor(scores, dtype=torch.float64).expand(alternatives, -1)
    return model.choice(rows).get("choice").log_prob(torch.arange(alternatives)).exp().tolist()


@settings(deadline=None)
@given(scores=SCORES, no_choice=st.floats(-30, 30), bias=st.floats(-5, 5))
def test_the_multinomial_logit_is_a_softmax_with_biased_items(scores, no_choice: float, bias: float) -> None:
    model = MultinomialLogit(no_choice, bias).double()
    no_choice, bias = float(model.no_choice_logit), float(model.positional_bias)
    masses = [math.exp(score + place * bias) for place, score in enumerate(scores)] + [math.exp(no_choice)]
    found = probabilities(model, scores, 4)
    assert found == pytest.approx([mass / sum(masses) for mass in masses], rel=1e-9, abs=1e-290)
    assert sum(found) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("middle", MIDDLES)
def test_a_gap_of_ten_is_chosen_and_so_is_no_choice(middle: float) -> None:
    def drawn(model: MultinomialLogit, scores: Tensor) -> list[int]:
        return draw(model.choice(scores).get("choice"), torch.full((len(scores), 1), middle)).tolist()

    gaps = torch.tensor([[10.0, 0.0], [0.0, 10.0]])
    assert drawn(MultinomialLogit(-math.inf), gaps) == [0, 1]
    assert drawn(MultinomialLogit(10.0), torch.zeros(2, 2)) == [2, 2]
    assert drawn(MultinomialLogit(torch.tensor([-math.inf, 20.0])), gaps) == [0, 2]
    assert drawn(MultinomialLogit(-math.inf), torch.full((2, 2), -math.inf)) == [2, 2]


@settings(deadline=None)
@given(
    scores=st.lists(st.floats(-2, 100), min_size=3, max_size=3), minimum=st.floats(-2, 20), no_choice=st.floats(0, 20)
)
def test_the_proportional_choice_is_a_ratio_of_masses(scores, minimum: float, no_choice: float) -> None:
    model = Proportional(torch.tensor(minimum, dtype=torch.float64), torch.tensor(no_choice, dtype=torch.float64))
    masses = [max(score - minimum, 0.0) for score in scores] + [no_choice]
    total = sum(masses)
    wanted = [mass / total for mass in masses] if total else [0.0, 0.0, 0.0, 1.0]
    assert probabilities(model, scores, 4) == pytest.approx(wanted, rel=1e-9, abs=1e-290)


def test_a_score_below_the_minimum_is_never_chosen() -> None:
    scores = torch.tensor([[-3.0, 1.0, -1.0, -math.inf]], requires_grad=True)
    choice = Proportional(-1.0, no_choice_mass=2.0).choice(scores).get("choice")
    assert choice.probs.tolist() == [[0.0, 0.5, 0.0, 0.0, 0.5]]
    assert [float(choice.log_prob(torch.tensor([place])).detach()) for place in (0, 2, 3)] == [-math.inf] * 3
    for middle in MIDDLES:
        assert draw(choice, torch.full((1, 1), middle)).item() in (1, 4)
    choice.log_prob(torch.tensor([1])).sum().backward()
    assert scores.grad.tolist() == [[0.0, 0.25, 0.0, 0.0]]


def test_a_negative_no_choice_mass_is_refused() -> None:
    with pytest.raises(ValueError, match="no-choice mass of -1"):
        Proportional(-2.0, no_choice_mass=-1.0)


@settings(deadline=None)
@given(scores=SCORES, examination=SCORES)
def test_a_click_needs_a_position_read_and_an_item_liked(scores, examination) -> None:
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)), dtype=torch.float64)
    model = IndependentByPosition(torch.tensor(examination, dtype=torch.float64))
    choice = model.choice(torch.tensor(scores, dtype=torch.float64).expand(8, 3)).get("choice")
    rates = [1 / (1 + math.exp(-a)) / (1 + math.exp(-b)) for a, b in zip(scores, examination, strict=True)]
    # One minus the rate, written so that it keeps its digits near a rate of one.
    misses = [
        (math.exp(-a) + math.exp(-b) + math.exp(-a - b)) / ((1 + math.exp(-a)) * (1 + math.exp(-b)))
        for a, b in zip(scores, examination, strict=True)
    ]
    wanted = [
        math.prod(rate if click else miss for click, rate, miss in zip(row, rates, misses, strict=True))
        for row in every.tolist()
    ]
    found = choice.log_prob(every).exp()
    assert found.tolist() == pytest.approx(wanted, rel=1e-9, abs=1e-290)
    assert float(found.sum()) == pytest.approx(1, abs=1e-12)
    assert choice.probs[0].tolist() == pytest.approx(rates, rel=1e-9)


def test_positions_certain_to_be_read_or_never_read() -> None:
    model = IndependentByPosition(nn.Parameter(torch.tensor([math.inf, -math.inf, 0.0, 0.0])))
    scores = torch.tensor([[1.0, 1.0, -math.inf]], requires_grad=True)
    choice = model.choice(scores).get("choice")
    assert choice.probs.tolist() == [[pytest.approx(1 / (1 + math.exp(-1))), 0.0, 0.0]]
    score = choice.log_prob(torch.tensor([[1.0, 0.0, 0.0]]))
    assert float(score.detach()) == pytest.approx(-math.log1p(math.exp(-1)))
    score.sum().backward()
    assert bool(torch.isfinite(scores.grad).all()) and float(scores.grad[0, 0]) > 0
    assert bool(torch.isfinite(model.examination_logit.grad).all())
    assert choice.log_prob(torch.tensor([[0.0, 1.0, 0.0]])).tolist() == [-math.inf]


def test_slates_longer_than_the_known_positions_are_refused() -> None:
    with pytest.raises(ValueError, match="a slate of 3 positions, of which 2"):
        IndependentByPosition(torch.zeros(2)).choice(torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"shape \[1, 2\]; wanted one per position"):
        IndependentByPosition(torch.zeros(1, 2))


@pytest.mark.parametrize(
    "model",
    [MultinomialLogit(torch.zeros(3)), Proportional(0.0, torch.zeros(3)), IteratedMultinomialLogit(1, torch.zeros(3))],
)
def test_shapes_that_do_not_belong_together_are_refused(model) -> None:
    with pytest.raises(ValueError, match=r"\[3\] beside scores \[2, 4\]; wanted one number, or \[2\]"):
        model.choice(torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"shape \[4\]; wanted \[sessions, positions\]"):
        model.choice(torch.zeros(4))


@pytest.mark.parametrize("name", MODELS)
def test_draws_have_the_frequencies_of_the_distribution(name: str) -> None:
    sessions = 30_000
    choice = MODELS[name].choice(torch.tensor([0.5, 1.0, -0.5]).expand(sessions, 3)).get("choice")
    uniforms = Streams(9).uniform(name, torch.arange(sessions), 0, uniforms_needed(choice), precision_of(choice))
    values = draw(choice, uniforms)
    met, counts = torch.unique(values, dim=0, return_counts=True)
    assert int(counts.min()) > 30 and len(met) >= 4
    for value in met:
        same = (values == value).reshape(sessions, -1).all(1)
        chance = choice.log_prob(value.expand(values.shape))[0].exp()
        assert_mean(same.double().numpy(), float(chance))


@pytest.mark.parametrize("name", MODELS)
def test_what_is_drawn_fits_the_declared_field(name: str) -> None:
    model = MODELS[name]
    specs = [model.specs(3).get("choice"), model.specs().get("choice")]
    assert all(isinstance(spec, RandomField) for spec in specs) and specs[0] is not model.specs(3).get("choice")
    choice = model.choice(torch.zeros(50, 3)).get("choice")
    values = draw(choice, Streams(1).uniform(name, torch.arange(50), 0, uniforms_needed(choice)))
    for spec in specs:
        assert spec.space.problem_of(values) is None
        assert len(spec.space.shape) == values.ndim - 1
        assert all(size in (None, met) for size, met in zip(spec.space.shape, values.shape[1:], strict=True))
    beyond = values.clone()
    beyond[0] = 4
    assert specs[0].space.problem_of(beyond) is not None


@pytest.mark.parametrize("name", MODELS)
def test_a_session_chooses_the_same_in_any_batch(name: str) -> None:
    scores = torch.linspace(-2, 2, 60).reshape(20, 3)
    uniforms = Streams(3).uniform(name, torch.arange(20), 0, 3)

    def drawn(rows: slice) -> Tensor:
        choice = MODELS[name].choice(scores[rows]).get("choice")
        return draw(choice, uniforms[rows, : uniforms_needed(choice)])

    whole = drawn(slice(None))
    assert drawn(slice(None)).tolist() == whole.tolist()
    assert torch.cat([drawn(slice(0, 7)), drawn(slice(7, 20))]).tolist() == whole.tolist()
    assert len(torch.unique(whole, dim=0)) > 1


def test_parameters_are_learned_and_constants_are_not() -> None:
    model = MultinomialLogit(nn.Parameter(torch.tensor(0.0)), -0.5)
    assert [name for name, _ in model.named_parameters()] == ["no_choice_logit"]
    scores = torch.zeros(1, 2)
    model.choice(scores).get("choice").log_prob(torch.tensor([2])).sum().backward()
    share = 1 / (2 + math.exp(-0.5))
    assert float(model.no_choice_logit.grad) == pytest.approx(1 - share)
    for other in (Proportional(0.0, nn.Parameter(torch.tensor(1.0))), Cascade(nn.Parameter(torch.tensor(1.0)))):
        assert len(list(other.parameters())) == 1
