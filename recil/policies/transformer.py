"""A causal transformer over the steps of a session, for encoders; rollouts go on from what was computed before."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from recil.policies.inputs import blank

# Wavelengths of the rotations lie between 2 pi and this many steps: sessions are far shorter than texts.
_LONGEST_WAVE = 1000.0


class Seen(NamedTuple):
    """What a rollout carries along; one token for the start and one for each step so far, S in all.

    keys, values  [blocks, B, heads, S, D / heads]
    counts        bool [B, S]: the start, and steps that took place; nothing attends to the others
    state         [B, 1, D], the state after the last step that took place
    """

    keys: Tensor
    values: Tensor
    counts: Tensor
    state: Tensor


class CausalTransformer(nn.Module):
    """Self-attention from each step to the start and the steps before it; positions by rotation, so of any number.

    There is no dropout: what a policy says of a session is one number, in training and after. Sources: Vaswani et al.
    (2017), "Attention is all you need"; Su et al. (2021), "RoFormer", for the positions; Xiong et al. (2020), "On layer
    normalization in the transformer architecture", for norms in front of each part.
    """

    def __init__(self, inputs: int, width: int, blocks: int = 2, heads: int = 2) -> None:
        super().__init__()
        self.embed = blank(nn.Linear, inputs, width)
        self.start = blank(nn.Embedding, 1, width)
        self.head_width = width // heads
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def scan(self, inputs: Tensor, took_place: Tensor, carry: Seen | None) -> tuple[Tensor, Seen]:
        """inputs: [B, T, inputs]; took_place: bool [B, T]; carry: None at the start of the sessions.

        Returns the states before each step and after the last [B, T + 1, D], and the carry after the last.
        """
        tokens, counts = self.embed(inputs), took_place
        if carry is None:
            start = self.start.weight.expand(len(inputs), 1, -1)
            tokens, counts = torch.cat([start, tokens], 1), nn.functional.pad(took_place, (1, 0), value=True)
        old = 0 if carry is None else carry.counts.shape[1]
        everything = counts if carry is None else torch.cat([carry.counts, counts], 1)
        mask = _mask(everything, old)
        turn = _rotation(everything.cumsum(1)[:, old:] - 1, self.head_width, tokens)
        keys, values = [], []
        for index, block in enumerate(self.blocks):
            before = None if carry is None else (carry.keys[index], carry.values[index])
            tokens, key, value = block(tokens, turn, mask, before)
            keys.append(key)
            values.append(value)
        states = self.norm(tokens)
        if carry is not None:
            states = torch.cat([carry.state, states], 1)
            counts = nn.functional.pad(counts, (1, 0), value=True)
        # A step that did not take place leaves the state as it was.
        place = torch.arange(counts.shape[1], device=counts.device)
        last = torch.where(counts, place, 0).cummax(1).values
        states = states.gather(1, last[..., None].expand_as(states))
        return states, Seen(torch.stack(keys), torch.stack(values), everything, states[:, -1:])


class Block(nn.Module):
    """Attention and a layer of hidden units, each added to what comes in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.before_attention, self.before_hidden = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project = blank(nn.Linear, width, 3 * width, bias=False)
        self.mix = blank(nn.Linear, width, width, bias=False)
        self.hidden = blank(nn.Linear, width, 4 * width)
        self.out = blank(nn.Linear, 4 * width, width)

    def forward(
        self, tokens: Tensor, turn: Tensor, mask: Tensor | None, before: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """tokens: [B, T, D]; turn: [2, B, 1, T, pairs]; mask: bool [B, 1, T, S], None: all that is not later.

        Returns tokens, and the keys and values of all S steps.
        """
        projected = self.project(self.before_attention(tokens)).unflatten(-1, (3, self.heads, self.head_width))
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind()
        query, key = _rotated(query, turn), _rotated(key, turn)
        if before is not None:
            key, value = torch.cat([before[0], key], 2), torch.cat([before[1], value], 2)
        attended = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None and tokens.shape[1] > 1
        )
        tokens = tokens + self.mix(attended.transpose(1, 2).flatten(2))
        hidden = nn.functional.gelu(self.hidden(self.before_hidden(tokens)))
        return tokens + self.out(hidden), key, value


def _mask(counts: Tensor, old: int) -> Tensor | None:
    """bool [B, 1, S - old, S]: which of all tokens each new one attends to, itself included; counts: bool [B, S].

    None where that is all that is not later: then padding stands behind everything, where nobody who counts looks.
    """
    size = counts.shape[1]
    if not old and bool((counts[:, 1:] <= counts[:, :-1]).all()):
        return None
    place = torch.arange(size, device=counts.device)
    new = place[old:, None]
    return (((place <= new) & counts[:, None]) | (place == new))[:, None]


def _rotation(position: Tensor, head_width: int, like: Tensor) -> Tensor:
    """Cosines and sines of the turns of pairs of entries, [2, B, 1, T, head_width // 2]. position: int64 [B, T]."""
    pairs = head_width // 2
    rate = _LONGEST_WAVE ** (-torch.arange(pairs, device=like.device, dtype=like.dtype) / max(pairs, 1))
    angle = position.clamp(min=0)[:, None, :, None].to(like.dtype) * rate
    return torch.stack([angle.cos(), angle.sin()])


def _rotated(vectors: Tensor, turn: Tensor) -> Tensor:
    """vectors: [B, heads, T, D]; pairs of entries (i, i + D // 2) turned; an odd last entry stays."""
    cos, sin = turn
    pairs = cos.shape[-1]
    first, second, rest = vectors[..., :pairs], vectors[..., pairs : 2 * pairs], vectors[..., 2 * pairs :]
    return torch.cat([first * cos - second * sin, first * sin + second * cos, rest], -1)
