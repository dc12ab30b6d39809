"""Estimators beside the usual ones: exact expectations, limits of their knobs, and the table itself."""

import math
from dataclasses import replace

import pytest
import torch
from random_sessions import some_sessions
from sums_of_sessions import arrays_of, expected_value, look_at, sums_of, value_of
from tiny_worlds import MoodyWorld, RecallPolicy

from recil.errors import InputError
from recil.evaluate.arrays import Extra
from recil.evaluate.estimators import (
    ESTIMATORS,
    KNOBS,
    TABLE,
    capped_ips,
    estimators_frame,
    find,
    find_all,
    optimistic_dr,
    subgaussian,
    switch_dr,
)
from recil.evaluate.scoring import category_log_prob
from recil.exact.enumerate import enumerate_sessions, true_value


def test_categories_carry_the_weight_where_items_act_through_them():
    """Items 0 and 1 are of one category, alike in every respect; both policies see categories of the past only."""
    base = MoodyWorld.make(3, 1, 2)
    click = base.click[:, [0, 0, 2]]
    world = replace(base, click=click)
    policies = [RecallPolicy(RecallPolicy.make(3, seed).table[[0, 1, 1, 3]]) for seed in (1, 2)]
    listed, truth = enumerate_sessions(world, policies[0]), true_value(world, policies[1])
    category = torch.tensor([1, 1, 2])
    look = look_at(listed, policies[1], behaviour=policies[0], category=category)
    arrays = arrays_of(look, TABLE["mips"].needs)
    assert expected_value(TABLE["mips"], listed, arrays) == pytest.approx(truth, abs=1e-12)
    spreads = [float(listed.probability @ TABLE[name].score(arrays).values.square()) for name in ("mips", "pdis")]
    assert spreads[0] < spreads[1]
    by_item = category_log_prob(policies[1], listed.sessions, torch.arange(3))
    torch.testing.assert_close(by_item, look.scores[:, :, 0])


def test_replay_is_the_mean_of_the_sessions_that_agree():
    world = MoodyWorld.make(3, 1, 1)
    table = torch.full((4, 2, 3), -torch.inf).double()
    table[..., 1] = 0.0
    behaviour, target = RecallPolicy(torch.zeros(4, 2, 3).double()), RecallPolicy(table)
    listed = enumerate_sessions(world, behaviour)
    arrays = arrays_of(look_at(listed, target), TABLE["replay"].needs)
    assert expected_value(TABLE["replay"], listed, arrays) == pytest.approx(true_value(world, target), abs=1e-12)
    stochastic = arrays_of(look_at(listed, RecallPolicy.make(3, 2)), TABLE["replay"].needs)
    assert math.isnan(expected_value(TABLE["replay"], listed, stochastic))


def test_replay_takes_sessions_that_agree_at_every_step():
    arrays = some_sessions(0, sessions=3, steps=2)
    happened = torch.tensor([[True, True], [True, True], [True, False]])
    agrees = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]]).double()
    reward = torch.tensor([[5.0, 0.0], [1.0, 2.0], [0.5, 0.0]]).double()
    arrays = replace(arrays, happened=happened, reward=reward, extra={Extra.AGREES: agrees})
    assert value_of(TABLE["replay"], arrays) == pytest.approx((3.0 + 0.5) / 2)
    assert sums_of(TABLE["replay"], arrays).own_weights("agreement").weight.tolist() == [[3.0, 2.0]]


def test_weighted_doubly_robust_in_the_limit():
    """In exact shares the bias of order 1/n is gone, whatever the model; one step is SNDR."""
    arrays = replace(some_sessions(3), reward=some_sessions(4).reward)
    weight = arrays.log_weight[:, :1].exp()
    one = arrays.each(lambda part: part[:, :1])
    sndr = arrays.expected[:, 0].mean() + (weight[:, 0] * (one.reward - one.predicted)[:, 0]).sum() / weight.sum()
    assert value_of(find("sndr"), one) == pytest.approx(float(sndr), abs=1e-12)


