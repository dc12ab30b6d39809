"""Policy gradient: value and reward averaged over visits as objectives, climbed by sampled and by exact gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

from recil.claims.claim import Claim, Column, Measured
from recil.claims.studies.policy_gradient_page import OBJECTIVES, charts, points
from recil.exact import solve
from recil.exact.episodes import Episodes, sample_episodes
from recil.exact.gradient import gradient_by_autograd, gradient_by_theorem
from recil.exact.worlds import random_walk, recoverable_chain, small_recommender
from recil.ops.policy_gradient import per_step
from recil.ops.returns import rewards_to_go
from recil.random import Streams

_OBJECTIVES = dict(zip(OBJECTIVES, (solve.start_value, solve.average_value, solve.average_reward), strict=True))
_WALK_SHARES = (1 / 9, 2 / 9, 3 / 9, 2 / 9, 1 / 9)  # in closed form, of five states and a fair coin
_COUNTS = (10, 30, 100, 300, 1000, 3000)
_APART = 1 << 20  # between seeds: each step of an ascent has a seed of its own
_ROUNDING = 1e-9
_FEW = 100  # sessions: with fewer, the ratio of two sums is biased


@dataclass(frozen=True)
class Settings:
    """iterations: steps of the ascent; steps: alpha of J, J_avV and J_avR; sessions: behind each's sampled gradients.

    counted  the most sessions that visits and single gradients are estimated from
    runs     independent estimates whose mean error is one seed's figure
    """

    iterations: int = 60
    steps: tuple[float, float, float] = (5.0, 5.0, 50.0)
    sessions: tuple[int, int, int] = (2000, 8000, 2000)
    counted: int = 3000
    runs: int = 20


def _measure(settings: Settings, part: str, seed: int) -> Mapping[str, Measured]:
    if part in _OBJECTIVES:
        return _sampled(settings, part, seed)
    return _visits(settings, seed) if part == "visits" else _exact(settings)


# Undiscounted, so that J is clicks per session, and d(s) is counted as it is written: N(s) / sum N.
_WORLD = small_recommender(gamma=1.0)


def _ascent(settings: Settings, name: str, gradient: Callable[[Tensor, int], Tensor]) -> Measured:
    """theta <- theta + alpha grad, from the uniform policy; what it came to is solved exactly at every step."""
    objective, alpha = _OBJECTIVES[name], dict(zip(_OBJECTIVES, settings.steps, strict=True))[name]
    logits = torch.zeros(_WORLD.size, dtype=torch.float64)
    begun, goal = objective(_WORLD, logits.softmax(-1)), objective(_WORLD, _best_policies()[name])
    gained, clicks = [], []
    for iteration in range(settings.iterations + 1):
        if iteration:
            logits = logits + alpha * gradient(logits, iteration)
        policy = logits.softmax(-1)
        gained.append((iteration, float((objective(_WORLD, policy) - begun) / (goal - begun))))
        clicks.append((iteration, float(solve.start_value(_WORLD, policy))))
    values = _objectives(policy) | {"gained": gained[-1][1]}
    return Measured(values, {"gained_by_step": gained, "clicks_by_step": clicks}, {"objective": name})


def _objectives(policy: Tensor) -> dict[str, float]:
    values = {name: float(objective(_WORLD, policy)) for name, objective in _OBJECTIVES.items()}
    return values | {"slates": values["J"] / values["J_avR"]}


def _sampled(settings: Settings, name: str, seed: int) -> Mapping[str, Measured]:
    first, count = seed * _APART, dict(zip(_OBJECTIVES, settings.sessions, strict=True))[name]

    def gradient(logits: Tensor, iteration: int) -> Tensor:
        sessions = sample_episodes(_WORLD, logits.softmax(-1), 1, count, first + iteration)
        return sampled_gradient(sessions, logits, name)[0]

    arm = _ascent(settings, name, gradient)
    logits = torch.zeros(_WORLD.size, dtype=torch.float64)
    truth = exact_gradient(logits, name)
    counts = [count for count in _counts(settings) if count >= _FEW]
    sessions = sample_episodes(_WORLD, logits.softmax(-1), settings.runs, counts[-1], first)
    errors = []
    for count in counts:
        apart = sampled_gradient(sessions.first(count), logits, name) - truth
        errors.append((count, float(apart.square().sum((1, 2)).mean().sqrt() / truth.norm())))
    values = dict(arm.values) | {"slope": _slope(errors)}
    return {f"{name}, sampled": Measured(values, dict(arm.curves) | {"gradient_error": errors}, arm.factors)}


def _counts(settings: Settings) -> list[int]:
    return [count for count in _COUNTS if count <= settings.counted]


def sampled_gradient(sessions: Episodes, logits: Tensor, name: str) -> Tensor:
    """An objective's gradient in the logits, of each run's sessions under softmax(logits), undiscounted. [R, S, A]

    sum_s d(s) r(s) = E[sum_t r_t] / E[T]; and as sum_t V(s_t) has the mean of sum_t G_t = sum_t (t + 1) r_t,
    sum_s d(s) V(s) = E[sum_t (t + 1) r_t] / E[T]. The gradient of a ratio E[X] / E[T] is that of E[X] - c E[T], over
    E[T], where c is the ratio: each step costs what steps bring in the mean. Baseline: the mean over sessions, by step.
    """
    happened = sessions.happened
    worth = torch.where(happened, sessions.reward, 0.0)
    if name == "J_avV":
        worth = worth * torch.arange(1, worth.shape[2] + 1)
    per = torch.full((len(worth),), worth.shape[1]) if name == "J" else sessions.length.sum(1)
    cost = torch.zeros(len(worth)) if name == "J" else worth.sum((1, 2)) / per
    net = (worth - cost[:, None, None]).flatten(0, 1)
    to_go = rewards_to_go(net, happened.flatten(0, 1)).view(worth.shape)
    usual = to_go.sum(1, keepdim=True) / happened.sum(1, keepdim=True).clamp(min=1)
    leaf = logits.detach().repeat(len(worth), 1, 1).requires_grad_()
    run = torch.arange(len(worth))[:, None, None]
    log_prob = leaf.log_softmax(-1)[run, sessions.state[..., :-1], sessions.action]
    terms = per_step(log_prob, happened.double(), to_go - usual)
    return torch.autograd.grad((terms.sum((1, 2)) / per).sum(), leaf)[0]


def exact_gradient(logits: Tensor, name: str) -> Tensor:
    """By differentiation through the linear solve, [S, A]."""
    leaf = logits.detach().requires_grad_()
    return torch.autograd.grad(_OBJECTIVES[name](_WORLD, leaf.softmax(-1)), leaf)[0]


def _slope(errors: list[tuple[int, float]]) -> float:
    """Of the errors over sessions, both in logarithms: -1/2 where errors fall with the root."""
    sessions, error = np.log(np.array(errors)).T
    return float(np.polyfit(sessions, error, 1)[0])


def _visits(settings: Settings, seed: int) -> Mapping[str, Measured]:
    arms = {}
    for name, mdp in (("random walk", random_walk()), ("recommender", _WORLD)):
        policy = solve.uniform_policy(mdp)
        truth = solve.visit_shares(mdp, policy)
        sessions = sample_episodes(mdp, policy, settings.runs, _counts(settings)[-1], seed * _APART)
        errors = []
        for count in _counts(settings):
            apart = counted_shares(sessions.first(count)) - truth
            errors.append((count, float(apart.abs().sum(-1).mean() / 2)))
        values = {"visits_off": errors[-1][1], "slope": _slope(errors)}
        arms[f"visits, {name}"] = Measured(values, {"visits_error": errors}, {"world": name})
    return arms


def counted_shares(sessions: Episodes) -> Tensor:
    """d(s) = N(s) / sum N, of the states in which something was done, [R, S]."""
    runs = sessions.shape[0]
    happened = sessions.happened.flatten(1)
    place = torch.where(happened, sessions.state[..., :-1].flatten(1), 0)
    count = torch.zeros(runs, sessions.states, dtype=torch.float64).scatter_add_(1, place, happened.double())
    return count / count.sum(-1, keepdim=True)


def _exact(settings: Settings) -> Mapping[str, Measured]:
    """The ascents by exact gradients, the best policies, and what must hold of any policy."""
    arms = {}
    for name in _OBJECTIVES:
        arms[f"{name}, exact"] = _ascent(settings, name, lambda logits, _, of=name: exact_gradient(logits, of))  # type: ignore[misc]
    best = solve.start_value(_WORLD, solve.optimal_values(_WORLD).policy)
    for name, policy in _best_policies().items():
        lost = float(best - solve.start_value(_WORLD, policy))
        arms[f"best for {name}"] = Measured(_objectives(policy) | {"lost": lost})
    return arms | {"identities": Measured(_identities())}


@cache
def _best_policies() -> dict[str, Tensor]:
    """The best for each objective among the 216 certain policies that treat the three topics alike, [S, A]."""
    found: dict[str, tuple[float, Tensor]] = {}
    for offsets in product(range(6), repeat=3):
        # An item of the topic so many places on; of the better items, or of the worse.
        items = [(topic + offset % 3) % 3 + 3 * (offset // 3) for topic in range(3) for offset in offsets]
        policy = torch.nn.functional.one_hot(torch.tensor([*items, 0]), _WORLD.size[1]).double()
        for name, objective in _OBJECTIVES.items():
            worth = float(objective(_WORLD, policy))
            if name not in found or worth > found[name][0] + _ROUNDING:
                found[name] = (worth, policy)
    return {name: policy for name, (_, policy) in found.items()}


def _identities() -> dict[str, float]:
    """How far identities are off: the walk's visits in closed form, and two of twenty random policies."""
    walk, endless = random_walk(), replace(recoverable_chain(3).mdp, gamma=0.9)
    shares = solve.visit_shares(walk, solve.uniform_policy(walk))[1:-1]
    off = {"walk": float((shares - torch.tensor(_WALK_SHARES, dtype=torch.float64)).abs().max())}
    for number in range(20):
        generator = Streams(number).generator("policy")
        policy = torch.randn(endless.size, generator=generator, dtype=torch.float64).softmax(-1)
        gap = solve.average_reward(endless, policy) - (1 - endless.gamma) * solve.start_value(endless, policy)
        logits = torch.randn(_WORLD.size, generator=generator, dtype=torch.float64)
        apart = gradient_by_theorem(_WORLD, logits) - gradient_by_autograd(_WORLD, logits)
        for name, found in (("endless", gap), ("theorem", apart)):
            off[name] = max(off.get(name, 0.0), float(found.abs().max()))
    return off


