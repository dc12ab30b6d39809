"""Exact values and visits of policies in a tabular world, by linear solves and sums.

A policy is a table of probabilities, float64 [S, A]. All is differentiable in it. Source: Puterman (1994), "Markov
decision processes"; Sutton & Barto (2018), "Reinforcement learning", chapters 3 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recil.errors import InputError
from recil.exact.mdp import TabularMDP

_LARGEST_NUMBER_OF_SWEEPS = 50_000


def check_policy(mdp: TabularMDP, policy: Tensor) -> None:
    """InputError unless `policy` holds a distribution over actions for each state."""
    if tuple(policy.shape) != mdp.size or policy.dtype != torch.float64:
        raise InputError("policy", f"is {policy.dtype} {tuple(policy.shape)}", f"give float64 {mdp.size}")
    wrong = ((policy.sum(-1) - 1).abs() > 1e-9) | ~(policy >= 0).all(-1)
    if bool(wrong.any()):
        state = mdp.states[int(wrong.nonzero()[0])]
        raise InputError("policy", f"is no distribution in state {state}", "give probabilities that sum to 1")


def uniform_policy(mdp: TabularMDP) -> Tensor:
    """Every action alike in every state, [S, A]."""
    states, actions = mdp.size
    return torch.full((states, actions), 1.0 / actions, dtype=torch.float64)


def steps_under(mdp: TabularMDP, policy: Tensor) -> tuple[Tensor, Tensor]:
    """P [S, S], probability of the next state, and r [S], mean reward, under the policy; 0 in terminal states."""
    check_policy(mdp, policy)
    return torch.einsum("sa,sat->st", policy, mdp.transition), (policy * mdp.mean_reward).sum(-1)


def state_values(mdp: TabularMDP, policy: Tensor) -> Tensor:
    """V = (I - gamma P)^-1 r, [S]; 0 in terminal states.

    InputError where gamma is 1 and some state's sessions never end.
    """
    step, reward = steps_under(mdp, policy)
    return torch.linalg.solve(_system(mdp, step), reward)


def action_values(mdp: TabularMDP, policy: Tensor) -> Tensor:
    """Q(s, a) = r(s, a) + gamma sum_s' P(s'|s, a) V(s'), [S, A]."""
    return look_ahead(mdp, state_values(mdp, policy))


def look_ahead(mdp: TabularMDP, values: Tensor) -> Tensor:
    """r(s, a) + gamma sum_s' P(s'|s, a) values(s'), [S, A]."""
    return mdp.mean_reward + mdp.gamma * mdp.transition @ values


def start_value(mdp: TabularMDP, policy: Tensor) -> Tensor:
    """J, the expected discounted reward of a session, a scalar."""
    return mdp.start @ state_values(mdp, policy)


def visits(mdp: TabularMDP, policy: Tensor) -> Tensor:
    """Expected discounted number of times a session comes to each state, [S].

    Where no state is terminal they sum to 1 / (1 - gamma). With gamma 1 that of a terminal state is the probability
    of ending there.
    """
    step, _ = steps_under(mdp, policy)
    return torch.linalg.solve(_system(mdp, step).T, mdp.start)


def visit_shares(mdp: TabularMDP, policy: Tensor) -> Tensor:
    """d(s) = N(s) / sum N, each state's share of the visits to states that are not terminal, [S]."""
    count = torch.where(mdp.terminal, 0.0, visits(mdp, policy))
    return count / count.sum()


def average_value(mdp: TabularMDP, policy: Tensor) -> Tensor:
    """J_avV = sum_s d(s) V(s), a scalar."""
    return visit_shares(mdp, policy) @ state_values(mdp, policy)


def average_reward(mdp: TabularMDP, policy: Tensor) -> Tensor:
    """J_avR = sum_s d(s) sum_a pi(a|s) r(s, a), reward per step, a scalar."""
    return visit_shares(mdp, policy) @ steps_under(mdp, policy)[1]


def finite_values(mdp: TabularMDP, policy: Tensor, steps: int) -> Tensor:
    """V of sessions that are cut after this many steps, [S]."""
    step, reward = steps_under(mdp, policy)
    values = torch.zeros_like(mdp.start)
    for _ in range(steps):
        values = reward + mdp.gamma * step @ values
    return values


def second_moment_of_weight(mdp: TabularMDP, policy: Tensor, behaviour: Tensor, steps: int) -> Tensor:
    """E[w^2] of a session's weight under the behaviour policy, a scalar; a session that has ended keeps its weight.

    The effective share of the sessions is 1 / E[w^2]. It may overflow to infinity, which is what it then means.
    """
    check_policy(mdp, policy)
    check_policy(mdp, behaviour)
    squared = torch.where(policy > 0, policy**2 / behaviour, 0.0)
    step = torch.einsum("sa,sat->st", squared, mdp.transition)
    ends = mdp.terminal.double()
    moment = torch.ones_like(ends)
    for _ in range(steps):
        moment = step @ moment + ends
    return mdp.start @ moment


@dataclass(frozen=True, eq=False)
class Optimum:
    """values V* [S]; action_values Q* [S, A]; policy [S, A], certain, ties to the lower action."""

    values: Tensor
    action_values: Tensor
    policy: Tensor


def optimal_values(mdp: TabularMDP, precision: float = 1e-12) -> Optimum:
    """The best policy and its values: value iteration until nothing moves, then a solve with the greedy policy.

    InputError where values grow without end (a loop that pays, undiscounted).
    """
    values = torch.zeros_like(mdp.start)
    for _ in range(_LARGEST_NUMBER_OF_SWEEPS):
        better = look_ahead(mdp, values).amax(-1)
        change = float((better - values).abs().amax())
        values = better
        if change <= precision * max(1.0, float(values.abs().amax())):
            break
    else:
        raise InputError("mdp", "its best values grow without end", "give a gamma below 1, or loops that do not pay")
    policy = greedy_policy(look_ahead(mdp, values))
    exact = state_values(mdp, policy)
    return Optimum(exact, look_ahead(mdp, exact), policy)


def greedy_policy(action_values: Tensor, epsilon: float = 0.0) -> Tensor:
    """The best action but for a share `epsilon` of uniform draws; ties (to 1e-9) to the lower action.

    [..., A] -> [..., A]
    """
    near = action_values >= action_values.amax(-1, keepdim=True) - 1e-9
    best = torch.nn.functional.one_hot(near.int().argmax(-1), action_values.shape[-1]).double()
    return (1 - epsilon) * best + epsilon / action_values.shape[-1]


def _system(mdp: TabularMDP, step: Tensor) -> Tensor:
    """I - gamma P, which can be solved."""
    if mdp.gamma == 1.0:
        endless = _endless(mdp, step.detach())
        if len(endless):
            raise InputError(
                "policy",
                f"sessions never end from state {mdp.states[int(endless[0])]}, and gamma is 1",
                "give a gamma below 1, or a policy that comes to an end from everywhere",
            )
    return torch.eye(len(step), dtype=step.dtype) - mdp.gamma * step


def _endless(mdp: TabularMDP, step: Tensor) -> Tensor:
    """States from which no terminal state can be reached, int64 [n]."""
    reached, possible = mdp.terminal.clone(), step > 0
    for _ in range(len(step)):
        wider = reached | (possible & reached).any(-1)
        if bool((wider == reached).all()):
            break
        reached = wider
    return (~reached).nonzero()[:, 0]
