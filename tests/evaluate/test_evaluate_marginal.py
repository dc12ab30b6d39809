"""Marginal importance sampling in a world whose state is logged: exact expectations, and its variance."""

from dataclasses import dataclass, replace

import pytest
import torch
from sums_of_sessions import arrays_of, expected_value, look_at, sums_of
from tiny_worlds import MoodyWorld, RecallPolicy

from recil.evaluate.arrays import Extra
from recil.evaluate.estimators import TABLE
from recil.evaluate.estimators.marginal import state_probabilities
from recil.evaluate.sums import SessionSums
from recil.exact.enumerate import Outcome, enumerate_sessions, true_value

GAMMAS = [1.0, 0.8, 0.0]


@dataclass(frozen=True)
class OpenWorld(MoodyWorld):
    """Clicks and leaving hang on what policies see too: the last item and whether it was clicked. No mood."""

    def starts(self):
        return [(1.0, (0, 0))]

    def outcomes(self, state, slate):
        item = slate[0]
        rate = 0.2 * (1 + item) - 0.05 * state[0] + 0.1 * state[1]
        for click in (0, 1):
            likely, leave = (rate if click else 1 - rate), 0.4 - 0.2 * click
            yield Outcome(likely * leave, (float(click),), None)
            yield Outcome(likely * (1 - leave), (float(click),), (item + 1, click))


def open_case(gamma=1.0):
    moody = MoodyWorld.make(3, 1, 3)
    world = OpenWorld(moody.click, moody.leave, moody.lift, 1, 3)
    behaviour, target = RecallPolicy.make(3, 1), RecallPolicy.make(3, 2)
    listed = enumerate_sessions(world, behaviour)
    look = look_at(listed, target, gamma)
    arrays = arrays_of(look, frozenset({Extra.STEP_LOG_RATIO}))
    sessions = listed.sessions
    last = torch.nn.functional.pad(sessions.items[:, :-1, 0] + 1, (1, 0))
    click = torch.nn.functional.pad(sessions.reward[:, :-1, 0], (1, 0))
    code = torch.where(sessions.happened, last * 2 + click.long(), 0)
    state = torch.nn.functional.one_hot(code, 8).double() * sessions.happened[:, :, None]
    return listed, replace(arrays, extra={**arrays.extra, Extra.STATE: state}), true_value(world, target, gamma), target


@pytest.mark.parametrize("gamma", GAMMAS)
def test_marginal_ratios_find_the_value_where_the_state_is_logged(gamma):
    listed, arrays, truth, target = open_case(gamma)
    assert expected_value(TABLE["mis"], listed, arrays) == pytest.approx(truth, abs=1e-12)
    sums = SessionSums.of(arrays, listed.probability[None], TABLE["mis"].terms)
    moody = MoodyWorld.make(3, 1, 3)
    of_target = enumerate_sessions(OpenWorld(moody.click, moody.leave, moody.lift, 1, 3), target)
    alive = (of_target.probability[:, None] * of_target.sessions.happened).sum(0)
    torch.testing.assert_close(state_probabilities(sums)[0].sum(1), alive, rtol=0, atol=1e-12)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_marginal_doubly_robust_finds_it_whatever_the_model(gamma):
    """A known defect: the state's ratio of step t goes with the reward of step t, not with that of t + 1."""
    listed, arrays, truth, target = open_case(gamma)
    draw = torch.Generator().manual_seed(2)
    q = torch.randn(4, 2, 3, generator=draw).double()  # by last item, click, item
    discount = torch.tensor([gamma**t for t in range(3)]).double()
    code = arrays.extra[Extra.STATE].argmax(2)
    items = listed.sessions.items[:, :, 0].clamp(min=0)
    happened = arrays.happened
    by_item = q[code // 2, code % 2]
    chance = target.table[code // 2, code % 2].softmax(-1)
    predicted = torch.where(happened, by_item.gather(2, items[:, :, None])[:, :, 0], 0.0) * discount
    expected = torch.where(happened, (by_item * chance).sum(2), 0.0) * discount
    with_model = replace(arrays, predicted=predicted, expected=expected)
    assert expected_value(TABLE["mis_dr"], listed, with_model) == pytest.approx(truth, abs=1e-12)
    assert expected_value(TABLE["dr"], listed, with_model) == pytest.approx(truth, abs=1e-12)


def test_marginal_ratios_vary_less_than_their_products():
    listed, arrays, truth, _ = open_case()
    draw = torch.Generator().manual_seed(0)
    chosen = torch.multinomial(listed.probability.expand(400, -1), 400, replacement=True, generator=draw)
    drawn = torch.nn.functional.one_hot(chosen, len(listed.probability)).sum(1).double()
    marginal = TABLE["mis"].value(sums_of(TABLE["mis"], arrays, drawn))
    product = TABLE["pdis"].value(sums_of(TABLE["pdis"], arrays, drawn))
    assert float(marginal.mean()) == pytest.approx(truth, abs=0.03)
    assert float(marginal.std()) < 0.8 * float(product.std())