def test_weighted_doubly_robust_does_not_shrink_with_the_log():
    """A known defect: weights normalised twice make the estimate fall as 1/n."""
    arrays = some_sessions(5)
    often = arrays.each(lambda part: part.repeat_interleave(50, 0))
    assert value_of(TABLE["wdr"], often) == pytest.approx(value_of(TABLE["wdr"], arrays), rel=1e-12)


LIMITS = [
    (capped_ips(math.inf), "pdis"),
    (capped_ips(1e12), "pdis"),
    (subgaussian(0.0), "pdis"),
    (subgaussian(1.0), "logged"),
    (switch_dr(math.inf), "dr"),
    (switch_dr(0.0), "dm"),
    (optimistic_dr(math.inf), "dr"),
    (optimistic_dr(0.0), "dm"),
]


@pytest.mark.parametrize(("estimator", "limit"), LIMITS, ids=lambda part: getattr(part, "name", part))
@pytest.mark.parametrize("seed", range(5))
def test_limits_of_the_knobs(estimator, limit, seed):
    arrays = some_sessions(seed, 0.9)
    assert value_of(estimator, arrays) == pytest.approx(value_of(TABLE[limit], arrays), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "shrunk"),
    [
        ("cips(2)", lambda w: w.clamp(max=2)),
        ("subgaussian(.3)", lambda w: w / (0.7 + 0.3 * w)),
        ("switch_dr(2)", lambda w: torch.where(w <= 2, w, 0.0)),
        ("dros(5)", lambda w: 5 * w / (w**2 + 5)),
    ],
)
def test_one_step_shrinkage_by_hand(name, shrunk):
    arrays = some_sessions(1).each(lambda part: part[:, :1])
    weight, reward = shrunk(arrays.log_weight.exp()), arrays.reward
    if find(name).needs_model:
        wanted = (arrays.expected + weight * (reward - arrays.predicted)).mean()
    else:
        wanted = (weight * reward).mean()
    assert value_of(find(name), arrays) == pytest.approx(float(wanted), abs=1e-12)


def test_the_optimal_baseline_by_hand():
    arrays = some_sessions(2).each(lambda part: part[:, :1])
    weight, reward = arrays.log_weight[:, 0].exp(), arrays.reward[:, 0]
    excess = weight**2 - weight
    baseline = (excess * reward).mean() / excess.mean()
    wanted = baseline + (weight * (reward - baseline)).mean()
    assert value_of(TABLE["beta_ips"], arrays) == pytest.approx(float(wanted), abs=1e-12)
    constant = replace(arrays, reward=torch.full_like(arrays.reward, 0.25))
    assert value_of(TABLE["beta_ips"], constant) == pytest.approx(0.25, abs=1e-12)


def test_the_optimal_baseline_is_the_one_of_least_variance():
    """On sessions in their exact shares no other baseline gives a smaller variance."""
    world = MoodyWorld.make(3, 1, 1)
    behaviour, target = RecallPolicy.make(3, 1), RecallPolicy.make(3, 2)
    listed = enumerate_sessions(world, behaviour)
    arrays = arrays_of(look_at(listed, target), frozenset())
    weight, reward, chance = arrays.log_weight[:, -1].exp(), arrays.reward.sum(1), listed.probability
    excess = weight**2 - weight
    best = float(chance @ (excess * reward)) / float(chance @ excess)

    def variance(baseline):
        score = baseline + weight * (reward - baseline)
        return float(chance @ score.square()) - float(chance @ score) ** 2

    assert variance(best) < min(variance(best - 0.02), variance(best + 0.02), variance(0.0))
    assert expected_value(TABLE["beta_ips"], listed, arrays) == pytest.approx(true_value(world, target), abs=1e-12)


