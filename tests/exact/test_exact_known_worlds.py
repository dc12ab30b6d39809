"""What is known of each built world, recomputed."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from recil.errors import InputError
from recil.exact import solve, worlds
from recil.exact.gradient import gradient_by_autograd, gradient_by_theorem
from recil.exact.policy import TabularPolicy
from recil.exact.world import TabularWorld
from recil.ops.policy_gradient import per_step, per_step_weight
from recil.policies.protocol import log_prob_of_sessions
from recil.random import Streams

CLOSE = {"rtol": 0, "atol": 1e-10}


def test_random_walk():
    walk = worlds.random_walk()
    values = solve.state_values(walk, solve.uniform_policy(walk))
    torch.testing.assert_close(values[1:-1], torch.arange(1, 6).double() / 6, **CLOSE)
    assert walk.states == ("end", "A", "B", "C", "D", "E", "goal")
    long = worlds.random_walk(19)
    torch.testing.assert_close(
        solve.state_values(long, solve.uniform_policy(long))[1:-1], torch.arange(1, 20).double() / 20, **CLOSE
    )


def test_cheese_maze_table_by_hand():
    maze = worlds.cheese_maze(0.8)
    start, small, nothing, crumbs = 7.4, 8.0, 10.0, 0.8 * 7.4
    wanted = [
        [0.8 * start, 1 + 0.8 * small, 0.8 * start, 2 + 0.8 * crumbs],
        [0.8 * start, 0.8 * nothing, 0.8 * small, -10],
        [1 + 0.8 * small, 0.8 * nothing, 0.8 * nothing, 10],
        [0.8 * crumbs, -10, 0.8 * start, 0.8 * crumbs],
        [0] * 4,
        [0] * 4,
    ]
    optimum = solve.optimal_values(maze)
    torch.testing.assert_close(optimum.action_values, torch.tensor(wanted, dtype=torch.float64), **CLOSE)
    assert [maze.actions[way] for way in optimum.policy.argmax(-1)[:3]] == ["right", "right", "down"]
    greedy = solve.optimal_values(worlds.cheese_maze(0.95)).policy.argmax(-1)
    assert maze.actions[greedy[0]] == "down", "a patient mouse goes to and fro between crumbs"


def test_cliff():
    cliff = worlds.cliff_walk()
    optimum = solve.optimal_values(cliff)
    start = cliff.state("3,0")
    assert float(optimum.values[start]) == pytest.approx(-13)
    steps = [float(solve.start_value(cliff, worlds.lane(row))) for row in (2, 1, 0)]
    assert steps == pytest.approx([-13, -15, -17])
    edge = solve.start_value(cliff, solve.greedy_policy(optimum.action_values, 0.1))
    middle, top = (solve.start_value(cliff, 0.9 * worlds.lane(row) + 0.025) for row in (1, 0))
    assert [round(float(value), 2) for value in (edge, middle, top)] == [-45.80, -21.05, -22.27]
    with pytest.raises(InputError, match="row 3"):
        worlds.lane(3)


def test_short_corridor():
    corridor = worlds.short_corridor()

    def value(p: float) -> float:
        return float(solve.start_value(corridor, torch.tensor([[1 - p, p]], dtype=torch.float64).repeat(4, 1)))

    for p in (0.05, 0.3, 0.5, 0.8, 0.95):
        assert value(p) == pytest.approx((2 * p - 4) / (p * (1 - p)), rel=1e-12)
    best = 2 - math.sqrt(2)
    assert value(best) == pytest.approx(-(6 + 4 * math.sqrt(2)), abs=1e-10)
    assert (round(value(0.95), 2), round(value(0.05), 2)) == (-44.21, -82.11)
    # The policy is one number: its gradient is the sum over places, 0 at the best and nowhere beside it.
    for p, sign in ((best, 0), (0.5, 1), (0.7, -1)):
        logits = torch.tensor([[1 - p, p]], dtype=torch.float64).log().repeat(4, 1)
        slope = float(gradient_by_theorem(corridor, logits).sum(0)[1])
        assert slope == pytest.approx(float(gradient_by_autograd(corridor, logits).sum(0)[1]), abs=1e-10)
        assert abs(slope) < 1e-9 if sign == 0 else slope * sign > 0.1


@pytest.mark.parametrize("depth", [1, 5, 14])
def test_deep_sea(depth):
    sea = worlds.deep_sea(depth, cost=0.0)
    for right in (0.5, 0.9):
        policy = torch.tensor([1 - right, right], dtype=torch.float64).repeat(sea.size[0], 1)
        assert float(solve.start_value(sea, policy)) == pytest.approx(right**depth, rel=1e-12)
    assert float(sea.start @ solve.optimal_values(worlds.deep_sea(depth)).values) == pytest.approx(0.99)
    dear = worlds.deep_sea(depth, cost=2.0)
    # Where the way costs more than the treasure the best is to stay left; half of a coin's moves are paid for.
    assert float(dear.start @ solve.optimal_values(dear).values) == pytest.approx(0.0)
    assert float(solve.start_value(dear, solve.uniform_policy(dear))) == pytest.approx(0.5**depth - 1)


def gap(world: worlds.Demonstrated, learner: torch.Tensor, steps: int) -> float:
    values = [
        world.mdp.start @ solve.finite_values(world.mdp, policy, steps) for policy in (world.demonstrator, learner)
    ]
    return float(values[0] - values[1])


def test_compounding_error_in_three_states():
    world = worlds.three_states()
    for steps, cost in ((10, 1), (20, 4), (50, 25)):
        rate = torch.tensor([0.01 * steps, 0, 1], dtype=torch.float64)
        assert gap(world, worlds.erring(world.demonstrator, rate), steps) == pytest.approx(cost, abs=1e-10)


@pytest.mark.parametrize("items", [2, 5])
def test_compounding_error_where_there_is_no_way_back(items):
    world, rate = worlds.cliff_chain(items), 0.001
    learner = worlds.erring(world.demonstrator, rate)
    gaps = [gap(world, learner, steps) for steps in (10, 20, 40, 80, 160)]
    formula = [steps - (1 - rate) * (1 - (1 - rate) ** steps) / rate for steps in (10, 20, 40, 80, 160)]
    assert gaps == pytest.approx(formula, abs=1e-9)
    assert gaps == pytest.approx([0.0548, 0.2087, 0.8094, 3.156, 12.22], rel=1e-3)
    slopes = [math.log2(after / before) for before, after in pairwise(gaps)]
    assert 1.9 < min(slopes) < max(slopes) < 1.97


def test_compounding_error_where_there_is_a_way_back():
    world, rate = worlds.recoverable_chain(), 0.01
    learner = worlds.erring(world.demonstrator, rate)
    gaps = [gap(world, learner, steps) for steps in (10, 20, 40, 80, 160)]
    assert gaps == pytest.approx([rate + (steps - 1) * rate * (2 - rate) for steps in (10, 20, 40, 80, 160)], abs=1e-9)
    assert [round(value, 3) for value in gaps] == [0.189, 0.388, 0.786, 1.582, 3.174]
    # A clone that errs for ever where no expert has been loses as much as where there is no way back.
    lost = worlds.erring(world.demonstrator, torch.tensor([rate, 1.0], dtype=torch.float64))
    cliff = worlds.cliff_chain()
    assert gap(world, lost, 80) == pytest.approx(gap(cliff, worlds.erring(cliff.demonstrator, rate), 80), abs=1e-9)
    assert gap(world, lost, 80) > 10 * gap(world, learner, 80)


def test_sparse_click_bandit():
    world = worlds.sparse_click_bandit()
    mdp = world.mdp
    rate = mdp.mean_reward[:20]
    assert set(rate.flatten().tolist()) == {0.002, 0.102}
    assert float((rate > 0.1).double().mean()) == pytest.approx(0.0225)
    uniform = float(solve.start_value(mdp, solve.uniform_policy(mdp)))
    assert uniform == pytest.approx(0.0225 * 0.102 + 0.9775 * 0.002, abs=1e-12)
    assert float(solve.start_value(*world)) == pytest.approx(0.0165, abs=1e-12)
    assert float(mdp.start @ solve.optimal_values(mdp).values) == pytest.approx(0.102)
    other = worlds.sparse_click_bandit(seed=1).mdp
    assert not torch.equal(other.transition, mdp.transition)
    with pytest.raises(InputError, match="share with an item"):
        worlds.sparse_click_bandit(clickable=0.001)


def test_logging_bias_bandit():
    mdp, behaviour = worlds.logging_bias_bandit()
    item = torch.arange(1, 11).double()
    assert float(solve.start_value(mdp, behaviour)) == pytest.approx(4.0)
    reward, shown = mdp.mean_reward[0], behaviour[0]

    def step(policy: torch.Tensor, corrected: bool) -> torch.Tensor:
        logits = policy.log().requires_grad_()
        log_prob = logits.log_softmax(-1)
        weight = per_step_weight(log_prob, shown.log() if corrected else log_prob.detach())
        return torch.autograd.grad((shown * per_step(log_prob, weight, reward)).sum(), logits)[0]

    cloned = item * (11 - item) / 220
    assert float(step(cloned, corrected=False).abs().max()) < 1e-12
    assert float(solve.start_value(mdp, cloned.repeat(2, 1))) == pytest.approx(5.5)
    # Corrected, the expected step is the exact gradient, which leads on to the best item.
    torch.testing.assert_close(
        step(cloned, corrected=True), gradient_by_theorem(mdp, cloned.log().repeat(2, 1))[0], **CLOSE
    )
    policy = cloned
    for _ in range(60):  # mirror ascent along the corrected gradient
        policy = policy * (step(policy, corrected=True) / policy).exp()
        policy = (policy / policy.sum()).clamp(min=1e-30)
    assert float(solve.start_value(mdp, policy.repeat(2, 1))) == pytest.approx(10, abs=1e-9)
    assert float(solve.optimal_values(mdp).values[0]) == 10


def test_what_is_best_now_is_not_best_in_the_long_run_of_the_recommender():
    world = worlds.small_recommender()
    myopic = solve.greedy_policy(world.mean_reward)
    best = float(world.start @ solve.optimal_values(world).values)
    assert (
        best
        > 1.2 * float(solve.start_value(world, myopic))
        > 1.2 * 1.2 * float(solve.start_value(world, solve.uniform_policy(world)))
    )
    assert world.mean_reward[world.state("topic 1, passed")].tolist() == pytest.approx(
        [0.04, 0.3, 0.04, 0.032, 0.24, 0.032]
    )
    assert world.transition[0, 0, world.state("left")] == pytest.approx(0.7 * 0.1)
    assert world.transition[2, 0, -1] == pytest.approx(0.88 * 0.4)


@pytest.mark.parametrize(
    "mdp",
    [worlds.random_walk(), worlds.cheese_maze(), worlds.cliff_walk(), worlds.deep_sea(4), worlds.small_recommender()],
)
def test_every_world_can_be_recommended_in(mdp):
    policy = TabularPolicy(solve.uniform_policy(mdp))
    history = TabularWorld(mdp, 6).rollout(policy, torch.arange(8), Streams(0))
    assert history.happened.any()
    assert float(log_prob_of_sessions(policy, history)[history.happened].exp().mean()) == pytest.approx(1 / mdp.size[1])


def test_rates_of_error_are_probabilities():
    with pytest.raises(InputError, match="rate 2"):
        worlds.erring(torch.eye(2).double(), 2.0)
