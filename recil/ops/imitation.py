"""What cloning minimises: the negative log-likelihood of what was shown."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_negative_log_likelihood(log_prob: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean of -log_prob over the entries where `mask` holds, 0 where none does; in nats per item.

    log_prob: [..., K]; mask: bool [..., K]; weight: [..., K] or None. Entries outside the mask have no gradient,
    whatever they hold. Source: Pomerleau (1991), "Efficient training of artificial neural networks for autonomous
    navigation" (imitation as supervised learning).
    """
    if log_prob.shape != mask.shape:
        raise ValueError(f"log_prob {tuple(log_prob.shape)} against mask {tuple(mask.shape)}")
    share = mask.to(log_prob.dtype) if weight is None else torch.where(mask, weight.to(log_prob.dtype), 0.0)
    kept = torch.where(mask, log_prob, 0.0)
    total = share.sum()
    return -(kept * share).sum() / torch.where(total > 0, total, 1.0)


def margin_loss(values: Tensor, action: Tensor, margin: float = 0.8) -> Tensor:
    """max_a [Q(a) + margin 1{a is not the demonstrated one}] - Q(demonstrated), per row, never negative. [...].

    values: [..., A]; action: int64 [...]. 0 exactly where the demonstrated action is better than every other by the
    margin: what no demonstration ever tried is pushed below. Source: Hester et al. (2018), "Deep Q-learning from
    demonstrations".
    """
    if values.shape[:-1] != action.shape:
        raise ValueError(f"margin_loss: values {tuple(values.shape)} against action {tuple(action.shape)}")
    own = values.gather(-1, action[..., None])
    others = torch.ones_like(values).scatter(-1, action[..., None], 0.0)
    return (values + margin * others).amax(-1) - own[..., 0]
