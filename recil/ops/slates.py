"""Plackett-Luce: ordered slates drawn without replacement from a softmax over the catalogue."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Up to this removed mass, logsumexp and log1p lose at most a bit; beyond it the rest is summed afresh.
_SAFE_REMOVED_MASS = 0.5
# Below this sum of what is left, float32 has lost digits of it: its smallest normal number is 1e-38.
_FAINT = 1e-28
# Above 0, so that an entry of weight 0 that stands first is not met.
_SMALLEST = 1e-300
# So many weights stay in a processor's cache from the pass that makes them to the one that sums them.
WEIGHTS_AT_ONCE = 1 << 21


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
    return sample_in_blocks(lambda rows, out: out.copy_(logits[rows]), logits.shape[1], uniforms, logits.dtype)


@_sample.register_fake
def _(logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    return logits.new_empty(uniforms.shape, dtype=torch.int64), logits.new_empty(uniforms.shape)


def sample_in_blocks(
    logits: Callable[[slice, Tensor], Tensor], catalogue: int, uniforms: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Slates for as many rows at once as fit a cache. logits: (rows, out) -> the logits of these rows, written to out.

    uniforms: float64 [B, K]. Returns items int64 [B, K] and their log-probabilities [B, K]; nothing is differentiated.
    """
    batch = uniforms.shape[0]
    size = min(batch, max(1, WEIGHTS_AT_ONCE // max(1, catalogue)))
    # One buffer for all: fresh memory of this size would be asked of the system again and again.
    buffer = torch.empty((size, catalogue), dtype=dtype, device=uniforms.device)
    parts = []
    for first in range(0, batch, max(size, 1)):
        rows = slice(first, min(first + size, batch))
        out = buffer[: rows.stop - rows.start]
        parts.append(_draw(lambda rows=rows, out=out: logits(rows, out), uniforms[rows]))  # type: ignore[misc]
    if not parts:
        return uniforms.long(), uniforms.to(dtype)
    return torch.cat([items for items, _ in parts]), torch.cat([scores for _, scores in parts])


def _draw(logits: Callable[[], Tensor], uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """The catalogue is searched by blocks of about √A items: every item costs a search among them and one inside."""
    weight = logits()
    weight = torch.softmax(weight, 1, out=weight)
    size = _block_size(weight.shape[1])
    inside = torch.arange(size, device=weight.device)
    mass = _mass_of_blocks(weight, size)
    items: list[Tensor] = []
    shares: list[Tensor] = []
    for position, uniform in enumerate(uniforms.split(1, 1)):
        edges = mass.cumsum(1)
        if position and bool((edges[:, -1] < _FAINT).any()):
            weight = _weigh_afresh(logits(), torch.cat(items, 1))
            mass = _mass_of_blocks(weight, size)
            edges = mass.cumsum(1)
        total = edges[:, -1:]
        aim = uniform * total
        block = torch.searchsorted(edges, aim)
        first = edges.gather(1, block).sub_(mass.gather(1, block))
        places = torch.add(inside, block, alpha=size)
        within = _within(weight, places)
        sums = within.cumsum(1)
        # Sums inside a block and the block's own mass round differently; what lies beyond both is its last item.
        place = torch.searchsorted(sums, torch.minimum(aim.sub_(first), sums[:, -1:]).clamp_(min=_SMALLEST))
        items.append(places.gather(1, place))
        shares.append(within.gather(1, place).div_(total))
        if position + 1 < uniforms.shape[1]:
            weight.scatter_(1, items[-1], 0.0)
            mass.scatter_(1, block, within.scatter_(1, place, 0.0).sum(1, keepdim=True))
    if not items:
        return uniforms.long(), uniforms.to(weight.dtype)
    return torch.cat(items, 1), torch.cat(shares, 1).log_().to(weight.dtype)


def _block_size(items: int) -> int:
    """The divisor of the number of items nearest below its root, if it is not far off; else the root itself."""
    root = max(1, round(items**0.5))
    return next((size for size in range(root, max(1, root // 2), -1) if items % size == 0), root)


def _within(weight: Tensor, places: Tensor) -> Tensor:
    """float64 [B, size]: the weights at these places, 0 where the catalogue has ended."""
    last = weight.shape[1] - 1
    if weight.shape[1] % places.shape[1] == 0:
        return weight.gather(1, places).double()
    return weight.gather(1, places.clamp(max=last)).double().masked_fill_(places > last, 0.0)


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
