"""Estimators of slates: exact expectations where they claim to be unbiased, and what they miss where they do not."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from logs_of_worlds import case
from sums_of_sessions import arrays_of, expected_value, look_at
from tiny_worlds import MoodyWorld, RecallPolicy

from recil.errors import InputError
from recil.evaluate import evaluate
from recil.evaluate.arrays import Extra, SessionArrays
from recil.evaluate.estimators import TABLE, find, pseudo_inverse, second_moment, uniform_second_moment
from recil.evaluate.estimators.pseudo_inverse import slate_weight
from recil.evaluate.extras import Models
from recil.evaluate.reward_model import RewardModel
from recil.evaluate.sums import SessionSums
from recil.exact.enumerate import Outcome, enumerate_sessions, true_value
from recil.logs.session_log import SessionLog

GAMMAS = [1.0, 0.8, 0.0]


@dataclass(frozen=True)
class CascadeWorld(MoodyWorld):
    """A click on an item hangs on the item above it too."""

    def outcomes(self, state, slate):
        for clicks in itertools.product((0.0, 1.0), repeat=self.slate_size):
            likely = 1.0
            for place, (item, click) in enumerate(zip(slate, clicks, strict=True)):
                rate = float(self.click[state, item])
                if place:
                    rate *= 0.2 + 0.3 * slate[place - 1]
                likely *= rate if click else 1 - rate
            leave = float(self.leave[state, int(any(clicks))])
            yield Outcome(likely * leave, clicks, None)
            yield Outcome(likely * (1 - leave), clicks, state)


def cascade():
    moody = MoodyWorld.make(3, 2, 2)
    world = CascadeWorld(moody.click, moody.leave, moody.lift, 2, 2)
    return world, RecallPolicy.make(3, 1), RecallPolicy.make(3, 2)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_cascade_weights_are_unbiased_where_rewards_hang_on_the_items_above(gamma):
    world, behaviour, target = cascade()
    listed, truth = enumerate_sessions(world, behaviour), true_value(world, target, gamma)
    arrays = arrays_of(look_at(listed, target, gamma), TABLE["rips"].needs)
    assert expected_value(TABLE["rips"], listed, arrays) == pytest.approx(truth, abs=1e-12)
    assert expected_value(find("sips"), listed, arrays) == pytest.approx(truth, abs=1e-12)
    assert abs(expected_value(TABLE["iips"], listed, arrays) - truth) > 1e-3


@pytest.mark.parametrize("gamma", GAMMAS)
def test_cascade_doubly_robust_is_unbiased_whatever_the_model(gamma):
    world, behaviour, target = cascade()
    listed, truth = enumerate_sessions(world, behaviour), true_value(world, target, gamma)
    draw = torch.Generator().manual_seed(3)
    sizes = [(1, 2), (1, 2), (1, 3), (1, 2)]
    model = RewardModel(*(torch.randn(size, generator=draw, dtype=torch.float64) for size in sizes))
    look = look_at(listed, target, gamma, models=Models(model))
    exact, value = expected_by_slates(look, model, target)
    predicted = model.value(look.history.items, look.history.happened, look.fold)
    arrays = arrays_of(look, TABLE["cascade_dr"].needs, predicted, value)
    arrays.extra[Extra.POSITION_EXPECTED].copy_(exact * look.discount[:, None])
    assert expected_value(TABLE["cascade_dr"], listed, arrays) == pytest.approx(truth, abs=1e-12)
    assert expected_value(TABLE["dr"], listed, arrays) == pytest.approx(truth, abs=1e-12)


def expected_by_slates(look, model, target):
    """E_pi of the model's values by position [B, T, K] and by slate [B, T], over all slates."""
    sessions = look.history
    by_position = torch.zeros(sessions.items.shape, dtype=torch.float64)
    value = torch.zeros(sessions.items.shape[:2], dtype=torch.float64)
    for slate in itertools.permutations(range(3), 2):
        shown = torch.where(sessions.shown, torch.tensor(slate).expand(sessions.items.shape), -1)
        chance = torch.stack(
            [target.log_prob(sessions.prefix(t), shown[:, t]).sum(-1).exp() for t in range(sessions.steps)], 1
        )
        by_position += chance[:, :, None] * model.by_position(shown, look.fold)
        value += chance * model.value(shown, sessions.happened, look.fold)
    return by_position, value


def spread(score, probability):
    """The exact variance of a number per session."""
    return float(probability @ score.square()) - float(probability @ score) ** 2


