"""Two policies that take turns by chance: who makes a slate is drawn for each slate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.history import History
from recil.policies.protocol import Policy, Slates
from recil.random import Streams


@dataclass(frozen=True, eq=False)
class Mixture:
    """`first` makes a slate with probability `share`, `second` otherwise, drawn for each session and step by address.

    Whatever the share, `first` draws what it would draw alone, and a larger share adds to the slates that it makes.
    `second` draws from streams of its own.
    """

    first: Policy
    second: Policy
    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError("mixture share", f"{self.share}", "give a probability from 0 to 1")
        if self.first.catalogue != self.second.catalogue:
            raise InputError(
                "mixture",
                f"policies over {self.first.catalogue} and {self.second.catalogue} items",
                "give two policies over one catalogue",
            )

    @property
    def catalogue(self) -> int:
        return self.first.catalogue

    def first_acts(self, history: History, streams: Streams) -> Tensor:
        """bool [B]: whether the coming slate is made by `first`."""
        draw = streams.uniform("mixture", history.session, history.length, dtype=torch.float64)
        return draw[:, 0] < self.share

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        """The coming slate of k items; its probability is that under the mixture, whoever made it."""
        own = self.first.sample(history, k, streams)
        if self.share == 1:
            return own
        other = self.second.sample(history, k, streams.child("second"))
        items = torch.where(self.first_acts(history, streams)[:, None], own.items, other.items)
        return Slates(items, self.log_prob(history, items))

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        """Log-probability of each item of `slate` (int64 [B, K], -1 pad) given those before it. [B, K], 0 at pads."""
        if self.share == 1:
            return self.first.log_prob(history, slate)
        if self.share == 0:
            return self.second.log_prob(history, slate)
        share = torch.tensor([self.share, 1 - self.share], dtype=torch.float64).log()
        pair = (self.first.log_prob(history, slate), self.second.log_prob(history, slate))
        # Of the slate up to each item, under each policy: items drawn so far tell who is drawing.
        joint = [prior + part.double().cumsum(-1) for prior, part in zip(share, pair, strict=True)]
        whole = torch.logaddexp(*joint)
        before = torch.nn.functional.pad(whole[:, :-1], (1, 0))
        conditional = torch.where(torch.isneginf(before), -torch.inf, whole - before)
        return torch.where(slate >= 0, conditional, 0.0).to(pair[1].dtype)
