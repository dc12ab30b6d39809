"""Off-policy policy gradients as surrogates: the gradient of a surrogate's mean is the estimator, its value is not.

In every function only the log-probability that a gradient belongs to is differentiated; ratios, caps, the top-K factor
and returns are constants. Ratios are those of the LOGGED action, in the numerator and in the denominator.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recil.ops.importance import capped
from recil.ops.returns import discounts


def _same_shape(*tensors: Tensor) -> None:
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) != 1:
        raise ValueError(f"policy_gradient: shapes differ: {sorted(shapes)}")


def _discounted(reward: Tensor, discount: float) -> Tensor:
    return discounts(reward.shape[-1], discount, reward) * reward.detach()


def top_k_factor(log_prob: Tensor, k: int) -> Tensor:
    """K (1 - pi)^(K - 1), without gradient: what one of K slots adds to the chance that the item is in the slate.

    log_prob: [...], of the logged item. It stands for a slate drawn as K independent draws from pi. Where log_prob is
    the exact probability of a slot given the slots before it (Plackett-Luce), the slate is already accounted for and
    k = 1 is right. Chen et al. 2019, "Top-K off-policy correction for a REINFORCE recommender system".
    """
    if k < 1:
        raise ValueError(f"top_k_factor: k is {k}, wanted 1 or more")
    return k * (-torch.expm1(log_prob.detach())) ** (k - 1)


def per_step_weight(log_prob: Tensor, behaviour_log_prob: Tensor, cap: float | None = None, top_k: int = 1) -> Tensor:
    """min(pi / beta, cap) * K (1 - pi)^(K - 1) of the logged actions, without gradient. [...] -> [...]."""
    _same_shape(log_prob, behaviour_log_prob)
    log_ratio = log_prob.detach() - behaviour_log_prob.detach()
    return capped(log_ratio, cap).exp() * top_k_factor(log_prob, top_k)


def per_step(log_prob: Tensor, weight: Tensor, credit: Tensor) -> Tensor:
    """weight * credit * log pi, term by term. [...] -> [...].

    weight: from `per_step_weight` (ones: the uncorrected, reward-weighted cloning). credit: return or advantage. First
    order in the correction: biased where sessions are longer than a step, with far less variance. Chen et al. 2019.
    """
    _same_shape(log_prob, weight, credit)
    return weight.detach() * credit.detach() * log_prob


def per_decision(log_prob: Tensor, behaviour_log_prob: Tensor, reward: Tensor, discount: float = 1.0) -> Tensor:
    """sum_k gamma^k w_{0:k} r_k sum_{t<=k} log pi_t, the unbiased gradient of per-decision importance sampling.

    All [B, T], log-probabilities and rewards 0 at padding; returns [B]. Precup, Sutton & Singh 2000.
    """
    _same_shape(log_prob, behaviour_log_prob, reward)
    ratio = (log_prob - behaviour_log_prob).detach().cumsum(-1).exp()
    return (ratio * _discounted(reward, discount) * log_prob.cumsum(-1)).sum(-1)


def trajectory(log_prob: Tensor, behaviour_log_prob: Tensor, reward: Tensor, discount: float = 1.0) -> Tensor:
    """w_{0:T-1} sum_t R_t log pi_t with R_t = sum_{k>=t} gamma^k r_k: unbiased, with the largest variance.

    All [B, T], log-probabilities and rewards 0 at padding; returns [B].
    """
    _same_shape(log_prob, behaviour_log_prob, reward)
    ratio = (log_prob - behaviour_log_prob).detach().sum(-1, keepdim=True).exp()
    to_go = _discounted(reward, discount).flip(-1).cumsum(-1).flip(-1)
    return (ratio * to_go * log_prob).sum(-1)


def kl_divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """KL(pi || reference), exact over the catalogue. logits [..., A], reference [..., A] (no gradient) -> [...]."""
    _same_shape(logits, reference)
    log_prob, log_reference = logits.log_softmax(-1), reference.detach().log_softmax(-1)
    return (log_prob.exp() * (log_prob - log_reference)).sum(-1)


def entropy(logits: Tensor) -> Tensor:
    """Entropy of softmax(logits) in nats. [..., A] -> [...]."""
    log_prob = logits.log_softmax(-1)
    return -(log_prob.exp() * log_prob).sum(-1)


def sampled_kl(log_prob: Tensor, behaviour_log_prob: Tensor) -> Tensor:
    """rho - 1 - log rho of actions drawn from beta: unbiased for KL(beta || pi) and never negative. [...] -> [...]."""
    _same_shape(log_prob, behaviour_log_prob)
    log_ratio = (log_prob - behaviour_log_prob).detach()
    return log_ratio.exp() - 1 - log_ratio
