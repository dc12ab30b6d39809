"""Adversarial imitation: what a discriminator is fitted by, and the rewards that can be read off it.

A discriminator's logit says how much likelier a pair comes from the demonstrator than from the learner. With the best
discriminator it is log p - log q, and what a policy gradient on each reward descends is known. The SIGN matters: where
sessions can end, a reward that is never negative pays for staying and one that is never positive pays for leaving,
whatever the demonstrator did. With sessions of one length it changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def log_odds(logit: Tensor) -> Tensor:
    """log D - log (1 - D), of either sign. [...] -> [...]. Its policy gradient is -grad KL(q || p): it seeks modes.

    Source: Fu, Luo & Levine (2018), "Learning robust rewards with adversarial inverse reinforcement learning".
    """
    return logit


def log_d(logit: Tensor) -> Tensor:
    """log D, never positive: it pays for sessions that end soon. [...] -> [...].

    Source: Goodfellow et al. (2014), "Generative adversarial nets", their advice for generators.
    """
    return F.logsigmoid(logit)


def minus_log_one_minus_d(logit: Tensor) -> Tensor:
    """-log (1 - D), never negative: it pays for sessions that go on. [...] -> [...]. Policy gradient: -2 grad JSD.

    Source: Ho & Ermon (2016), "Generative adversarial imitation learning".
    """
    return F.softplus(logit)


def discriminator_loss(demonstrated: Tensor, acted: Tensor) -> Tensor:
    """-mean log D of what was demonstrated - mean log (1 - D) of what the learner did; log 4 where D knows nothing.

    demonstrated, acted: logits [n], [m]. The mean of a side without pairs counts as 0.
    """
    if demonstrated.ndim != 1 or acted.ndim != 1:
        raise ValueError(
            f"discriminator_loss: logits are {tuple(demonstrated.shape)} and {tuple(acted.shape)}, not 1-d"
        )
    sides = (F.softplus(-demonstrated), F.softplus(acted))
    return torch.stack([side.sum() / max(len(side), 1) for side in sides]).sum()
