"""Off-policy gradients: the bias and the variance of each correction, and the policies that they lead to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from recil.claims.claim import Claim, Column, Measured
from recil.claims.studies.off_policy_page import LOOP, TOP_K, charts, points
from recil.exact import off_policy
from recil.exact.enumerate import Enumeration, enumerate_sessions
from recil.exact.episodes import Episodes, sample_episodes
from recil.exact.mdp import TabularMDP
from recil.exact.policy import TabularPolicy
from recil.exact.solve import optimal_values, start_value, uniform_policy
from recil.exact.world import TabularWorld
from recil.exact.worlds import erring, infinite_variance_loop, logging_bias_bandit, recoverable_chain, small_recommender
from recil.ops import policy_gradient
from recil.policies.protocol import log_prob_of_sessions

_WORTH = torch.tensor([10.0, 9.0, *[1.0] * 8], dtype=torch.float64)
_ASCENT, _RATE = 600, 0.05


@dataclass(frozen=True)
class Settings:
    """behaviour: how often (in 100) the logging policy shows the chain's right item; target: the policy learned.

    horizons, targets  the chain's; targets at the middle horizon
    cap                of a step's ratio
    replicates         independent logs of the recommender for each seed; sessions: in each of them
    distance           share (in 100) of the best policy in the recommender's target, the rest of it uniform as the log
    """

    horizons: tuple[int, ...] = (1, 2, 4, 8, 12)
    behaviour: int = 20
    target: int = 60
    targets: tuple[int, ...] = (20, 30, 40, 50, 60, 70, 80)
    cap: float = 2.0
    replicates: int = 40
    sessions: int = 1000
    recommender_horizons: tuple[int, ...] = (1, 2, 4, 8, 16)
    distance: int = 60
    distances: tuple[int, ...] = (20, 40, 60, 80)

    @property
    def forms(self) -> dict[str, off_policy.Form]:
        return {
            "trajectory": off_policy.trajectory,
            "per decision": off_policy.per_decision,
            "per step": off_policy.per_step(),
            "per step, capped": off_policy.per_step(self.cap),
            "uncorrected": off_policy.per_step(corrected=False),
        }

    @property
    def normalised(self) -> dict[str, off_policy.Form]:
        return {
            "trajectory, normalised": off_policy.normalised(off_policy.trajectory, whole=True),
            "per decision, normalised": off_policy.normalised(off_policy.per_decision, whole=False),
            "per step, normalised": off_policy.per_step(normalised=True),
        }


def _parts(settings: Settings) -> tuple[str, ...]:
    return (*_exact(settings), "recommender")


def _exact(settings: Settings) -> tuple[str, ...]:
    return ("chain", "loop", "bandit")


def _measure(settings: Settings, part: str, seed: int) -> Mapping[str, Measured]:
    return {"chain": _chain, "loop": _loop, "bandit": _bandit, "recommender": _recommender}[part](settings, seed)


def _chain(settings: Settings, seed: int) -> Mapping[str, Measured]:
    mdp, expert = recoverable_chain()
    logged = erring(expert, 1 - settings.behaviour / 100)
    every = _listed(mdp, max(settings.horizons), logged)

    def moments(form: off_policy.Form, right: int, steps: int) -> off_policy.Moments:
        return off_policy.exact_moments(form, every, mdp, erring(expert, 1 - right / 100), logged, steps)

    arms, middle = {}, settings.horizons[len(settings.horizons) // 2]
    for name, form in settings.forms.items():
        rows = {
            "horizon": [(steps, moments(form, settings.target, steps)) for steps in settings.horizons],
            "target": [(right, moments(form, right, middle)) for right in settings.targets],
        }
        curves = {f"bias_by_{over}": [(at, one.bias) for at, one in row] for over, row in rows.items()}
        curves |= {f"needed_by_{over}": [(at, one.spread) for at, one in row] for over, row in rows.items()}
        last = rows["horizon"][-1][1]
        arms[name] = Measured({"bias": last.bias, "log_needed": math.log10(last.spread)}, curves)
    return arms


def _listed(mdp: TabularMDP, steps: int, policy: Tensor) -> Enumeration:
    world: Any = TabularWorld(mdp, steps)
    return enumerate_sessions(world, TabularPolicy(policy))


def _loop(settings: Settings, seed: int) -> Mapping[str, Measured]:
    mdp, behaviour, target = infinite_variance_loop()
    curves: dict[str, list[tuple[int, float]]] = {"weighted_mean": [], "weighted_square": []}
    for steps in LOOP:
        every = _listed(mdp, steps, behaviour)
        own, logged = (log_prob_of_sessions(TabularPolicy(table), every.sessions) for table in (target, behaviour))
        paid = (own - logged).sum((1, 2)).exp() * every.sessions.reward.sum((1, 2))
        curves["weighted_mean"].append((steps, every.mean(paid)))
        curves["weighted_square"].append((steps, every.mean(paid.square())))
    return {"loop": Measured({}, curves)}


def _ascend(worth: Tensor, shown: Tensor, corrected: bool = True, **how: Any) -> tuple[Tensor, list[tuple[int, float]]]:
    """Where mirror ascent along the expected step of the per-step form comes to rest, [A]; values on the way."""
    policy, path = shown, []
    for step in range(_ASCENT):
        if step <= 150 and step % 3 == 0:
            path.append((step, float(policy @ worth)))
        logits = policy.log().requires_grad_()
        log_prob = logits.log_softmax(-1)
        weight = policy_gradient.per_step_weight(log_prob, shown.log() if corrected else log_prob, **how)
        surrogate = (shown * policy_gradient.per_step(log_prob, weight, worth)).sum()
        gradient = torch.autograd.grad(surrogate, logits)[0]
        policy = (policy * (_RATE * gradient / policy).exp()).clamp(min=1e-30)
        policy = policy / policy.sum()
    return policy, path


def _bandit(settings: Settings, seed: int) -> Mapping[str, Measured]:
    mdp, logged = logging_bias_bandit()
    item, uniform = torch.arange(1, 11).double(), torch.full_like(_WORTH, 0.1)
    ways: dict[str, dict[str, Any]] = {
        "uncorrected": {"corrected": False},
        "cap e^3": {"cap": math.e**3},
        "corrected": {},
    }
    arms = {}
    for name, how in ways.items():
        policy, path = _ascend(mdp.mean_reward[0], logged[0], **how)
        off = float((policy - item * (11 - item) / 220).abs().max())
        values = {"value": float(start_value(mdp, policy.repeat(2, 1))), "off_cloned": off}
        arms[f"bandit, {name}"] = Measured(values, {"value_by_step": path})
    for k, rest in TOP_K.items():
        policy, best = _ascend(_WORTH, uniform, top_k=k)[0], torch.eye(10, dtype=torch.float64)[0]
        slate, alone = (float(_WORTH @ (1 - (1 - each) ** k)) for each in (policy, best))
        off = max(abs(float(policy[place]) - share) for place, share in enumerate(rest))
        arms[f"slates of {k}, top-K"] = Measured({"value": slate, "value_of_best_item": alone, "off_rest": off})
    return arms


def _recommender(settings: Settings, seed: int) -> Mapping[str, Measured]:
    mdp, longest = replace(small_recommender(), gamma=1.0), max(settings.recommender_horizons)
    logged, best = uniform_policy(mdp), optimal_values(small_recommender()).policy
    drawn = sample_episodes(mdp, logged, settings.replicates, settings.sessions, seed, longest)
    places = {
        "horizon": [(steps, steps, settings.distance) for steps in settings.recommender_horizons],
        "distance": [(share, longest, share) for share in settings.distances],
    }
    arms = {}
    for name, form in (settings.forms | settings.normalised).items():
        curves: dict[str, list[tuple[int, float]]] = {}
        for over, rows in places.items():
            for at, steps, share in rows:
                target = (1 - share / 100) * logged + share / 100 * best
                found = _errors(form, off_policy.cut(drawn, steps), mdp, target, logged)
                curves.setdefault(f"cosine_by_{over}", []).append((at, found["cosine"]))
                if (over, at) == ("horizon", longest):
                    arms[f"recommender, {name}"] = Measured(found, curves)
    return arms


def _errors(
    form: off_policy.Form, drawn: Episodes, mdp: TabularMDP, target: Tensor, logged: Tensor
) -> dict[str, float]:
    """Of logs' estimates against the exact gradient: mean cosine, and log10 of the relative root mean squared error."""
    estimate = off_policy.estimates(form, drawn, target, logged)
    exact = off_policy.exact_gradient(mdp, target, drawn.shape[2])
    error = (estimate - exact).square().sum(-1).mean().sqrt() / exact.norm()
    cosine = torch.nn.functional.cosine_similarity(estimate, exact[None], -1)
    return {"cosine": float(cosine.mean()), "log_error": float(error.log10())}


