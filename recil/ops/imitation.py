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
