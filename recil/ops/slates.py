"""Plackett-Luce: ordered slates drawn without replacement from a softmax over the catalogue."""

from __future__ import annotations

import torch
from torch import Tensor

# Up to this removed mass, logsumexp and log1p lose at most a bit; beyond it the rest is summed afresh.
_SAFE_REMOVED_MASS = 0.5
# Below this sum of what is left, float32 has lost digits of it: its smallest normal number is 1e-38.
_FAINT = 1e-28


def plackett_luce_log_prob(logits: Tensor, slate: Tensor) -> Tensor:
    """Log-probability of each item of a slate given the items before it.

    logits: float [..., A]; slate: int64 [..., K], -1 pad. Returns [..., K], 0 at pads; a pad removes nothing. An item
    that stands twice has probability 0. Source: Plackett (1975), "The analysis of permutations".
    """
    if logits.shape[:-1] != slate.shape[:-1]:
        raise ValueError(f"plackett_luce_log_prob: logits {tuple(logits.shape)} against slate {tuple(slate.shape)}")
    shown = slate >= 0
    chosen = logits.gather(-1, slate.clamp(min=0))
    whole = logits.logsumexp(-1, keepdim=True)
    if slate.shape[-1] == 1:
        return torch.where(shown, chosen - whole, 0.0)
    share = torch.where(shown, (chosen - whole).exp(), 0.0)
    removed = share.cumsum(-1) - share
    heavy = removed > _SAFE_REMOVED_MASS
    rest = whole + torch.log1p(-torch.where(heavy, 0.0, removed))
    if heavy.any():
        rest = _sum_afresh(rest, heavy, logits, slate)
    repeated = ((slate[..., None] == slate[..., None, :]) & shown[..., None]).tril(-1).any(-1)
    log_prob = torch.where(repeated, -torch.inf, chosen - rest)
    return torch.where(shown, log_prob, 0.0)


def _sum_afresh(rest: Tensor, heavy: Tensor, logits: Tensor, slate: Tensor) -> Tensor:
    """`rest` with its entries at `heavy` [..., K] replaced by a logsumexp over the items that are left."""
    place = heavy.nonzero(as_tuple=True)
    rows, position = place[:-1], place[-1]
    before = slate[rows]
    gone = (torch.arange(slate.shape[-1], device=slate.device) < position[:, None]) & (before >= 0)
    removed = torch.zeros((len(position), logits.shape[-1] + 1), dtype=torch.bool, device=logits.device)
    removed.scatter_(1, torch.where(gone, before, logits.shape[-1]), True)
    left = logits[rows].masked_fill(removed[:, :-1], -torch.inf)
    return rest.index_put(place, left.logsumexp(-1))


def sample_plackett_luce(logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Slates by inverse distribution function, item after item.

    logits: float [B, A]; uniforms: [B, K] in (0, 1). Returns items int64 [B, K] and the log-probability of each given
    those before it, [B, K]. The same uniforms pick the same item wherever two policies have the same probabilities.
    """
    if uniforms.shape[1] > logits.shape[1]:
        raise ValueError(f"sample_plackett_luce: {uniforms.shape[1]} positions but {logits.shape[1]} items")
    # The exponential is taken once, in the logits' own precision: it costs ten times as much in float64 as in float32.
    weight = (logits - logits.amax(1, keepdim=True)).exp().double()
    items: list[Tensor] = []
    log_probs: list[Tensor] = []
    for uniform in uniforms.double().unbind(1):
        cumulative = weight.cumsum(1)
        if items and bool((cumulative[:, -1] < _FAINT).any()):
            weight = _weigh_afresh(logits, torch.cat(items, 1))
            cumulative = weight.cumsum(1)
        total = cumulative[:, -1:]
        item = torch.searchsorted(cumulative, uniform[:, None] * total, right=True)
        items.append(item)
        log_probs.append((weight.gather(1, item) / total).log())
        weight.scatter_(1, item, 0.0)
    if not items:
        empty = torch.empty((logits.shape[0], 0), dtype=torch.int64, device=logits.device)
        return empty, empty.to(logits.dtype)
    return torch.cat(items, 1), torch.cat(log_probs, 1).to(logits.dtype)


def _weigh_afresh(logits: Tensor, gone: Tensor) -> Tensor:
    """Weights of what is left [B, A], float64: of them the largest is 1. gone: int64 [B, k]."""
    left = logits.double().scatter(1, gone, -torch.inf)
    return (left - left.amax(1, keepdim=True)).exp()


def greedy_slates(logits: Tensor, k: int) -> Tensor:
    """The k items with the largest logits, best first, ties to the lower index. logits: [..., A]; int64 [..., k]."""
    return torch.sort(logits, dim=-1, descending=True, stable=True).indices[..., :k]
