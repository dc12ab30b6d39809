"""Policy gradients of one-step values that are estimated otherwise than by plain importance sampling.

`per_step` of recil.ops.policy_gradient is the plain one. Here: with a reward model beside it (doubly robust, and
ACER's cut ratios), shifted or self-normalised, and with a price on variance. All are surrogates for ascent, except
`variance_penalised_value`, whose own value is the objective.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recil.errors import InputError
from recil.ops.importance import capped


def doubly_robust(
    logits: Tensor, action: Tensor, behaviour_log_prob: Tensor, reward: Tensor, predicted: Tensor
) -> Tensor:
    """w (r - q(a)) log pi(a) + sum_b pi(b) q(b) log pi(b), pi before each log constant: the gradient of DR. [n].

    logits, predicted: [n, A], policy and reward model q; action: int64 [n]; behaviour_log_prob, reward: [n]. Unbiased
    whatever q is. Source: Dudik, Langford & Li (2011), "Doubly robust policy evaluation and learning".
    """
    log_prob, own, ratio = _scored(logits, action, behaviour_log_prob)
    _same("doubly_robust", logits, predicted)
    model = predicted.detach()
    error = reward.detach() - model.gather(-1, action[..., None])[..., 0]
    return ratio * error * own + (log_prob.detach().exp() * model * log_prob).sum(-1)


def truncated_with_correction(
    logits: Tensor, action: Tensor, behaviour: Tensor, reward: Tensor, predicted: Tensor, cap: float
) -> Tensor:
    """min(w, c) r log pi(a) + sum_b pi(b) max(0, 1 - c / w(b)) q(b) log pi(b): ratios are cut, what is cut is modelled.

    logits, predicted: [n, A]; behaviour: probabilities beta, [n, A]; action: int64 [n]; reward [n]. Unbiased where the
    model q is right on the items that are cut, whatever the cap; no weight exceeds it. Returns [n]. Source: Wang et al.
    (2017), "Sample efficient actor-critic with experience replay".
    """
    _same("truncated_with_correction", logits, predicted, behaviour)
    log_prob, own, ratio = _scored(logits, action, behaviour.log().gather(-1, action[..., None])[..., 0])
    pi = log_prob.detach().exp()
    cut = torch.where(pi > 0, pi - cap * behaviour, 0.0).clamp(min=0.0)
    return ratio.clamp(max=cap) * reward.detach() * own + (cut * predicted.detach() * log_prob).sum(-1)


def shifted(log_prob: Tensor, behaviour_log_prob: Tensor, reward: Tensor, baseline: float | Tensor) -> Tensor:
    """w (r - b) log pi, of BanditNet. [n]. b shifts rewards, so that items are not avoided merely for being in the log.

    With b the self-normalised value of the current policy it is, up to a factor, the gradient of SNIPS: see
    `self_normalised`. Source: Joachims, Swaminathan & de Rijke (2018), "Deep learning with logged bandit feedback".
    """
    _same("shifted", log_prob, behaviour_log_prob, reward)
    return (log_prob - behaviour_log_prob).detach().exp() * (reward - baseline).detach() * log_prob


def self_normalised(log_prob: Tensor, behaviour_log_prob: Tensor, reward: Tensor) -> Tensor:
    """n terms whose mean has the gradient of SNIPS, sum w r / sum w, over exactly these n. [n] -> [n].

    d SNIPS = sum w (r - SNIPS) d log pi / sum w.
    """
    weight = (log_prob - behaviour_log_prob).detach().exp()
    value = (weight * reward).sum() / weight.sum()
    return shifted(log_prob, behaviour_log_prob, reward, value) / weight.mean()


def variance_penalised_value(
    log_prob: Tensor, behaviour_log_prob: Tensor, reward: Tensor, penalty: float, cap: float | None = None
) -> Tensor:
    """mean(u) - penalty sqrt(var(u) / n) with u = min(w, cap) r: a lower bound to climb, a scalar.

    All [n], n at least 2; gradient flows through the ratio (none where it is cut). var has n - 1 below. Source:
    Swaminathan & Joachims (2015), "Counterfactual risk minimization: learning from logged bandit feedback" (POEM).
    """
    _same("variance_penalised_value", log_prob, behaviour_log_prob, reward)
    if len(log_prob) < 2 or not penalty >= 0:
        raise InputError(
            "variance_penalised_value", f"{len(log_prob)} terms, penalty {penalty}", "give 2 and 0 or more"
        )
    term = capped(log_prob - behaviour_log_prob, cap).exp() * reward
    variance = term.var()
    # Where all terms are equal there is nothing to pay, and the root has no slope.
    root = torch.where(variance > 0, variance, 1.0).sqrt() * (variance > 0)
    return term.mean() - penalty / math.sqrt(len(term)) * root


def _scored(logits: Tensor, action: Tensor, behaviour_log_prob: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log pi [n, A]; of the action [n]; its ratio, without gradient [n]."""
    log_prob = logits.log_softmax(-1)
    own = log_prob.gather(-1, action[..., None])[..., 0]
    return log_prob, own, (own - behaviour_log_prob).detach().exp()


def _same(place: str, *tensors: Tensor) -> None:
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) != 1:
        raise InputError(place, f"shapes differ: {sorted(shapes)}", "give tensors of one shape")
