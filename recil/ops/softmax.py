"""Draws from a softmax over the whole catalogue whose logits are inner products; they are never all stored."""

from __future__ import annotations

import torch
from torch import Tensor

from recil.ops.one_pass import slate_log_prob
from recil.ops.slates import sample_in_blocks


def sample_inner_products(states: Tensor, uniforms: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Slates drawn from softmax(states @ weight.T + bias) without replacement; see `sample_plackett_luce`.

    states: [B, D]; uniforms: [B, K]; weight: [A, D]; bias: [A]. Returns items int64 [B, K] and log-probabilities
    [B, K], differentiable. Logits are made for a few rows at a time, and drawn from while they are in the cache.
    """
    if uniforms.shape[1] > len(weight):
        raise ValueError(f"sample_inner_products: {uniforms.shape[1]} positions but {len(weight)} items")
    items, scores = _sample(states.detach(), uniforms.double(), weight.detach(), bias.detach())
    if torch.is_grad_enabled() and (states.requires_grad or weight.requires_grad or bias.requires_grad):
        return items, slate_log_prob(states, items, weight, bias)
    return items, scores


# One operator for a compiler: see recil.ops.slates.
@torch.library.custom_op("recil::sample_inner_products", mutates_args=())
def _sample(states: Tensor, uniforms: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    def logits(rows: slice, out: Tensor) -> Tensor:
        return torch.mm(states[rows], weight.T, out=out)

    return sample_in_blocks(logits, bias, uniforms)


@_sample.register_fake
def _(states: Tensor, uniforms: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return states.new_empty(uniforms.shape, dtype=torch.int64), states.new_empty(uniforms.shape)
