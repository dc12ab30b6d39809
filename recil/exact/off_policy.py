"""Off-policy gradients of tables: what an estimator comes to on given sessions, or over all sessions there can be.

An estimator is a surrogate of recil.ops.policy_gradient: its gradient in the policy's log-probabilities is the
estimate. Here a policy is softmax(logits), [S, A], and gradients are by its logits, flat, [S * A].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from recil.exact.enumerate import Enumeration
from recil.exact.episodes import Episodes, episodes_of
from recil.exact.mdp import TabularMDP
from recil.exact.solve import finite_values
from recil.ops import policy_gradient
from recil.ops.importance import cumulative_log_weight
from recil.ops.returns import rewards_to_go

# (log pi, log beta, reward, happened), all [R, E, T] with 0 at padding -> a surrogate for each session, [R, E].
Form = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class Moments(NamedTuple):
    """Of one session's estimate, relative to the exact gradient.

    bias     length of (mean - exact) over that of the exact gradient
    spread   total variance over the exact gradient's squared length: sessions whose mean has as much noise as signal
    """

    bias: float
    spread: float


def trajectory(log_prob: Tensor, behaviour: Tensor, reward: Tensor, happened: Tensor) -> Tensor:
    """Every score times the session's whole weight: unbiased."""
    return policy_gradient.trajectory(log_prob, behaviour, reward)


def per_decision(log_prob: Tensor, behaviour: Tensor, reward: Tensor, happened: Tensor) -> Tensor:
    """Every reward times the weight of the steps up to it: unbiased."""
    return policy_gradient.per_decision(log_prob, behaviour, reward)


def per_step(cap: float | None = None, corrected: bool = True, normalised: bool = False) -> Form:
    """Every score times its own step's ratio and what followed.

    cap: largest ratio; corrected: False for ratios of one, reward-weighted cloning; normalised: ratios over their mean,
    and returns less their weighted mean, at this step of a run.
    """

    def form(log_prob: Tensor, behaviour: Tensor, reward: Tensor, happened: Tensor) -> Tensor:
        weight = policy_gradient.per_step_weight(log_prob, behaviour if corrected else log_prob.detach(), cap)
        to_go = rewards_to_go(reward.flatten(0, 1), happened.flatten(0, 1)).reshape(reward.shape)
        if normalised:
            total = (weight * happened).sum(1, True).clamp(min=torch.finfo(weight.dtype).tiny)
            to_go = (to_go - (weight * to_go * happened).sum(1, True) / total) * happened
            weight = weight * happened.sum(1, True) / total
        return policy_gradient.per_step(log_prob, weight, to_go).sum(-1)

    return form


def normalised(form: Form, whole: bool) -> Form:
    """Weights over their mean in a run, rewards less their weighted mean: the gradient of the self-normalised estimate.

    whole: by the weights of whole sessions; else step by step. What has ended keeps its weight and is paid 0. Both
    forms above are linear in rewards, so that a reward over a mean weight is a weight over it.
    """

    def surrogate(log_prob: Tensor, behaviour: Tensor, reward: Tensor, happened: Tensor) -> Tensor:
        log_ratio = (log_prob.detach() - behaviour).flatten(0, 1)
        weight = cumulative_log_weight(log_ratio, happened.flatten(0, 1)).exp().reshape(reward.shape)
        weight = weight[..., -1:] if whole else weight
        mean = weight.mean(1, keepdim=True)
        centred = reward - (weight * reward).mean(1, keepdim=True) / mean
        return form(log_prob, behaviour, centred / mean, happened)

    return surrogate


def cut(episodes: Episodes, steps: int) -> Episodes:
    """The first steps of each session. Sessions that went on count as cut."""
    return replace(
        episodes,
        state=episodes.state[..., : steps + 1],
        action=episodes.action[..., :steps],
        reward=episodes.reward[..., :steps],
        length=episodes.length.clamp(max=steps),
        terminated=episodes.terminated & (episodes.length <= steps),
    )


def estimates(form: Form, episodes: Episodes, target: Tensor, behaviour: Tensor) -> Tensor:
    """The mean over its sessions of each run's estimates, [R, S * A]. target, behaviour: probabilities, [S, A]."""
    sessions = episodes.shape[1]
    return _scores(_coefficients(form, episodes, target, behaviour).flatten(1), episodes, target) / sessions


def exact_gradient(mdp: TabularMDP, target: Tensor, steps: int) -> Tensor:
    """Of the value of sessions cut after so many steps, by differentiation through the sum over steps, [S * A]."""
    leaf = target.log().requires_grad_()
    with torch.enable_grad():
        value = mdp.start @ finite_values(mdp, leaf.softmax(-1), steps)
        return torch.autograd.grad(value, leaf)[0].flatten()


def exact_moments(
    form: Form, every: Enumeration, mdp: TabularMDP, target: Tensor, behaviour: Tensor, steps: int
) -> Moments:
    """Over all sessions under the behaviour policy, listed for at least so many steps; rewards undiscounted."""
    episodes = cut(episodes_of(every.sessions, *mdp.size), steps)
    coefficient = _coefficients(form, episodes, target, behaviour)[0]
    each, exact = _scores(coefficient, episodes, target), exact_gradient(mdp, target, steps)
    mean = every.probability @ each
    spread = every.probability @ (each - mean).square().sum(-1)
    return Moments(float((mean - exact).norm() / exact.norm()), float(spread / exact.square().sum()))


def _coefficients(form: Form, episodes: Episodes, target: Tensor, behaviour: Tensor) -> Tensor:
    """What the score of each step, grad log pi(a_t|s_t), is multiplied by, [R, E, T]."""
    state, happened = episodes.state[..., :-1].clamp(min=0), episodes.happened
    action = episodes.action.clamp(min=0)
    own, logged = (torch.where(happened, policy.log()[state, action], 0.0) for policy in (target, behaviour))
    leaf = own.requires_grad_()
    with torch.enable_grad():
        reward = torch.where(happened, episodes.reward, 0.0)
        return torch.autograd.grad(form(leaf, logged, reward, happened).sum(), leaf)[0] * happened


def _scores(coefficient: Tensor, episodes: Episodes, target: Tensor) -> Tensor:
    """sum of coefficient * grad log pi(a|s) by the logits, [N, S * A], in as many groups as coefficient [N, -1] has."""
    states, actions = target.shape
    state, action = (
        part.clamp(min=0).reshape(len(coefficient), -1) for part in (episodes.state[..., :-1], episodes.action)
    )
    taken = coefficient.new_zeros(len(coefficient), states * actions)
    table = taken.scatter_add_(1, state * actions + action, coefficient).unflatten(1, (states, actions))
    return (table - table.sum(-1, keepdim=True) * target).flatten(1)
