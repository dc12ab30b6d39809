"""How unevenly positive numbers are spread, from their sums alone; logarithms scaled so that nothing overflows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# A weight above e**600 is reported as e**600; no verdict lets such an estimate through.
_LARGEST_LOG = 600.0


@dataclass(frozen=True)
class Spread:
    """How unevenly positive numbers are spread, without keeping them: M columns, each scaled by its largest number.

    scale [M] log of the largest number (-inf: all are 0); total, squares [M]: sums of x / e**scale and its square
    """

    scale: Tensor
    total: Tensor
    squares: Tensor

    @staticmethod
    def of(logs: Tensor) -> Spread:
        """logs: [B, M], logarithms of the numbers."""
        scale = logs.amax(0)
        scaled = relative(logs, scale)
        return Spread(scale, scaled.sum(0), scaled.square().sum(0))

    def merge(self, other: Spread) -> Spread:
        scale = torch.maximum(self.scale, other.scale)
        here, there = relative(self.scale, scale), relative(other.scale, scale)
        return Spread(
            scale,
            self.total * here + other.total * there,
            self.squares * here.square() + other.squares * there.square(),
        )

    def widen(self, columns: int) -> Spread:
        """Repeat the last column: an ended session keeps its last weight."""
        return Spread(*(repeat_last(part, columns) for part in (self.scale, self.total, self.squares)))

    @property
    def effective_size(self) -> Tensor:
        """(sum x)**2 / sum x**2, [M]; 0 where every number is 0."""
        return torch.where(self.squares > 0, self.total.square() / self.squares.clamp(min=1e-300), 0.0)

    @property
    def largest_share(self) -> Tensor:
        """The largest number over the sum, [M]: by the choice of the scale the largest is 1. nan where all are 0."""
        return torch.where(self.total > 0, 1.0 / self.total.clamp(min=1e-300), torch.nan)


def relative(logs: Tensor, scale: Tensor) -> Tensor:
    """exp(logs - scale), and 0 for logs of -inf whatever the scale."""
    # A scale of -inf would leave nan where its numbers are all 0.
    return (logs - scale.clamp(min=torch.finfo(scale.dtype).min)).exp()


def log_total(logs: Tensor) -> Tensor:
    """log of the sum of numbers over steps, from their logarithms [B, T] -> [B]; of one step there is none to take."""
    return logs[:, 0] if logs.shape[1] == 1 else torch.logsumexp(logs, 1)


def unscale(scale: Tensor) -> Tensor:
    """e**scale, kept finite."""
    return scale.clamp(max=_LARGEST_LOG).exp()


def repeat_last(values: Tensor, columns: int) -> Tensor:
    missing = columns - values.shape[-1]
    return torch.cat([values, values[..., -1:].expand(*values.shape[:-1], missing)], -1) if missing else values
