"""Exact log-probabilities of slates over a catalogue too large for a row of logits: a block of items at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recil.ops.one_pass import are_tame

# A block of logits stays in a processor's cache from one pass to the next, as do the vectors while all rows pass by.
ITEMS_AT_ONCE = 1 << 12
ROWS_AT_ONCE = 1 << 7


@torch.no_grad()
def slate_log_prob_by_items(
    states: Tensor, slate: Tensor, head: Callable[[Tensor], tuple[Tensor, Tensor]], catalogue: int
) -> Tensor:
    """log p [N, K], 0 at pads, as `recil.ops.one_pass.slate_log_prob`, without gradient.

    states: [N, D]; slate: int64 [N, K], -1 pad; head: items int64 [n] -> their vectors [n, D] and biases [n].
    """
    shown = slate >= 0
    own = states.new_full(slate.shape, -torch.inf, dtype=torch.float64)
    rest = states.new_full((len(states), 1), -torch.inf, dtype=torch.float64)
    for start in range(0, catalogue, ITEMS_AT_ONCE):
        items = torch.arange(start, min(start + ITEMS_AT_ONCE, catalogue), device=states.device)
        weight, bias = head(items)
        tame = are_tame(states, weight, bias)
        for first in range(0, len(states), ROWS_AT_ONCE):
            rows = slice(first, first + ROWS_AT_ONCE)
            logits = torch.addmm(bias, states[rows], weight.T)
            inside = (slate[rows] >= start) & (slate[rows] < start + len(items))
            row, position = inside.nonzero(as_tuple=True)
            place = row, slate[rows][row, position] - start
            own[rows][row, position] = logits[place].double()
            logits[place] = -torch.inf
            found = logits.exp_().sum(1, keepdim=True).log_() if tame else logits.logsumexp(1, keepdim=True)
            rest[rows] = torch.logaddexp(rest[rows], found.double())
    left = torch.cat([rest, own.flip(1)], 1).logcumsumexp(1)[:, 1:].flip(1)
    twice = ((slate[:, :, None] == slate[:, None]) & shown[:, :, None]).tril(-1).any(-1)
    return torch.where(shown, torch.where(twice, -torch.inf, own - left), 0.0).to(states.dtype)
