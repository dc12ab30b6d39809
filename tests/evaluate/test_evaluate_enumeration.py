"""Expectations by enumeration: every session of a tiny world, weighed by its exact probability."""

import itertools

import pytest
import torch
from sums_of_sessions import arrays_from, expectation, once
from tiny_worlds import MoodyWorld, RecallPolicy

from recil.evaluate.estimators import ESTIMATORS
from recil.evaluate.reward_model import RewardModel
from recil.exact.enumerate import enumerate_sessions, true_value
from recil.ops.importance import step_log_ratio
from recil.policies.protocol import log_prob_of_sessions

SHAPES = [(2, 1, 3), (3, 1, 3), (3, 2, 2)]
GAMMAS = [1.0, 0.8, 0.0]


def case(shape):
    world = MoodyWorld.make(*shape)
    return world, RecallPolicy.make(shape[0], 1), RecallPolicy.make(shape[0], 2)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["ips", "pdis"])
def test_unbiased(name, shape, gamma):
    world, behaviour, target = case(shape)
    sums = expectation(enumerate_sessions(world, behaviour), target, gamma)
    truth = true_value(world, target, gamma)
    assert abs(truth - true_value(world, behaviour, gamma)) > 1e-3
    assert float(ESTIMATORS[name].value(sums)) == pytest.approx(truth, abs=1e-12)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("shape", SHAPES)
def test_doubly_robust_is_unbiased_whatever_the_model(shape, gamma):
    world, behaviour, target = case(shape)
    listed = enumerate_sessions(world, behaviour)
    sessions = listed.sessions
    draw = torch.Generator().manual_seed(5)
    steps, slots = world.horizon, world.slate_size

    def random(*size):
        return torch.randn(1, *size, generator=draw, dtype=torch.float64)

    model = RewardModel(random(slots), random(steps), random(world.catalogue), random(steps))
    fold = torch.zeros_like(sessions.length)
    predicted = model.value(sessions.items, sessions.happened, fold)
    expected = torch.zeros_like(predicted)
    for slate in itertools.permutations(range(world.catalogue), slots):
        shown = torch.tensor(slate).expand(sessions.items.shape).contiguous()
        chance = torch.stack(
            [target.log_prob(sessions.prefix(step), shown[:, step]).sum(-1).exp() for step in range(sessions.steps)], 1
        )
        expected += chance * model.value(shown, sessions.happened, fold)
    sums = expectation(listed, target, gamma, predicted, expected)
    assert float(ESTIMATORS["dr"].value(sums)) == pytest.approx(true_value(world, target, gamma), abs=1e-12)


@pytest.mark.parametrize("name", ["snips", "pdwis"])
def test_self_normalised_limits(name):
    """With every session in its exact share the ratio of sums is the ratio of expectations, so the bias is gone."""
    world, behaviour, target = case((3, 2, 2))
    sums = expectation(enumerate_sessions(world, behaviour), target)
    assert float(ESTIMATORS[name].value(sums)) == pytest.approx(true_value(world, target), abs=1e-12)


def test_an_ended_session_stays_in_every_denominator():
    """Leaving ended sessions out, or dividing by those alive, misses the value in the limit; the absorbing form does
    not."""
    world, behaviour, target = case((3, 1, 3))
    listed = enumerate_sessions(world, behaviour)
    sums = expectation(listed, target)
    truth = true_value(world, target)
    masked = expectation_of_the_living(listed, target)
    assert abs(masked - truth) > 0.1 * truth
    assert float(ESTIMATORS["pdwis"].value(sums)) == pytest.approx(truth, abs=1e-12)


def expectation_of_the_living(listed, target) -> float:
    """The masked form of PDWIS, a known defect."""
    sums = expectation(listed, target)
    alive = listed.sessions.happened
    sessions = listed.sessions
    log_ratio = step_log_ratio(log_prob_of_sessions(target, sessions), sessions.propensity.log(), sessions.shown)
    weight = (log_ratio.cumsum(1).exp() * alive * listed.probability[:, None]).sum(0)
    return float((sums.reward[0] * sums.unit / weight).sum())


@pytest.mark.parametrize("name", ["ips", "snips", "pdis", "pdwis", "dr"])
def test_one_step_is_the_single_step_form(name):
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(50, generator=generator, dtype=torch.float64) * 3
    reward = torch.rand(50, generator=generator, dtype=torch.float64)
    predicted = torch.rand(50, generator=generator, dtype=torch.float64)
    expected = torch.rand(50, generator=generator, dtype=torch.float64)
    sums = once(arrays_from(weight[:, None], reward[:, None], None, predicted[:, None], expected[:, None]))
    wanted = {
        "ips": (weight * reward).mean(),
        "pdis": (weight * reward).mean(),
        "snips": (weight * reward).sum() / weight.sum(),
        "pdwis": (weight * reward).sum() / weight.sum(),
        "dr": (expected + weight * (reward - predicted)).mean(),
    }
    assert float(ESTIMATORS[name].value(sums)) == pytest.approx(float(wanted[name]), abs=1e-12)


def test_doubly_robust_written_out_is_the_recursion():
    generator = torch.Generator().manual_seed(1)

    def random():
        return torch.rand(20, 4, generator=generator, dtype=torch.float64)

    ratio, reward, predicted, expected, gamma = 2 * random(), random(), random(), random(), 0.7
    value = torch.zeros(20, dtype=torch.float64)
    for step in reversed(range(4)):
        value = expected[:, step] + ratio[:, step] * (reward[:, step] + gamma * value - predicted[:, step])
    sums = once(arrays_from(ratio, reward, None, predicted, expected, gamma))
    assert float(ESTIMATORS["dr"].value(sums)) == pytest.approx(float(value.mean()), abs=1e-12)