def test_exact_model_and_certain_rewards_leave_no_variance():
    """Every session then scores the value itself, under every doubly robust form."""
    draw = torch.Generator().manual_seed(0)
    ratio = torch.rand(30, 1, generator=draw).double() * 3
    reward = torch.rand(30, 1, generator=draw).double()
    arrays = some_sessions(0, sessions=30, steps=1)
    exact = torch.full((30, 1), 0.4).double()
    arrays = replace(arrays, log_weight=ratio.log(), reward=reward, predicted=reward, expected=exact)
    for name in ("dr", "switch_dr", "dros"):
        torch.testing.assert_close(TABLE[name].score(arrays).values, exact[:, 0])


def test_names_knobs_and_the_table():
    assert find("tis") is TABLE["ips"] and find("wis") is TABLE["snips"] and find("sips") is TABLE["pdis"]
    assert find("cips(3)").name == "cips(3)" and find("cips(10)").name == "cips"
    assert find_all(None) == tuple(ESTIMATORS.values())
    assert all(make(0.5).name.startswith(name) for name, make in KNOBS.items())
    for wrong in ("snip", "cips(x)", "ips(3)", "cips(e)"):
        with pytest.raises(InputError, match="choose among"):
            find(wrong)
    with pytest.raises(InputError, match="given twice"):
        find_all(["ips", "tis"])
    with pytest.raises(InputError, match="from 0 to 1"):
        subgaussian(2.0)
    frame = estimators_frame()
    assert list(frame["name"]) == list(TABLE)
    assert (frame[["formula", "assumes", "use", "source"]] != "").all(axis=None)


def single_items(seed):
    """The same sessions with slates of one item, which is its own category, and one model behind every name."""
    arrays = some_sessions(seed)
    extra = {
        **arrays.extra,
        Extra.SHOWN: arrays.happened[:, :, None].double(),
        Extra.POSITION_LOG_RATIO: arrays.extra[Extra.STEP_LOG_RATIO][:, :, None],
        Extra.POSITION_REWARD: arrays.reward[:, :, None],
        Extra.POSITION_PREDICTED: (arrays.predicted - arrays.extra[Extra.AHEAD])[:, :, None],
        Extra.POSITION_EXPECTED: (arrays.expected - arrays.extra[Extra.AHEAD])[:, :, None],
        Extra.CATEGORY_LOG_RATIO: arrays.extra[Extra.STEP_LOG_RATIO],
    }
    for model in ("FQE", "MRDR"):
        extra[Extra[f"{model}_PREDICTED"]], extra[Extra[f"{model}_EXPECTED"]] = arrays.predicted, arrays.expected
    return replace(arrays, extra=extra)


SAME = [
    ("rips", "pdis"),
    ("iips", "pdis"),
    ("pi", "pdis"),
    ("mips", "pdis"),
    ("cascade_dr", "dr"),
    ("mrdr", "dr"),
    ("fqe_dr", "dr"),
]


@pytest.mark.parametrize(("name", "same"), SAME)
@pytest.mark.parametrize("seed", range(3))
def test_of_single_items_and_one_model_many_are_the_same(name, same, seed):
    arrays = single_items(seed)
    assert value_of(TABLE[name], arrays) == pytest.approx(value_of(TABLE[same], arrays), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_one_state_and_one_step_is_self_normalised(seed):
    arrays = some_sessions(seed).each(lambda part: part[:, :1])
    arrays = replace(arrays, extra={**arrays.extra, Extra.STATE: torch.ones(12, 1, 1).double()})
    assert value_of(TABLE["mis"], arrays) == pytest.approx(value_of(TABLE["snips"], arrays), rel=1e-12)
    assert value_of(TABLE["mis_dr"], arrays) == pytest.approx(value_of(TABLE["wdr"], arrays), rel=1e-12)


@pytest.mark.parametrize("name", [name for name, estimator in TABLE.items() if estimator.score is not None])
def test_scores_are_what_estimates_are_means_of(name):
    arrays = some_sessions(3, 0.9)
    assert value_of(TABLE[name], arrays) == pytest.approx(float(TABLE[name].score(arrays).values.mean()), rel=1e-12)
