"""Choice models against their closed forms: every slate of up to three items, every outcome on it."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from statistics_helper import assert_mean
from torch import Tensor

from recil.random import Streams
from recil.sim.choice import IndependentClicks, SlateChoice
from recil.sim.draws import draw, uniforms_needed

MODELS = (SlateChoice, IndependentClicks)
APPEALS = st.lists(st.floats(-30, 30), min_size=3, max_size=3)
MASKS = st.lists(st.booleans(), min_size=3, max_size=3)


def outcomes(slots: int) -> Tensor:
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=slots)), dtype=torch.float64)


def scores_of(model, appeal: list[float], shown: list[bool]) -> tuple[Tensor, Tensor]:
    """Every outcome [8, 3] and its log-probability [8]."""
    every = outcomes(3)
    rows = torch.tensor(appeal, dtype=torch.float64).expand(len(every), 3)
    return every, model(rows, torch.tensor(shown).expand(len(every), 3)).log_prob(every)


@settings(deadline=None)
@given(appeal=APPEALS, shown=MASKS)
def test_the_multinomial_choice_is_a_softmax_with_a_no_click_option(appeal: list[float], shown: list[bool]) -> None:
    every, scores = scores_of(SlateChoice, appeal, shown)
    weights = [math.exp(value) if there else 0.0 for value, there in zip(appeal, shown, strict=True)]
    for outcome, score in zip(every.tolist(), scores.tolist(), strict=True):
        clicked = [place for place, click in enumerate(outcome) if click]
        if len(clicked) > 1 or any(not shown[place] for place in clicked):
            assert score == -math.inf
        else:
            chosen = weights[clicked[0]] if clicked else 1.0
            assert math.exp(score) == pytest.approx(chosen / (1 + sum(weights)), rel=1e-9)
    assert float(scores.exp().sum()) == pytest.approx(1, abs=1e-12)


@settings(deadline=None)
@given(appeal=APPEALS, shown=MASKS)
def test_independent_clicks_are_a_product_of_sigmoids(appeal: list[float], shown: list[bool]) -> None:
    every, scores = scores_of(IndependentClicks, appeal, shown)
    rates = [1 / (1 + math.exp(-value)) if there else 0.0 for value, there in zip(appeal, shown, strict=True)]
    for outcome, score in zip(every.tolist(), scores.tolist(), strict=True):
        wanted = math.prod(
            rate if click else 1 / (1 + math.exp(value)) if there else 1.0
            for click, rate, value, there in zip(outcome, rates, appeal, shown, strict=True)
        )
        assert math.exp(score) == pytest.approx(wanted, rel=1e-9)
        assert (score == -math.inf) == (wanted == 0)
    assert float(scores.exp().sum()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("model", MODELS)
@settings(deadline=None)
@given(appeal=APPEALS, shown=MASKS)
def test_probs_are_the_marginals_of_the_outcomes(model, appeal: list[float], shown: list[bool]) -> None:
    every, scores = scores_of(model, appeal, shown)
    probs = model(torch.tensor([appeal], dtype=torch.float64), torch.tensor([shown])).probs[0]
    torch.testing.assert_close(probs, (scores.exp()[:, None] * every).sum(0), atol=1e-12, rtol=1e-9)


def test_a_gap_of_ten_picks_the_best_item() -> None:
    appeal = torch.tensor([[10.0, 20.0, 10.0], [30.0, 20.0, 10.0]])
    choice = SlateChoice(appeal, torch.ones(2, 3, dtype=torch.bool))
    for middle in (0.01, 0.5, 0.99):
        assert draw(choice, torch.full((2, 1), middle)).argmax(1).tolist() == [1, 0]
    assert bool((choice.probs.amax(1) > 0.9999).all())


def test_without_appeal_nothing_is_clicked() -> None:
    choice = SlateChoice(torch.full((1, 3), -10.0), torch.ones(1, 3, dtype=torch.bool))
    for middle in (0.01, 0.5, 0.99):
        assert draw(choice, torch.full((1, 1), middle)).sum() == 0
    assert choice.log_prob(torch.zeros(1, 3)).item() == pytest.approx(-3 * math.exp(-10), rel=1e-3)


@pytest.mark.parametrize("model", MODELS)
def test_draws_follow_the_probabilities(model) -> None:
    sessions = 40_000
    appeal = torch.tensor([0.3, -1.0, 2.0, -0.5]).expand(sessions, 4)
    shown = torch.tensor([True, True, False, True]).expand(sessions, 4)
    choice = model(appeal, shown)
    clicks = draw(choice, Streams(5).uniform("test", torch.arange(sessions), 0, uniforms_needed(choice)))
    for place in (0, 1, 3):
        assert_mean(clicks[:, place].numpy(), float(choice.probs[0, place]))
    assert clicks[:, 2].sum() == 0
    assert bool(torch.isfinite(choice.log_prob(clicks)).all())
    together = (clicks[:, 0] * clicks[:, 1]).numpy()
    if model is SlateChoice:
        assert together.sum() == 0
    else:
        assert_mean(together, float(choice.probs[0, 0] * choice.probs[0, 1]))


@pytest.mark.parametrize("model", MODELS)
def test_gradients_stay_finite_with_pads_and_extreme_appeal(model) -> None:
    appeal = torch.tensor([[0.2, 3.0], [80.0, -80.0], [1.0, 2.0]], requires_grad=True)
    shown = torch.tensor([[True, False], [True, True], [False, False]])
    choice = model(appeal, shown)
    (choice.log_prob(torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])).sum() + choice.probs.sum()).backward()
    assert bool(torch.isfinite(appeal.grad).all())
    assert bool((appeal.grad[~shown] == 0).all()) and float(appeal.grad[0, 0]) != 0


@pytest.mark.parametrize("model", MODELS)
def test_the_gradient_is_observed_minus_expected_clicks(model) -> None:
    appeal = torch.tensor([[0.4, -1.2, 0.1]], dtype=torch.float64, requires_grad=True)
    choice = model(appeal, torch.ones(1, 3, dtype=torch.bool))
    clicks = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    choice.log_prob(clicks).sum().backward()
    torch.testing.assert_close(appeal.grad, (clicks - choice.probs).detach())


@pytest.mark.parametrize("model", MODELS)
def test_a_pad_changes_nothing(model) -> None:
    appeal = torch.tensor([[0.4, -1.2]], dtype=torch.float64)
    padded = torch.tensor([[0.4, -1.2, 50.0]], dtype=torch.float64)
    plain = model(appeal, torch.tensor([[True, True]]))
    wide = model(padded, torch.tensor([[True, True, False]]))
    clicks = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(
        wide.log_prob(torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)), plain.log_prob(clicks)
    )
    torch.testing.assert_close(wide.probs[:, :2], plain.probs)
    assert wide.probs[0, 2] == 0
