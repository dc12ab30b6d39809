"""Entities: the actors of a story. An entity is a torch module whose methods make the values of variables."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Entity(nn.Module):
    """A module that knows where and in what precision it computes: `.to(device, dtype)` moves all it makes.

    Constants belong into buffers and what is learned into parameters; new tensors are made with `self.like.new_...`.
    """

    like: Tensor
    """Empty, of the entity's floating type and on its device."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("like", torch.empty(0), persistent=False)

    def constant(self, name: str, values: Tensor | float) -> Tensor:
        """Keep a constant as a buffer, or a parameter as itself, under this name."""
        if isinstance(values, nn.Parameter):
            self.register_parameter(name, values)
        else:
            self.register_buffer(name, torch.as_tensor(values), persistent=False)
        return getattr(self, name)
