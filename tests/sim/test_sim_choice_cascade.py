"""The cascade against a walk down the slate in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from statistics_helper import assert_mean
from torch import Tensor, nn

from recil.random import Streams
from recil.sim.choice import Cascade, CascadeClicks
from recil.sim.draws import draw, precision_of, uniforms_needed

APPEALS = st.lists(st.floats(-30, 30), min_size=3, max_size=3)
MASKS = st.lists(st.booleans(), min_size=3, max_size=3)
CHANCES = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0]))


def walk(appeal: list[float], shown: list[bool], continuation: float) -> tuple[list[float], float]:
    """The probability of a click on each item, and of none."""
    reads, none = 1.0, 0.0
    clicks = [0.0] * len(appeal)
    for place, (value, there) in enumerate(zip(appeal, shown, strict=True)):
        if there:
            clicks[place] = reads / (1 + math.exp(-value))
            skips = reads / (1 + math.exp(value))
            none += skips * (1 - continuation)
            reads = skips * continuation
    return clicks, none + reads


def cascade(appeal: list[float], shown: list[bool], continuation: float, rows: int = 1) -> CascadeClicks:
    scores = torch.tensor(appeal, dtype=torch.float64).expand(rows, -1)
    return CascadeClicks(scores, torch.tensor(shown).expand(rows, -1), continuation)


@settings(deadline=None)
@given(appeal=APPEALS, shown=MASKS, continuation=CHANCES)
def test_every_outcome_has_the_probability_of_its_walk(appeal, shown, continuation: float) -> None:
    clicks, none = walk(appeal, shown, continuation)
    outcomes = torch.cat([torch.eye(3), torch.zeros(1, 3)]).double()
    choice = cascade(appeal, shown, continuation, 4)
    scores = choice.log_prob(outcomes).exp()
    assert scores.tolist() == pytest.approx([*clicks, none], rel=1e-9, abs=1e-290)
    assert float(scores.sum()) == pytest.approx(1, abs=1e-12)
    assert choice.probs[0].tolist() == pytest.approx(clicks, rel=1e-9, abs=1e-290)


def test_two_clicks_and_clicks_on_nothing_are_impossible() -> None:
    choice = cascade([1.0, 2.0, 3.0], [True, True, False], 0.5, 3)
    clicks = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 1.0]], dtype=torch.float64)
    assert choice.log_prob(clicks).tolist() == [-math.inf] * 3


def test_no_click_on_a_tempting_slate_keeps_its_digits() -> None:
    slate = CascadeClicks(torch.full((1, 6), 30.0), torch.ones(1, 6, dtype=torch.bool))
    assert float(slate.log_prob(torch.zeros(1, 6))) == pytest.approx(6 * -(30 + math.log1p(math.exp(-30))), rel=1e-6)


def test_without_continuation_only_the_first_shown_item_can_be_clicked() -> None:
    probs = cascade([0.0, 0.0, 5.0], [False, True, True], 0.0).probs[0]
    assert probs.tolist() == [0.0, 0.5, 0.0]


def test_each_session_may_read_on_with_a_chance_of_its_own() -> None:
    chances = torch.tensor([0.25, 1.0], dtype=torch.float64)
    scores = torch.zeros(2, 2, dtype=torch.float64)
    choice = CascadeClicks(scores, torch.ones(2, 2, dtype=torch.bool), chances)
    assert choice.probs.tolist() == [[0.5, 0.0625], [0.5, 0.25]]
    assert choice.log_no_click.exp().tolist() == pytest.approx([0.4375, 0.25])


@pytest.mark.parametrize("continuation", [0.7, 1.0])
def test_draws_follow_the_probabilities(continuation: float) -> None:
    sessions = 40_000
    appeal, shown = [-0.5, 1.0, 0.3, 0.0], [True, True, False, True]
    choice = cascade(appeal, shown, continuation, sessions)
    assert precision_of(choice) == torch.float64
    assert uniforms_needed(choice) == 1
    uniforms = Streams(8).uniform("cascade", torch.arange(sessions), 0, 1, torch.float64)
    clicks = draw(choice, uniforms)
    expected, none = walk(appeal, shown, continuation)
    for place in (0, 1, 3):
        assert_mean(clicks[:, place].numpy(), expected[place])
    assert_mean((clicks.sum(1) == 0).double().numpy(), none)
    assert float(clicks.sum(1).max()) == 1
    assert float(clicks[:, 2].sum()) == 0
    assert bool(torch.isfinite(choice.log_prob(clicks)).all())


def test_a_draw_is_a_function_of_its_uniform() -> None:
    choice = cascade([0.0, 0.0, 0.0], [True, True, True], 1.0, 4)
    uniforms = torch.tensor([[0.49], [0.51], [0.76], [0.88]], dtype=torch.float64)
    assert draw(choice, uniforms).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize("logit", [-math.inf, -2.0, 80.0, math.inf])
def test_gradients_stay_finite(logit: float) -> None:
    model = Cascade(nn.Parameter(torch.tensor(logit)))
    scores = torch.tensor([[0.2, -math.inf], [80.0, -80.0], [-math.inf, -math.inf]], requires_grad=True)
    choice = model.choice(scores).get("choice")
    clicks = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    (choice.log_prob(clicks).sum() + choice.probs.sum()).backward()
    assert bool(torch.isfinite(scores.grad).all())
    assert math.isfinite(float(model.continuation_logit.grad))
    assert float(scores.grad[0, 0]) != 0
    assert scores.grad[2].tolist() == [0.0, 0.0]


def test_what_stands_where_nothing_is_shown_does_not_matter() -> None:
    appeal = torch.tensor([[math.nan, 0.0, math.inf]], requires_grad=True)
    choice = CascadeClicks(appeal, torch.tensor([[False, True, False]]), 0.5)
    assert choice.probs.tolist() == [[0.0, 0.5, 0.0]]
    choice.log_prob(torch.zeros(1, 3)).sum().backward()
    assert appeal.grad.tolist() == [[0.0, -0.5, 0.0]]


def test_gradients_are_those_of_the_log_probability() -> None:
    clicks = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    scores = torch.tensor([[0.4, -1.0, 0.3]] * 3, dtype=torch.float64, requires_grad=True)

    def log_prob(values: Tensor, logit: Tensor) -> Tensor:
        return CascadeClicks(values, torch.ones(3, 3, dtype=torch.bool), logit.sigmoid()).log_prob(clicks)

    assert torch.autograd.gradcheck(log_prob, (scores, torch.tensor(0.8, dtype=torch.float64, requires_grad=True)))


def test_the_entity_reads_log_odds_and_takes_minus_infinity_for_no_item() -> None:
    scores = torch.tensor([[0.0, -math.inf, 0.0]], dtype=torch.float64)
    chances = torch.tensor([0.5, 0.25], dtype=torch.float64)
    assert Cascade().choice(scores).get("choice").probs.tolist() == [[0.5, 0.0, 0.25]]
    choice = Cascade(chances.logit()).choice(scores.expand(2, 3)).get("choice")
    torch.testing.assert_close(choice.probs[:, 2], chances / 4)
    assert float(choice.log_prob(torch.zeros(2, 3).double()).exp()[0]) == pytest.approx(0.375)


def test_continuation_is_learned_from_clicks() -> None:
    sessions = 20_000
    scores = torch.zeros(sessions, 4, dtype=torch.float64)
    uniforms = Streams(4).uniform("learn", torch.arange(sessions), 0, 1, torch.float64)
    clicks = draw(Cascade(torch.tensor(1.0)).choice(scores).get("choice"), uniforms)
    model = Cascade(nn.Parameter(torch.tensor(-1.0)))
    optimiser = torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        nll = -model.choice(scores).get("choice").log_prob(clicks).mean()
        nll.backward()
        return nll

    optimiser.step(loss)
    assert float(model.continuation_logit.detach()) == pytest.approx(1.0, abs=0.2)