CLAIM = Claim(
    name="policy_gradient",
    title="A policy can be improved directly, by the gradient of an objective",
    says="theta <- theta + alpha grad J(theta), with the value averaged over visits, J_avV = sum d(s) V(s), or the"
    " reward, J_avR = sum d(s) sum pi(a|s) R(s, a), where d(s) = N(s) / sum N is the share of visits. Sessions are"
    " enough to estimate the gradient; whether the objective is the one that was meant is another matter.",
    set_up="A small recommender's world (three topics, six items, bored users who leave), undiscounted, and a softmax"
    " policy with a logit for each state and item, from the uniform one. Exact gradients come from differentiation"
    " through the linear solves. Sampled ones are score functions of fresh sessions at each step, with their mean by"
    " step of the session as baseline; J_avR and J_avV are E[sum r] and E[sum (t + 1) r] over E[T], so that each slate"
    " costs what slates bring in the mean. J is the value from the start, clicks per session. What an ascent came to is"
    " solved exactly at each step. An objective's best policy is found among the 216 certain policies that treat topics"
    " alike, and J's by value iteration over all. Visits are counted under the uniform policy, there and in the random"
    " walk. A seed's error is a mean over runs.",
    not_shown=(
        "That the best policy for J_avV and for J is the same in every world: it is so in this one.",
        "How to learn from few sessions: each step here has as many as it takes, and no critic.",
        "Anything of off-policy gradients: the sessions are the policy's own.",
    ),
    settings=Settings,
    parts=lambda settings: (*_OBJECTIVES, "visits", "exact"),
    measure=_measure,
    points=points,
    columns=(
        Column("J", "J, clicks per session"),
        Column("J_avV", "J_avV"),
        Column("J_avR", "J_avR, clicks per slate", 4),
        Column("slates", "slates per session", 2),
        Column("gained", "share gained"),
        Column("slope", "exponent of the error"),
    ),
    charts=charts,
    exact=lambda settings: ("exact",),
)
