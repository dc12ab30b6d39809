"""The log-probability of what was observed, field by field and step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributions import Distribution


@dataclass(frozen=True)
class LogProb:
    """Log-probability of an observed trajectory.

    fields         name -> [T, B]
    distributions  name -> the distributions that the observed values were scored under, step by step
    latent         name -> [T, B, ...], values that were drawn because nothing was observed; they are not scored
    """

    fields: Mapping[str, Tensor]
    distributions: Mapping[str, list[Distribution]]
    latent: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def by_step(self) -> Tensor:
        """[T, B], summed over fields."""
        return torch.stack(list(self.fields.values())).sum(0)

    @property
    def accumulated(self) -> Tensor:
        """[T, B]: of everything up to and including each step."""
        return self.by_step.cumsum(0)

    @property
    def total(self) -> Tensor:
        """[B]."""
        return self.by_step.sum(0)


def per_session(score: Tensor) -> Tensor:
    """[B]: a log-probability summed over all but the batch."""
    return score.flatten(1).sum(1) if score.ndim > 1 else score
