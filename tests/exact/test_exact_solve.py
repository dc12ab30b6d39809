"""Values, visits and gradients against each other, against sums over time and against brute force."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from random_mdps import layered_mdp, random_logits, random_mdp

from recil.errors import InputError
from recil.exact import solve
from recil.exact.enumerate import enumerate_sessions
from recil.exact.gradient import gradient_by_autograd, gradient_by_theorem
from recil.exact.policy import TabularPolicy
from recil.exact.world import TabularWorld
from recil.exact.worlds import cheese_maze, random_walk, small_recommender
from recil.ops import policy_gradient as pg
from recil.policies.protocol import log_prob_of_sessions

CLOSE = {"rtol": 0, "atol": 1e-10}
WORLDS = [
    random_mdp(5, 3, 0),
    random_mdp(4, 2, 1, gamma=0.5, ends=0.2),
    random_mdp(4, 3, 2, gamma=1.0, ends=0.1),
    small_recommender(),
    cheese_maze(1.0),
]


@pytest.mark.parametrize("world", WORLDS)
def test_the_theorem_and_autograd_through_the_solve_agree(world):
    logits = random_logits(world, 3)
    by_theorem = gradient_by_theorem(world, logits)
    assert float(by_theorem.abs().max()) > 1e-3
    torch.testing.assert_close(gradient_by_autograd(world, logits), by_theorem, **CLOSE)


@pytest.mark.parametrize("world", WORLDS)
def test_values_are_the_limit_of_finite_sessions(world):
    policy = random_logits(world, 4).softmax(-1)
    values = solve.state_values(world, policy)
    torch.testing.assert_close(solve.finite_values(world, policy, 2_000), values, rtol=0, atol=1e-9)
    torch.testing.assert_close((policy * solve.action_values(world, policy)).sum(-1), values, **CLOSE)
    assert float(solve.start_value(world, policy)) == pytest.approx(float(world.start @ values))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9, 0.99])
def test_visits_sum_to_the_horizon_of_the_discount(gamma):
    world = random_mdp(5, 3, 0, gamma)
    policy = random_logits(world, 5).softmax(-1)
    visits = solve.visits(world, policy)
    assert float(visits.sum()) == pytest.approx(1 / (1 - gamma), abs=1e-10)
    _, reward = solve.steps_under(world, policy)
    assert float(visits @ reward) == pytest.approx(float(solve.start_value(world, policy)), abs=1e-10)


def test_undiscounted_visits_of_the_walk_by_hand():
    walk = random_walk()
    policy = solve.uniform_policy(walk)
    # The fair walk from the middle of 0 ... 6 visits i inside min(i, 6 - i) times, and ends on either side alike.
    torch.testing.assert_close(
        solve.visits(walk, policy), torch.tensor([0.5, 1, 2, 3, 2, 1, 0.5], dtype=torch.float64), **CLOSE
    )
    torch.testing.assert_close(
        solve.visit_shares(walk, policy), torch.tensor([0, 1, 2, 3, 2, 1, 0], dtype=torch.float64) / 9, **CLOSE
    )
    assert float(solve.average_reward(walk, policy)) == pytest.approx(0.5 / 9, abs=1e-12)
    assert float(solve.average_value(walk, policy)) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("world", [random_mdp(3, 3, 7), random_mdp(4, 2, 8, gamma=1.0, ends=0.3)])
def test_the_optimum_is_the_best_of_all_certain_policies(world):
    states, actions = world.size
    tables = [
        torch.nn.functional.one_hot(torch.tensor(choice), actions).double()
        for choice in product(range(actions), repeat=states)
    ]
    best = torch.stack([solve.state_values(world, table) for table in tables]).amax(0)
    optimum = solve.optimal_values(world)
    torch.testing.assert_close(optimum.values, best, **CLOSE)
    torch.testing.assert_close(solve.state_values(world, optimum.policy), best, **CLOSE)
    torch.testing.assert_close(optimum.action_values.amax(-1), best, **CLOSE)


def test_sessions_that_never_end_are_named():
    walk = random_walk()
    back = torch.tensor([0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    forth = torch.stack([1 - back, back], 1)  # right in A and B, left in C, D and E: B and C for ever
    with pytest.raises(InputError, match="never end from state A"):
        solve.state_values(walk, forth)
    assert torch.isfinite(solve.state_values(replace(walk, gamma=0.9), forth)).all()


def test_a_loop_that_pays_has_no_best_value():
    with pytest.raises(InputError, match="without end"):
        solve.optimal_values(cheese_maze(1.0))


@pytest.mark.parametrize(
    ("policy", "message"),
    [(torch.full((7, 2), 0.4).double(), "state end"), (torch.full((7, 2), 0.5), "float32"), (torch.ones(7, 1), "7, 1")],
)
def test_tables_that_are_no_policy_are_refused(policy, message):
    with pytest.raises(InputError, match=message):
        solve.state_values(random_walk(), policy)


def test_ties_go_to_the_lower_action_and_epsilon_to_all():
    values = torch.tensor([[1.0, 3.0, 3.0 + 1e-12, 0.0]], dtype=torch.float64)
    assert solve.greedy_policy(values).tolist() == [[0, 1, 0, 0]]
    torch.testing.assert_close(
        solve.greedy_policy(values, 0.4), torch.tensor([[0.1, 0.7, 0.1, 0.1]], dtype=torch.float64), **CLOSE
    )


def listed(seed: int):
    """A world, two policies' logits, and every session under the second."""
    mdp = layered_mdp(seed)
    world = TabularWorld(mdp, 5)
    target, behaviour = (random_logits(mdp, part).requires_grad_() for part in (1, 2))
    sessions = enumerate_sessions(world, TabularPolicy(behaviour.detach().softmax(-1)))
    return mdp, target, behaviour, sessions


def test_weights_second_moment_is_that_of_every_session_listed():
    mdp, target, behaviour, every = listed(0)
    ratio = [
        log_prob_of_sessions(TabularPolicy(logits.detach().softmax(-1)), every.sessions).sum((1, 2))
        for logits in (target, behaviour)
    ]
    square = (2 * (ratio[0] - ratio[1])).exp()
    tables = target.detach().softmax(-1), behaviour.detach().softmax(-1)
    for steps in (3, 5):
        moment = solve.second_moment_of_weight(mdp, *tables, steps)
        assert float(moment) == pytest.approx(every.mean(square), abs=1e-12)


@pytest.mark.parametrize("form", [pg.trajectory, pg.per_decision])
def test_off_policy_gradients_are_the_exact_one(form):
    mdp, target, behaviour, every = listed(3)
    state = every.sessions.context["state"]
    state = torch.where(state >= 0, state, 0)
    action, happened = every.sessions.items[:, :, 0].clamp(min=0), every.sessions.happened
    scores = [
        torch.where(happened, logits.log_softmax(-1)[state, action], 0.0) for logits in (target, behaviour.detach())
    ]
    surrogate = form(*scores, every.sessions.reward[:, :, 0].double(), mdp.gamma)
    gradient = torch.autograd.grad((every.probability * surrogate).sum(), target)[0]
    torch.testing.assert_close(gradient, gradient_by_theorem(mdp, target), **CLOSE)
