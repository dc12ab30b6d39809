"""Functions of single numbers whose rounding does not depend on where in a tensor the number stands."""

from __future__ import annotations

import torch
from torch import Tensor


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), with the same last bit in a batch of one and in a batch of thousands.

    torch's own rounds otherwise in the remainder of a vectorised loop, and users would depend on their batch by it.
    """
    if x.requires_grad:  # beyond 88 the exponential is infinite: fine for the value, not for its gradient
        x = x.clamp(min=-80.0)
    return 1 / (1 + torch.exp(-x))