CLAIM = Claim(
    name="off_policy",
    title="Learning from another policy's sessions takes weights, and weights have a price",
    says="Demonstrations come from p(tau) while p_theta(tau) is trained, so that gradients need importance weights."
    " Those of whole trajectories are unbiased, with a variance that grows geometrically in the horizon; ratios of"
    " single steps are biased and affordable; without any correction ascent converges to the wrong policy.",
    set_up="Gradients are by the logits of a softmax table, in the forms of recil.ops.policy_gradient. In a chain (the"
    " right item pays 1 and stays, a wrong one leads off until the right one is shown) all sessions of a logging"
    " policy are listed, so that bias and variance are exact; the target is right more often. Ten items worth 1 to"
    " 10 are shown the more the less they are worth; ascent follows the expected step, by mirror steps, until it"
    " rests. Slates of K are K independent draws of items worth 10, 9, 1 ... 1, and each item counts once. In a"
    " small recommender (three topics, bored users who leave) each seed draws many logs of the uniform policy; the"
    " target is part uniform, part best policy; each log's estimate is held against differentiation through the"
    " sum over steps. No discount.",
    not_shown=(
        "Which form learns best in the end: these are single gradients, and fixed points of expected steps.",
        "That bias is always the better bargain: with sessions enough the unbiased forms win, as their counts say.",
        "Critics, which take off variance, and the pull towards the log that a cap leaves; fitted propensities.",
    ),
    settings=Settings,
    parts=_parts,
    measure=_measure,
    points=points,
    columns=(
        Column("bias", "bias, share of the gradient"),
        Column("log_needed", "sessions needed, log10"),
        Column("cosine", "cosine with the gradient"),
        Column("log_error", "relative error, log10"),
        Column("value", "value at rest"),
    ),
    charts=charts,
    exact=_exact,
)
