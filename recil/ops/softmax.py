"""Softmax over the whole catalogue, with a bound on the logits that are stored at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from recil.ops.slates import plackett_luce_log_prob, sample_in_blocks

LOGITS_AT_ONCE = 1 << 24


def _block(states: Tensor, slate: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return plackett_luce_log_prob(torch.addmm(bias, states, weight.T), slate)


def chunked_log_prob(
    states: Tensor, slate: Tensor, weight: Tensor, bias: Tensor, logits_at_once: int = LOGITS_AT_ONCE
) -> Tensor:
    """Log-probability of each item of each slate under softmax(states @ weight.T + bias), without replacement.

    states: [N, D]; slate: int64 [N, K], -1 pad; weight: [A, D]; bias: [A]. Returns [N, K], 0 at pads. No block of more
    than `logits_at_once` logits (or one row) is stored: the backward pass computes each block again.
    """
    if states.ndim != 2 or slate.shape[:1] != states.shape[:1] or weight.shape[1] != states.shape[1]:
        raise ValueError(
            f"chunked_log_prob: states {tuple(states.shape)}, slate {tuple(slate.shape)}, weight {tuple(weight.shape)}"
        )
    rows = max(1, logits_at_once // weight.shape[0])
    if len(states) <= rows:
        return _block(states, slate, weight, bias)
    blocks = zip(states.split(rows), slate.split(rows), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([_block(state, shown, weight, bias) for state, shown in blocks])
    return torch.cat(
        [
            checkpoint(_block, state, shown, weight, bias, use_reentrant=False, preserve_rng_state=False)
            for state, shown in blocks
        ]
    )


def sample_inner_products(states: Tensor, uniforms: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Slates drawn from softmax(states @ weight.T + bias) without replacement; see `sample_plackett_luce`.

    states: [B, D]; uniforms: [B, K]; weight: [A, D]; bias: [A]. Returns items int64 [B, K] and log-probabilities
    [B, K], differentiable. Logits are made for a few rows at a time, and drawn from while they are in the cache.
    """
    if uniforms.shape[1] > len(weight):
        raise ValueError(f"sample_inner_products: {uniforms.shape[1]} positions but {len(weight)} items")
    items, scores = _sample(states.detach(), uniforms.double(), weight.detach(), bias.detach())
    if torch.is_grad_enabled() and (states.requires_grad or weight.requires_grad or bias.requires_grad):
        return items, chunked_log_prob(states, items, weight, bias)
    return items, scores


# One operator for a compiler: see recil.ops.slates.
@torch.library.custom_op("recil::sample_inner_products", mutates_args=())
def _sample(states: Tensor, uniforms: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    def logits(rows: slice, out: Tensor) -> Tensor:
        return torch.addmm(bias, states[rows], weight.T, out=out)

    return sample_in_blocks(logits, len(weight), uniforms, states.dtype)


@_sample.register_fake
def _(states: Tensor, uniforms: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return states.new_empty(uniforms.shape, dtype=torch.int64), states.new_empty(uniforms.shape)
