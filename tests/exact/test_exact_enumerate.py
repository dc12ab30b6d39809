import pytest
import torch
from statistics_helper import assert_mean
from tiny_worlds import MoodyWorld, RecallPolicy

from recil.exact.enumerate import enumerate_sessions, true_value
from recil.policies.protocol import log_prob_of_sessions
from recil.random import Streams

SHAPES = [(2, 1, 3), (3, 1, 2), (3, 2, 2)]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_session_is_listed_once_with_its_probability(shape):
    world, policy = MoodyWorld.make(*shape), RecallPolicy.make(shape[0], 1)
    listed = enumerate_sessions(world, policy)
    assert float(listed.probability.sum()) == pytest.approx(1.0, abs=1e-12)
    assert float(listed.probability.min()) > 0
    ends = ~listed.sessions.terminated
    assert (listed.sessions.length[ends] == world.horizon).all()
    assert not listed.sessions.terminated.all()


@pytest.mark.parametrize("shape", SHAPES)
def test_propensities_are_the_policys_own(shape):
    world, policy = MoodyWorld.make(*shape), RecallPolicy.make(shape[0], 1)
    sessions = enumerate_sessions(world, policy).sessions
    scores = log_prob_of_sessions(policy, sessions)
    torch.testing.assert_close(scores, sessions.propensity.log(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("gamma", [1.0, 0.5, 0.0])
def test_true_value_is_what_simulation_averages(gamma):
    world, policy = MoodyWorld.make(3, 2, 2), RecallPolicy.make(3, 2)
    history = world.rollout(policy, torch.arange(20_000), Streams(3))
    discount = torch.tensor(gamma, dtype=torch.float64) ** torch.arange(history.steps)
    returns = history.reward.double().sum(-1) @ discount
    assert_mean(returns, true_value(world, policy, gamma))


def test_value_of_one_step_by_hand():
    world = MoodyWorld(torch.tensor([[0.25, 0.5], [0.75, 0.5]]).double(), torch.full((2, 2), 0.3).double(), 0.5, 1, 1)
    policy = RecallPolicy(torch.log(torch.tensor([[[0.8, 0.2], [0.8, 0.2]]]).double()).expand(3, 2, 2))
    assert true_value(world, policy) == pytest.approx(0.5, abs=1e-12)
    tilted = MoodyWorld(world.click, world.leave, 0.5, 1, 1, start=0.9)
    assert true_value(tilted, policy) == pytest.approx(0.8 * (0.9 * 0.25 + 0.1 * 0.75) + 0.2 * 0.5, abs=1e-12)
