"""Targets by their definitions; their fixed points are the exact values of a world."""

from __future__ import annotations

import pytest
import torch

from recil.errors import InputError
from recil.exact import solve
from recil.exact.worlds import small_recommender
from recil.ops import values as ops

CLOSE = {"rtol": 0, "atol": 1e-10}


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_targets_by_hand():
    reward, discount = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0])
    following = torch.tensor([[4.0, 8.0], [6.0, 2.0]])
    assert ops.td_target(reward, discount, following[:, 0]).tolist() == [3.0, 2.0]
    assert ops.td_target(reward, 0.5, following[:, 0]).tolist() == [3.0, 5.0]
    assert ops.q_learning_target(reward, discount, following).tolist() == [5.0, 2.0]
    assert ops.sarsa_target(reward, 0.5, following, torch.tensor([0, 1])).tolist() == [3.0, 3.0]
    policy = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    assert ops.expected_sarsa_target(reward, 0.5, following, policy).tolist() == [4.5, 5.0]
    assert ops.moved(torch.tensor([1.0]), torch.tensor([3.0]), 0.25).tolist() == [1.5]


def test_expected_sarsa_is_the_mean_of_sarsa_and_q_learning_that_of_the_greedy_policy():
    following, reward = draws(5, 3), draws(5, seed=1)
    policy = draws(5, 3, seed=2).softmax(-1)
    mean = sum(
        policy[:, action] * ops.sarsa_target(reward, 0.9, following, torch.full((5,), action)) for action in range(3)
    )
    torch.testing.assert_close(ops.expected_sarsa_target(reward, 0.9, following, policy), mean, **CLOSE)
    torch.testing.assert_close(
        ops.expected_sarsa_target(reward, 0.9, following, ops.epsilon_greedy(following, 0.0)),
        ops.q_learning_target(reward, 0.9, following),
        **CLOSE,
    )


@pytest.mark.parametrize("kind", ["expected_sarsa", "q_learning"])
def test_exact_values_are_where_expected_targets_come_to_rest(kind):
    world = small_recommender()
    policy = draws(*world.size, seed=3).softmax(-1)
    if kind == "q_learning":
        q = solve.optimal_values(world).action_values
    else:
        q = solve.action_values(world, policy)
    states, actions = world.size
    reward, discount = world.reward_on_arrival, world.gamma * (~world.terminal).double().expand(states, actions, -1)
    following = q.expand(states, actions, states, actions)
    if kind == "q_learning":
        target = ops.q_learning_target(reward, discount, following)
    else:
        target = ops.expected_sarsa_target(reward, discount, following, policy.expand_as(following))
    torch.testing.assert_close((world.transition * target).sum(-1), q, **CLOSE)


def test_epsilon_greedy_shares_ties():
    values = torch.tensor([[2.0, 5.0, 5.0, 1.0]], dtype=torch.float64)
    chance = ops.epsilon_greedy(values, 0.2)
    torch.testing.assert_close(chance, torch.tensor([[0.05, 0.45, 0.45, 0.05]], dtype=torch.float64), **CLOSE)
    assert ops.epsilon_greedy(values, 1.0).tolist() == [[0.25] * 4]
    with pytest.raises(InputError, match=r"epsilon: 1\.2"):
        ops.epsilon_greedy(values, 1.2)


def test_shapes_are_asserted():
    with pytest.raises(InputError, match="td_target"):
        ops.td_target(torch.zeros(3), 0.9, torch.zeros(3, 3))
    with pytest.raises(InputError, match=r"float32 with rewards of torch\.float64"):
        ops.td_target(torch.zeros(3).double(), torch.full((3,), 0.9), torch.zeros(3).double())
    with pytest.raises(InputError, match="moved"):
        ops.moved(torch.zeros(3), torch.zeros(2, 3), 0.1)