def test_a_good_model_takes_variance_out_of_the_cascade():
    world, behaviour, target = cascade()
    listed = enumerate_sessions(CascadeWorld(world.click, world.leave, world.lift, 2, 1), behaviour)
    mean = (listed.probability[:, None] * listed.sessions.reward[:, 0].double()).sum(0)
    zeros = torch.zeros(1, 3).double()
    model = RewardModel(mean[None], zeros[:, :1], zeros, zeros[:, :1])
    arrays = arrays_of(look_at(listed, target, models=Models(model)), TABLE["cascade_dr"].needs)
    plain, robust = (spread(TABLE[name].score(arrays).values, listed.probability) for name in ("rips", "cascade_dr"))
    assert robust < 0.9 * plain


def test_what_a_model_knows_for_certain_leaves_no_variance_in_the_cascade():
    """Every position pays its own amount, and as much lies ahead of every step: all sessions score the same."""
    world, behaviour, target = cascade()
    listed = enumerate_sessions(replace(world, leave=torch.zeros(2, 2).double()), behaviour)
    zeros = torch.zeros(1, 3).double()
    model = RewardModel(torch.tensor([[0.5, 0.2]]).double(), zeros[:, :2], zeros, torch.tensor([[0.7, 0.0]]).double())
    certain = torch.tensor([0.5, 0.2]).expand(listed.sessions.items.shape)
    listed = replace(listed, sessions=replace(listed.sessions, reward=certain.clone()))
    arrays = arrays_of(look_at(listed, target, models=Models(model)), TABLE["cascade_dr"].needs)
    score = TABLE["cascade_dr"].score(arrays).values[listed.probability > 0]
    torch.testing.assert_close(score, torch.full_like(score, 1.4), rtol=0, atol=1e-6)
    assert spread(TABLE["rips"].score(arrays).values, listed.probability) > 0.01


def product_slates(paid):
    """All 9 slates of 3 items in 2 places filled independently; paid(slate) -> rewards by position."""
    draw = torch.Generator().manual_seed(7)
    behaviour, target = (torch.rand(2, 3, generator=draw).double().log_softmax(1) for _ in range(2))
    target = 3 * target - torch.logsumexp(3 * target, 1, keepdim=True)
    slates = torch.tensor(list(itertools.product(range(3), repeat=2)))
    log_propensity, scores = (
        torch.stack([policy[k][slates[:, k]] for k in range(2)], 1) for policy in (behaviour, target)
    )
    reward = torch.tensor([paid(tuple(slate)) for slate in slates.tolist()], dtype=torch.float64)
    ratio = (scores - log_propensity)[:, None]
    happened = torch.ones(9, 1, dtype=torch.bool)
    arrays = SessionArrays(
        log_weight=ratio.sum(2),
        reward=reward.sum(1, keepdim=True),
        happened=happened,
        capped=~happened,
        extra={
            Extra.SHOWN: torch.ones(9, 1, 2).double(),
            Extra.POSITION_LOG_RATIO: ratio,
            Extra.POSITION_REWARD: reward[:, None],
        },
    )
    truth = float(scores.sum(1).exp() @ reward.sum(1))
    return slates, log_propensity.sum(1).exp(), target.exp(), arrays, truth


def value(name, probability, arrays):
    estimator = find(name)
    own = () if estimator.weighting is None else (estimator.weighting,)
    return float(estimator.value(SessionSums.of(arrays, probability[None], estimator.terms, own))[0])


def additive(slate):
    return (0.3 * slate[0], 0.1 + 0.25 * slate[1] ** 2)


def competing(slate):
    return (0.3 * slate[0] * slate[1], 0.2 * (slate[0] == slate[1]))


@pytest.mark.parametrize("name", ["iips", "pi"])
def test_position_weights_are_unbiased_where_positions_are_independent(name):
    _, probability, _, arrays, truth = product_slates(additive)
    assert value(name, probability, arrays) == pytest.approx(truth, abs=1e-12)
    _, probability, _, arrays, truth = product_slates(competing)
    assert abs(value(name, probability, arrays) - truth) > 1e-2
    assert value("sips", probability, arrays) == pytest.approx(truth, abs=1e-12)


def test_the_pseudo_inverse_of_independent_positions_is_their_closed_form():
    slates, probability, target, arrays, truth = product_slates(additive)
    inverse = torch.linalg.pinv(second_moment(slates, probability, 3), hermitian=True)
    marked = torch.nn.functional.one_hot(slates, 3).double().flatten(1)
    weight = marked @ inverse @ target.flatten()
    closed = arrays.extra[Extra.POSITION_LOG_RATIO][:, 0].exp().sum(1) - 1
    torch.testing.assert_close(weight, closed, rtol=0, atol=1e-12)
    assert float(probability @ (weight * arrays.reward[:, 0])) == pytest.approx(truth, abs=1e-12)


