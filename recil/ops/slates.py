"""Plackett-Luce: ordered slates drawn without replacement from a softmax over the catalogue."""

from __future__ import annotations

import torch
from torch import Tensor

# Up to this removed mass, logsumexp and log1p lose at most a bit; beyond it the rest is summed afresh.
_SAFE_REMOVED_MASS = 0.5
# Below this sum of what is left, float32 has lost digits of it: its smallest normal number is 1e-38.
_FAINT = 1e-28
# Above 0, so that an entry of weight 0 that stands first is not met.
_SMALLEST = 1e-300
# So many weights stay in a processor's cache from the pass that makes them to the one that sums them.
WEIGHTS_AT_ONCE = 1 << 20


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
    those before it, [B, K], differentiable in the logits. The same uniforms pick the same item wherever two policies
    have the same probabilities.
    """
    if uniforms.shape[1] > logits.shape[1]:
        raise ValueError(f"sample_plackett_luce: {uniforms.shape[1]} positions but {logits.shape[1]} items")
    items, scores = _sample(logits.detach(), uniforms.double())
    if torch.is_grad_enabled() and logits.requires_grad:
        return items, plackett_luce_log_prob(logits, items)
    return items, scores


# One operator for a compiler, which would make many slow passes of it; and it looks at values to decide what to do.
@torch.library.custom_op("recil::sample_plackett_luce", mutates_args=())
def _sample(logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    rows = max(1, WEIGHTS_AT_ONCE // max(1, logits.shape[1]))
    parts = [
        _sample_block(block, uniform) for block, uniform in zip(logits.split(rows), uniforms.split(rows), strict=True)
    ]
    return torch.cat([items for items, _ in parts]), torch.cat([scores for _, scores in parts])


@_sample.register_fake
def _(logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    return logits.new_empty(uniforms.shape, dtype=torch.int64), logits.new_empty(uniforms.shape)


def _sample_block(logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """The catalogue is searched by blocks of about √A items: every item costs a search among them and one inside."""
    items = logits.new_empty(uniforms.shape, dtype=torch.int64)
    scores = logits.new_empty(uniforms.shape)
    size = max(1, round(logits.shape[1] ** 0.5))
    inside = torch.arange(size, device=logits.device)
    weight = logits.softmax(1)
    mass = _mass_of_blocks(weight, size)
    for position, uniform in enumerate(uniforms.unbind(1)):
        edges = mass.cumsum(1)
        if position and bool((edges[:, -1] < _FAINT).any()):
            weight = _weigh_afresh(logits, items[:, :position])
            mass = _mass_of_blocks(weight, size)
            edges = mass.cumsum(1)
        total = edges[:, -1:]
        aim = uniform[:, None] * total
        block = torch.searchsorted(edges, aim).clamp_(max=mass.shape[1] - 1)
        first = edges.gather(1, block) - mass.gather(1, block)
        places = block * size + inside
        within = weight.gather(1, places.clamp_(max=weight.shape[1] - 1)).double()
        if (short := logits.shape[1] % size) and mass.shape[1] > logits.shape[1] // size:
            within[:, short:].masked_fill_(block == mass.shape[1] - 1, 0.0)
        sums = within.cumsum(1)
        # Sums inside a block and the block's own mass round differently; what lies beyond both is its last item.
        place = torch.searchsorted(sums, torch.minimum(aim - first, sums[:, -1:]).clamp_(min=_SMALLEST))
        item = places.gather(1, place)
        items[:, position : position + 1] = item
        scores[:, position : position + 1] = (within.gather(1, place) / total).log()
        if position + 1 < uniforms.shape[1]:
            weight.scatter_(1, item, 0.0)
            mass.scatter_(1, block, within.scatter_(1, place, 0.0).sum(1, keepdim=True))
    return items, scores


def _mass_of_blocks(weight: Tensor, size: int) -> Tensor:
    """float64 [B, blocks]: the sum of every `size` weights of a row; the last block may be shorter."""
    whole = weight.shape[1] // size * size
    mass = weight[:, :whole].unflatten(1, (-1, size)).sum(-1)
    if whole < weight.shape[1]:
        mass = torch.cat([mass, weight[:, whole:].sum(1, keepdim=True)], 1)
    return mass.double()


def _weigh_afresh(logits: Tensor, gone: Tensor) -> Tensor:
    """Weights of what is left, [B, A], the largest of which does not vanish. gone: int64 [B, k]."""
    return logits.scatter(1, gone, -torch.inf).softmax(1)


def greedy_slates(logits: Tensor, k: int) -> Tensor:
    """The k items with the largest logits, best first, ties to the lower index. logits: [..., A]; int64 [..., k]."""
    return torch.sort(logits, dim=-1, descending=True, stable=True).indices[..., :k]
