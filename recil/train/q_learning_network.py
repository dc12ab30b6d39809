"""One encoder with two heads: what the recommender would show, and what an item is worth."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from recil.logs.history import History
from recil.ops.one_pass import LOGITS_AT_ONCE, weighted_log_prob
from recil.policies.inputs import blank
from recil.policies.softmax import SoftmaxPolicy
from recil.random import Streams


class QNetwork(nn.Module):
    """The clone (a softmax policy) and, linear in the same state, a value for every item, in units of `scale`.

    scale: root of the mean squared reward of an item shown. Squared errors are then about 1 however rare rewards are;
    with larger ones the bound on the gradient's length would bind and pull values from the mean towards the median.
    """

    def __init__(self, clone: SoftmaxPolicy, scale: float, seed: int) -> None:
        super().__init__()
        self.clone, self.scale = clone, scale
        self.value = blank(nn.Embedding, clone.catalogue, clone.config.encoder.width)
        self.offset = blank(nn.Embedding, clone.catalogue, 1)
        with torch.no_grad():
            # All items are worth the same until something was learned.
            self.value.weight.normal_(0.0, 0.01, generator=Streams(seed).generator("value head"))
            self.offset.weight.zero_()

    def values(self, states: Tensor) -> Tensor:
        """states: [..., D] -> [..., A], in units of `scale`."""
        return nn.functional.linear(states, self.value.weight, self.offset.weight[:, 0])

    def values_of(self, states: Tensor, items: Tensor) -> Tensor:
        """[n, K]: of these items alone (int64 [n, K], -1 pad, anything there) in these states [n, D]."""
        index = items.clamp(min=0)
        return (states[:, None] * self.value(index)).sum(-1) + self.offset(index)[..., 0]

    @torch.no_grad()
    def next_values(self, history: History) -> Tensor:
        """[B, A]: the value of each item in the coming slate, in units of the reward."""
        return self.values(self.clone.encoder.last(history)) * self.scale

    @torch.no_grad()
    def policy(self, temperature: float) -> SoftmaxPolicy:
        """clone * exp(value / temperature), as one softmax policy: both heads are linear in one state.

        temperature: in units of the reward, as `next_values`. Among all policies it has the highest mean value less
        `temperature` times KL(policy || clone), for a slate's first item. Every item that the clone may show, it may
        show, with a known probability.
        """
        policy, factor = copy.deepcopy(self.clone), self.clone.temperature * self.scale / temperature
        policy.output.own.weight += self.value.weight * factor
        policy.bias.weight += self.offset.weight * factor
        return policy.requires_grad_(True).eval()


class Losses(NamedTuple):
    """Sums over the items shown: negative log-likelihood, and squared error of values. items: how many there were."""

    nll: Tensor
    error: Tensor
    items: int


def losses(network: QNetwork, target: QNetwork, sessions: History, discount: float, support: float) -> Losses:
    """Of a batch of sessions; no more logits than `LOGITS_AT_ONCE` are stored at once.

    The assumption: a slate is worth the sum of its items' values, and what follows it is owed to its items in equal
    parts. So an item's value is its own reward and, of a slate of k items, 1 / k of the next slate's worth; that is the
    sum of the k highest values. With slates of one this is Q-learning. Nothing follows a session's last step, whether
    the user left or the log or the horizon cut it. Sources: van Hasselt, Guez & Silver (2016), "Deep reinforcement
    learning with double Q-learning": `network` picks the items and `target` values them; Fujimoto et al. (2019),
    "Benchmarking batch deep reinforcement learning algorithms": only items that the clone supports are picked; Xin et
    al. (2020), "Self-supervised reinforcement learning for recommender systems": both losses on one encoder.
    """
    took_place = sessions.happened & sessions.shown.any(-1)
    states = network.clone.encode(sessions)
    with torch.no_grad():
        worth = _worth_of_steps(network, target, states, sessions, took_place, support)
        size = sessions.shown.sum(-1).clamp(min=1)
        wanted = (sessions.reward / network.scale).to(states.dtype) + (discount * worth / size)[..., None]
    slates, states, wanted = (part[took_place] for part in (sessions.items, states[:, :-1], wanted))
    shown = slates >= 0
    surprise = torch.where(shown, network.values_of(states, slates) - wanted, 0.0)
    likelihood, _ = weighted_log_prob(states, slates, shown.to(states.dtype), *network.clone.head())
    return Losses(-likelihood, surprise.square().sum(), int(shown.sum()))


def _worth_of_steps(
    network: QNetwork, target: QNetwork, states: Tensor, sessions: History, took_place: Tensor, support: float
) -> Tensor:
    """[B, T]: what the slate after each step is worth under the target network, 0 after the last."""
    worth = states.new_zeros(took_place.shape)
    if sessions.steps < 2:
        return worth
    follows = took_place[:, 1:]
    ahead = target.clone.encode(sessions)[:, 1:-1][follows]
    chosen_by, count = states[:, 1:-1][follows], sessions.shown[:, 1:].sum(-1)[follows]
    rows = max(1, LOGITS_AT_ONCE // network.clone.catalogue)
    parts = [
        best_worth(network, target, *block, support)
        for block in zip(chosen_by.split(rows), ahead.split(rows), count.split(rows), strict=True)
    ]
    if parts:
        worth[:, :-1][follows] = torch.cat(parts)
    return worth


def best_worth(
    network: QNetwork, target: QNetwork, states: Tensor, ahead: Tensor, count: Tensor, support: float
) -> Tensor:
    """[n]: the sum of the target's values of the `count` items (int64 [n]) that the network values most.

    states, ahead: [n, D], the same histories encoded by each. Where fewer items are supported than are wanted, the most
    probable of the others fill the slate.
    """
    logits = network.clone.logits(states)
    supported = logits >= logits.amax(-1, keepdim=True) + (math.log(support) if support else -math.inf)
    # Values come first wherever an item is supported; behind them, items stand in order of probability.
    values = network.values(states)
    floor = torch.where(supported, values, torch.inf).amin(-1, keepdim=True)
    order = torch.where(supported, values, floor - 1 + logits.log_softmax(-1))
    most = int(count.max()) if len(count) else 0
    picked = order.topk(min(most, order.shape[-1])).indices
    counted = torch.arange(picked.shape[1], device=count.device) < count[:, None]
    return torch.where(counted, target.values_of(ahead, picked), 0.0).sum(-1)