def without_replacement(moment):
    """Exact expectation of the estimator from uniform slates of 2 of 4 items, and the truth, for an additive reward."""
    slates = torch.tensor(list(itertools.permutations(range(4), 2)))
    reward = torch.tensor([sum(additive(tuple(slate))) for slate in slates.tolist()], dtype=torch.float64)
    draw = torch.Generator().manual_seed(1)
    target = torch.rand(12, generator=draw).double().log_softmax(0).mul(4).softmax(0)
    weight = slate_weight(torch.linalg.pinv(moment, hermitian=True), slates[:, None], slates[None]) @ target
    return float((weight * reward).mean()), float(target @ reward), float(reward.mean())


def test_the_pseudo_inverse_is_unbiased_for_slates_without_repetition():
    slates = torch.tensor(list(itertools.permutations(range(4), 2)))
    moment = second_moment(slates, torch.full((12,), 1 / 12, dtype=torch.float64), 4)
    torch.testing.assert_close(uniform_second_moment(4, 2), moment)
    found, truth, _ = without_replacement(moment)
    assert found == pytest.approx(truth, abs=1e-12)


def test_an_outer_product_of_means_is_no_second_moment():
    """A known defect: with Γ of rank 1 the estimate is the mean of the log, whatever the target."""
    mean = torch.full((8,), 0.25, dtype=torch.float64)
    found, truth, logged = without_replacement(torch.outer(mean, mean))
    assert found == pytest.approx(logged) and abs(logged - truth) > 0.02
    assert torch.linalg.matrix_rank(uniform_second_moment(4, 2)) == 7


def test_the_general_estimator_in_sessions():
    """Uniform slates without repetition in a world of additive clicks: unbiased over its own draws too."""
    world = MoodyWorld.make(3, 2, 2)
    behaviour, target = RecallPolicy(torch.zeros(4, 2, 3).double()), RecallPolicy.make(3, 2)
    listed, truth = enumerate_sessions(world, behaviour), true_value(world, target)
    estimator = pseudo_inverse(uniform_second_moment(3, 2))
    sessions = listed.sessions
    total = torch.zeros(len(listed.probability)).double()
    look = look_at(listed, target)
    inverse = torch.linalg.pinv(uniform_second_moment(3, 2), hermitian=True)
    for slate in itertools.permutations(range(3), 2):
        own = torch.tensor(slate).expand(sessions.items.shape)
        chance = torch.stack(
            [target.log_prob(sessions.prefix(t), own[:, t].contiguous()).sum(-1).exp() for t in range(2)], 1
        )
        arrays = arrays_of(look_at(listed, target, own=own[None]), estimator.needs)
        weight = slate_weight(inverse, arrays.extra[Extra.ITEMS], own)
        assert torch.allclose(
            estimator.score(arrays).values,
            (
                (weight * arrays.reward) * torch.cat([torch.zeros_like(chance[:, :1]), look.log_ratio[:, :1]], 1).exp()
            ).sum(1),
        )
        by_step = weight * arrays.reward * chance
        total += by_step[:, 0] + look.log_ratio[:, 0].exp() * by_step[:, 1]
    assert float(listed.probability @ total) == pytest.approx(truth, abs=1e-6)
    with pytest.raises(InputError, match="symmetric"):
        pseudo_inverse(torch.zeros(3, 4))


def test_positions_not_rows_give_the_order():
    """A known defect: the cascade must not change when the rows of the table are shuffled."""
    small = case(sessions=150)
    frame = small.log.to_frame()
    sorted_log = SessionLog.from_frame(frame)
    shuffled = SessionLog.from_frame(frame.sample(frac=1.0, random_state=np.random.RandomState(0)))
    names = ("rips", "cascade_dr", "iips", "pi")
    one, other = (evaluate(small.target, log, estimators=names, replicates=20) for log in (sorted_log, shuffled))
    for row, again in zip(one, other, strict=True):
        assert row.raw == pytest.approx(again.raw)


def test_a_supposition_that_the_log_contradicts_is_refused():
    """The second place pays where item 0 stands in the first: nothing of the kind is known to its own ratio."""
    small = case(sessions=4000, items=3, horizon=1, strength=0.0)
    paid = np.stack([np.zeros(len(small.log.items)), small.log.items[:, 0] == 0], 1).astype(np.float32)
    target = RecallPolicy(torch.tensor([1.5, 0.0, 0.0]).double().expand(4, 2, 3))
    found = evaluate(target, replace(small.log, reward=paid), estimators=("iips", "rips", "pdis"), replicates=200)
    assert [row.verdict for row in found] == ["refuse", "refuse", "trust"]
    names = ("iips", "rips", "pdis")
    found = evaluate(target, replace(small.log, reward=paid), estimators=names, replicates=200, assume=names)
    assert [row.verdict for row in found] == ["refuse", "caution", "trust"]
    assert "less biased" in found["iips"].reasons[0]
    assert found["rips"].raw.value == pytest.approx(found["pdis"].raw.value, abs=0.05)
