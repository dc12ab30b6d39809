"""Plackett-Luce: ordered slates drawn without replacement from a softmax over the catalogue."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recil.ops.slate_kernel import FAINTEST, SMALLEST, native_draw

# Up to this removed mass, logsumexp and log1p lose at most a bit; beyond it the rest is summed afresh.
_SAFE_REMOVED_MASS = 0.5
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
    bias = logits.new_zeros(logits.shape[1])
    return sample_in_blocks(lambda rows, out: out.copy_(logits[rows]), bias, uniforms)


@_sample.register_fake
def _(logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    return logits.new_empty(uniforms.shape, dtype=torch.int64), logits.new_empty(uniforms.shape)


def sample_in_blocks(
    logits: Callable[[slice, Tensor], Tensor], bias: Tensor, uniforms: Tensor
) -> tuple[Tensor, Tensor]:
    """Slates for as many rows at once as fit a cache. logits: (rows, out) -> the logits of these rows, written to out.

    bias: [A], added to them; uniforms: float64 [B, K]. Returns items int64 [B, K] and their log-probabilities [B, K];
    nothing is differentiated.
    """
    if not uniforms.numel():
        return uniforms.long(), uniforms.to(bias.dtype)
    catalogue = len(bias)
    size = _block_size(catalogue)
    width = -(-catalogue // size) * size
    bias = torch.nn.functional.pad(bias, (0, width - catalogue), value=-torch.inf).contiguous()
    uniforms = uniforms.contiguous()
    draw = native_draw(uniforms.device, bias.dtype, width, uniforms.numel()) or draw_rows
    rows_at_once = min(len(uniforms), max(1, WEIGHTS_AT_ONCE // width))
    # One buffer for all: fresh memory of this size would be asked of the system again and again.
    buffer = bias.new_empty((rows_at_once, width))
    buffer[:, catalogue:] = 0.0  # and stays so, as a weight
    parts = []
    for first in range(0, len(uniforms), rows_at_once):
        rows = slice(first, min(first + rows_at_once, len(uniforms)))
        weight = buffer[: rows.stop - rows.start]
        logits(rows, weight[:, :catalogue])
        items, shares, faint = draw(weight, bias, size, uniforms[rows])
        again = faint.nonzero()[:, 0]
        if len(again):
            weight[:, catalogue:] = 0.0  # not where nothing was a number
            logits(rows, weight[:, :catalogue])
            items[again], shares[again] = _draw_faint(weight[again] + bias, size, uniforms[rows][again])
        parts.append((items, shares))
    return torch.cat([items for items, _ in parts]), torch.cat([shares for _, shares in parts]).log_().to(bias.dtype)


def _block_size(items: int) -> int:
    """About the root of the number of items, where blocks of it fill whole registers."""
    return max(1, round(items**0.5 / 8)) * 8


def draw_rows(logits: Tensor, bias: Tensor, size: int, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Items [B, K], their float64 shares of what was left, and which rows [B] are too faint to believe them.

    logits: [B, width], a multiple of `size`. Changed. bias: [width].
    """
    torch.softmax(logits.add_(bias), 1, out=logits)
    mass = logits.unflatten(1, (-1, size)).sum(-1).double()
    return search(logits, mass, uniforms)


def search(weight: Tensor, mass: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The catalogue is searched by blocks of about √A items: every item costs a search among them and one inside.

    weight: [B, blocks * size]; mass: float64 [B, blocks], sums of blocks. Both are changed: what is drawn is removed.
    """
    blocks = weight.view(mass.numel(), -1)
    begins = torch.arange(0, len(blocks), mass.shape[1], device=mass.device)[:, None]
    items, shares = torch.empty_like(uniforms, dtype=torch.int64), torch.empty_like(uniforms)
    faint = torch.zeros(len(uniforms), dtype=torch.bool, device=mass.device)
    for position, uniform in enumerate(uniforms.split(1, 1)):
        edges = mass.cumsum(1)
        total = edges[:, -1:]
        faint |= ~(total[:, 0] >= FAINTEST)  # what is not a number, too
        aim = uniform * total
        block = torch.searchsorted(edges, aim)
        # Whatever a row holds that is not to be believed, the search stays in the row.
        block.clamp_(max=mass.shape[1] - 1)
        chosen = (begins + block)[:, 0]
        within = blocks.index_select(0, chosen).double()
        sums = within.cumsum(1)
        first = edges.gather(1, block).sub_(mass.gather(1, block))
        # Sums inside a block and the block's own mass round differently; what lies beyond both is its last item.
        place = torch.searchsorted(sums, torch.minimum(aim.sub_(first), sums[:, -1:]).clamp_(min=SMALLEST))
        place.clamp_(max=within.shape[1] - 1)
        item = torch.add(place, block, alpha=within.shape[1], out=items[:, position : position + 1])
        torch.div(within.gather(1, place), total, out=shares[:, position : position + 1])
        if position + 1 < uniforms.shape[1]:
            weight.scatter_(1, item, 0.0)
            mass.scatter_(1, block, within.scatter_(1, place, 0.0).cumsum(1)[:, -1:])
    return items, shares, faint


def _draw_faint(logits: Tensor, size: int, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Items and shares where hardly anything is left after some: what is left is weighed afresh for each item."""
    items, shares = torch.empty_like(uniforms, dtype=torch.int64), torch.empty_like(uniforms)
    for position, uniform in enumerate(uniforms.split(1, 1)):
        rest = logits.scatter(1, items[:, :position], -torch.inf)
        item, share, faint = draw_rows(rest, rest.new_zeros(rest.shape[1]), size, uniform)
        if bool(faint.any()):
            raise ValueError(
                "sample_plackett_luce: logits that are not numbers, or fewer possible items than positions"
            )
        items[:, position : position + 1], shares[:, position : position + 1] = item, share
    return items, shares


def greedy_slates(logits: Tensor, k: int) -> Tensor:
    """The k items with the largest logits, best first, ties to the lower index. logits: [..., A]; int64 [..., k]."""
    return torch.sort(logits, dim=-1, descending=True, stable=True).indices[..., :k]
