"""A tabular world is rolled out, listed, logged and learned from like any other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_mdps import layered_mdp, random_logits, random_mdp
from statistics_helper import assert_mean

from recil.errors import InputError
from recil.evaluate.simulate import simulate, simulated_value
from recil.exact import solve
from recil.exact.enumerate import enumerate_sessions, true_value
from recil.exact.episodes import Episodes, episodes_of, sample_episodes
from recil.exact.policy import TabularPolicy
from recil.exact.world import TabularWorld
from recil.exact.worlds import infinite_variance_loop, short_corridor, small_recommender
from recil.logs.history import History
from recil.policies.environment import identity_of
from recil.policies.protocol import Policy, log_prob_of_sessions
from recil.random import Streams

HORIZON = 4


def world_and_policy(gamma: float = 1.0) -> tuple[TabularWorld, TabularPolicy]:
    mdp = random_mdp(3, 2, 0, gamma, ends=0.2)
    return TabularWorld(mdp, HORIZON), TabularPolicy(random_logits(mdp, 1).softmax(-1))


def exact(world: TabularWorld, policy: TabularPolicy, gamma: float) -> float:
    mdp = replace(world.mdp, gamma=gamma)
    return float(mdp.start @ solve.finite_values(mdp, world.expanded(policy.probability), world.horizon))


@pytest.mark.parametrize("gamma", [1.0, 0.7])
def test_listed_rolled_out_and_summed_values_agree(gamma):
    world, policy = world_and_policy()
    assert isinstance(policy, Policy)
    value = exact(world, policy, gamma)
    # Histories hold rewards as float32.
    assert true_value(world, policy, gamma) == pytest.approx(value, abs=1e-6)
    assert_mean(simulated_value(policy, world, 20_000, gamma=gamma).returns, value)


def test_listed_sessions_tell_the_policy_the_state():
    world, policy = world_and_policy()
    every = enumerate_sessions(world, policy)
    assert float(every.probability.sum()) == pytest.approx(1.0, abs=1e-12)
    scores = log_prob_of_sessions(policy, every.sessions)
    torch.testing.assert_close(scores, every.sessions.propensity.log(), atol=1e-12, rtol=0)
    seen = every.sessions.context["state"]
    assert ((seen >= 0) == every.sessions.happened).all()
    assert len(torch.unique(seen[:, 1])) > 2


def test_rolled_out_sessions_follow_the_tables():
    world, policy = world_and_policy()
    history = world.rollout(policy, torch.arange(20_000), Streams(4))
    state, happened = history.context["state"], history.happened
    for step in range(2):
        for before in range(3):
            rows = happened[:, step] & (state[:, step] == before)
            acted = history.items[rows, step, 0] == 1
            assert_mean(acted.double(), float(policy.probability[before, 1]))
            moved = (history.items[rows, step, 0] == 0) & (state[rows, step + 1] == 2)
            assert_mean(moved.double(), float(policy.probability[before, 0] * world.mdp.transition[before, 0, 2]))
    ended = history.terminated & (history.length == 1)
    assert_mean(ended.double(), 0.2)
    assert (history.length[~history.terminated] == HORIZON).all()
    torch.testing.assert_close(
        log_prob_of_sessions(policy, history).exp().float(), history.propensity, atol=1e-6, rtol=0
    )


def test_sessions_do_not_depend_on_their_batch():
    world, policy = world_and_policy()
    whole = world.rollout(policy, torch.arange(50), Streams(4))
    part = world.rollout(policy, torch.arange(30, 50), Streams(4))
    steps = part.steps
    assert torch.equal(whole.items[30:, :steps], part.items)
    assert torch.equal(whole.reward[30:, :steps], part.reward)
    assert not torch.equal(whole.items[:20], part.items)


def test_a_simulated_log_is_read_back_as_episodes():
    world, policy = world_and_policy()
    log = simulate(policy, world, 400, item_ids=world.item_ids)
    assert log.propensity is not None
    history = log.batch(np.arange(log.sessions))
    read = episodes_of(history, *world.mdp.size)
    assert read.shape == (1, 400, HORIZON)
    moved = world.mdp.transition[read.state[..., :-1], read.action, read.state[..., 1:]]
    inside = read.happened.clone()
    last = torch.arange(HORIZON) == read.length[..., None] - 1
    assert (moved[inside & ~last] > 0).all()
    assert (read.terminated[0].numpy() == log.terminated).all()
    rolled = world.rollout(policy, torch.arange(400), Streams(0))
    direct = episodes_of(rolled, *world.mdp.size)
    cut = ~direct.terminated
    # Only the rollout knows the state that a session which was cut came to.
    assert (direct.state[cut][:, -1] == rolled.context["state"][cut[0], -1]).all()
    assert (read.state[cut][:, -1] == read.state[cut][:, -2]).all()
    assert torch.equal(direct.state[..., :-1][inside], read.state[..., :-1][inside])


def test_what_is_not_told_is_not_known():
    corridor = short_corridor()
    world = TabularWorld(corridor, 2_000, observed=torch.zeros(4, dtype=torch.int64))
    p = 2 - 2**0.5
    policy = TabularPolicy(torch.tensor([[1 - p, p]], dtype=torch.float64))
    assert_mean(simulated_value(policy, world, 500).returns, -(6 + 4 * 2**0.5))
    history = world.rollout(policy, torch.arange(20), Streams(0))
    assert set(history.context["state"][:, :-1][history.happened].tolist()) == {0}
    told = TabularWorld(corridor, 2_000)
    with pytest.raises(InputError, match="the policy knows 1 states"):
        told.rollout(policy, torch.arange(20), Streams(0))


def test_infinite_variance_of_the_loop():
    loop = infinite_variance_loop()
    target = TabularPolicy(loop.target)
    for steps, mean, square in ((5, 0.40951, 4.474), (10, 0.65132, 89.01), (20, 0.87842, 31870)):
        every = enumerate_sessions(TabularWorld(loop.mdp, steps), TabularPolicy(loop.behaviour))
        ratio = log_prob_of_sessions(target, every.sessions).sum((1, 2)).exp() / every.sessions.propensity.prod(1)[:, 0]
        weighted = ratio * every.sessions.reward.double().sum((1, 2))
        assert every.mean(weighted) == pytest.approx(1 - 0.9**steps, abs=1e-12)
        assert every.mean(weighted**2) == pytest.approx(0.25 * (1.8**steps - 1), rel=1e-12)
        assert round(every.mean(weighted), 5) == mean
        assert every.mean(weighted**2) == pytest.approx(square, rel=1e-3)


def test_effective_share_falls_geometrically():
    mdp = random_mdp(3, 2, 0)
    half, tilted = torch.full((3, 2), 0.5).double(), torch.tensor([0.6, 0.4], dtype=torch.float64).repeat(3, 1)
    shares = [1 / float(solve.second_moment_of_weight(mdp, tilted, half, steps)) for steps in (1, 5, 10, 20, 50)]
    assert [round(share, 3) for share in shares] == [0.962, 0.822, 0.676, 0.456, 0.141]


def test_worlds_have_an_identity_of_their_own():
    world, _ = world_and_policy()
    again, _ = world_and_policy()
    assert identity_of(world) == identity_of(again) is not None
    others = [TabularWorld(world.mdp, 5), TabularWorld(world.mdp, 4, torch.zeros(4, dtype=torch.int64))]
    others.append(TabularWorld(replace(world.mdp, reward=2 * world.mdp.reward), 4))
    assert len({identity_of(each) for each in (world, *others)}) == 4


def test_bad_worlds_and_policies_are_refused():
    world, policy = world_and_policy()
    with pytest.raises(InputError, match=r"world\.horizon: 0"):
        TabularWorld(world.mdp, 0)
    with pytest.raises(InputError, match="observed"):
        TabularWorld(world.mdp, 3, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(InputError, match="6 items, the world has 2"):
        world.rollout(TabularPolicy(solve.uniform_policy(small_recommender())), torch.arange(2), Streams(0))
    with pytest.raises(InputError, match="no distribution"):
        TabularPolicy(torch.full((2, 2), 0.4).double())
    with pytest.raises(InputError, match="context column state"):
        policy.sample(History.start(torch.arange(2), 1), 1, Streams(0))


def test_sampled_episodes_visit_states_as_solved():
    mdp = random_mdp(4, 2, 3, gamma=1.0, ends=0.3)
    policy = random_logits(mdp, 2).softmax(-1)
    sampled = sample_episodes(mdp, policy, 2, 5_000, seed=1)
    visits = solve.visits(mdp, policy)
    for state in range(4):
        count = ((sampled.state[..., :-1] == state) & sampled.happened).sum(-1).flatten().double()
        assert_mean(count, float(visits[state]))
    returns = torch.where(sampled.happened, sampled.reward, 0.0).sum(-1).flatten()
    assert_mean(returns, float(solve.start_value(mdp, policy)))
    assert bool(sampled.terminated.all())


def test_a_runs_episodes_do_not_depend_on_how_many_there_are():
    mdp = random_mdp(4, 2, 3, gamma=1.0, ends=0.3)
    policy = solve.uniform_policy(mdp)
    many, few = sample_episodes(mdp, policy, 5, 40, seed=1), sample_episodes(mdp, policy, 3, 7, seed=1)
    inside = few.happened
    assert torch.equal(many.length[:3, :7], few.length)
    assert torch.equal(many.action[:3, :7, : few.shape[2]][inside], few.action[inside])
    assert torch.equal(many.first(7).reward[:3, :, : few.shape[2]][inside], few.reward[inside])
    assert not torch.equal(many.length[0], many.length[1])


def test_cut_episodes_say_so():
    mdp = layered_mdp(0)
    sampled = sample_episodes(mdp, solve.uniform_policy(mdp), 1, 10, longest=2)
    assert not sampled.terminated.any()
    assert (sampled.length == 2).all()


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("length", torch.zeros(1, 3, dtype=torch.int64), "lengths beyond 1 to 2"),
        ("state", torch.full((1, 3, 3), 9), r"episodes\.state: has codes beyond 0 to 3"),
        ("reward", torch.zeros(1, 3, 3).double(), r"give \[R, E, T\]"),
        ("terminated", torch.zeros(3, dtype=torch.bool), r"give \[R, E\]"),
    ],
)
def test_episodes_that_do_not_fit_are_refused(part, value, message):
    good = Episodes(
        torch.zeros(1, 3, 3, dtype=torch.int64),
        torch.zeros(1, 3, 2, dtype=torch.int64),
        torch.zeros(1, 3, 2, dtype=torch.float64),
        torch.full((1, 3), 2),
        torch.zeros(1, 3, dtype=torch.bool),
        4,
        2,
    )
    with pytest.raises(InputError, match=message):
        replace(good, **{part: value})
