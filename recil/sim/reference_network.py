"""The network of the reference: the session so far and the slate, to the log-odds of a click on every item shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recil.logs.history import History
from recil.logs.session_log import Column, SessionLog
from recil.policies.encoders import Recurrent
from recil.policies.inputs import (
    Feature,
    FeatureList,
    FeatureVectors,
    ItemTable,
    StepInput,
    blank,
    features_of,
    initialise,
)
from recil.random import Streams

REACH = 5.0  # numbers further than this many standard deviations from their mean tell no more


@dataclass(frozen=True)
class ReferenceLayout:
    """What a network is built from.

    catalogue   A, the number of items
    slate_size  K, the most items in a slate
    width       D, entries of a vector and of a state
    several     a slate may get several clicks: each item is clicked or not by itself; else one of the slate or none is
    items, users, contexts, feedback  the columns it looks at
    """

    catalogue: int
    slate_size: int
    width: int
    several: bool
    items: tuple[Feature, ...] = ()
    users: tuple[Feature, ...] = ()
    contexts: tuple[Feature, ...] = ()
    feedback: tuple[Feature, ...] = ()

    @staticmethod
    def of(log: SessionLog, width: int) -> ReferenceLayout:
        """A network that looks at every column of this log."""
        return ReferenceLayout(
            log.catalogue,
            log.slate_size,
            width,
            bool(((log.reward > 0).sum(1) > 1).any()),
            features_of(log.item_features),
            features_of(log.user_features),
            features_of(log.known_context),
            features_of(log.feedback),
        )

    def looked_at(self, log: SessionLog) -> Iterator[tuple[Feature, Column | None]]:
        """Each user, context and feedback column it looks at, as this log has it."""
        for features, columns in (
            (self.users, log.user_features),
            (self.contexts, log.context),
            (self.feedback, log.feedback),
        ):
            for feature in features:
                yield feature, columns.get(feature.name)


class ResponseNetwork(nn.Module):
    """Log-odds of clicks: what an item is worth, how it goes with the session's state, and what stands beside it.

    It starts at the base, the items' appeal and nothing else: all other parts begin at (nearly) 0.
    """

    def __init__(self, layout: ReferenceLayout, item_columns: Mapping[str, Tensor]) -> None:
        """Weights are unset: `begin` draws them. item_columns: name -> values [A] or [A, M] of the item features."""
        super().__init__()
        self.layout, width = layout, layout.width
        columns = [within_reach(item_columns[feature.name], feature) for feature in layout.items]
        self.items = ItemTable(layout.catalogue, width, layout.items, columns)
        self.step_input = StepInput(layout.feedback, width)
        self.memory = Recurrent(self.step_input.parts * width + 1, width)
        self.context, self.user = FeatureList(layout.contexts, width), FeatureList(layout.users, width)
        self.in_context = FeatureList(layout.contexts, 1)
        self.taste = blank(nn.Linear, width, width, bias=False)
        self.from_state = blank(nn.Linear, width, width)
        self.from_item = blank(nn.Linear, width, width, bias=False)
        self.from_pair = blank(nn.Linear, width, width, bias=False)
        self.from_slate = blank(nn.Linear, width, width, bias=False)
        self.from_above = blank(nn.Linear, width, width, bias=False)
        self.from_repeats = blank(nn.Linear, 2, width, bias=False)
        self.from_position = blank(nn.Embedding, layout.slate_size, width)
        self.head = blank(nn.Linear, width, 1, bias=False)
        self.repeats = blank(nn.Linear, 2, 1, bias=False)
        self.base = nn.Parameter(torch.zeros(()))
        self.appeal = nn.Parameter(torch.zeros(layout.catalogue))
        self.position = nn.Parameter(torch.zeros(layout.slate_size))

    @torch.no_grad()
    def begin(self, streams: Streams, vector_scale: float, effect_scale: float) -> None:
        """Draw the weights; the scales are those of the entries of an item's vector and of a column's."""
        initialise(self, streams.generator("reference.weights"))
        unit = self.layout.width**0.5
        self.items.own.weight.mul_(vector_scale * unit)
        for weight in self.effects():
            weight.mul_(0.3 * effect_scale * unit)
        for linear, scale in ((self.head, 0.1), (self.taste, 0.1), (self.repeats, 0.0)):
            linear.weight.mul_(scale)
        for weight in self.context_effects():
            weight.zero_()

    def effects(self) -> list[Tensor]:
        """What a column's value or a position adds to vectors: [categories + 1, D], or [D, 1] for a number."""
        apart = set(self.in_context)
        columns = [part for part in self.modules() if isinstance(part, FeatureVectors) and part not in apart]
        return [*(part.vectors.weight for part in columns), self.from_position.weight]

    def context_effects(self) -> list[Tensor]:
        """What a context's value adds to the log-odds of all items: [categories + 1, 1], or [1, 1] for a number."""
        return [part.vectors.weight for part in self.in_context]

    def per_item(self) -> Tensor:
        """[A, 2 D + 1]: an item's vector, its share of the hidden layer, its appeal: once for all its impressions."""
        table = self.items()
        return torch.cat([table, self.from_item(table), self.appeal[:, None]], 1)

    def forward(self, history: History, repeats: Tensor, per_item: Tensor) -> Tensor:
        """repeats: [B, T, K, 2]; per_item: see there. Returns log-odds [B, T, K], -inf where nothing is shown.

        Those of step t depend on the steps before it, on its context and on its slate; of one item or none, they are
        the log-odds against none.
        """
        history = _history_within_reach(history, self.layout)
        width, shown = self.layout.width, history.shown
        state, known = self._before(history, per_item[:, :width])
        vector, hidden, appeal = F.embedding(history.items.clamp(min=0), per_item).split([width, width, 1], -1)
        pair = (self.taste(state) + known)[:, :, None] * vector
        places = slice(0, history.slate_size)
        hidden = hidden + self.from_state(state + known)[:, :, None] + self.from_pair(pair)
        hidden = hidden + self.from_position.weight[places] + self.from_repeats(repeats)
        if history.slate_size > 1:
            hidden = hidden + self._beside(vector * shown[..., None], shown)
        odds = self.base + appeal[..., 0] + self.position[places] + pair.sum(-1)
        for part in self.in_context:
            odds = odds + part(history.context[part.feature.name], state.shape[:2], state)
        odds = odds + (self.head(F.silu(hidden)) + self.repeats(repeats))[..., 0]
        return torch.where(shown, odds, -torch.inf)

    def _before(self, history: History, table: Tensor) -> tuple[Tensor, Tensor]:
        """The state before each step, and what its context and its user say. Both [B, T, D]."""
        clicked = (history.reward > 0).any(-1, keepdim=True).to(table.dtype)
        inputs = torch.cat([self.step_input(table, history), clicked], -1)
        took_place = history.happened & history.shown.any(-1)
        state = self.memory.scan(inputs, took_place, None)[0][:, :-1]
        known = torch.zeros_like(state)
        shape = (history.batch, history.steps)
        for part in self.context:
            known = known + part(history.context[part.feature.name], shape, table)
        for part in self.user:
            known = known + part(history.user[part.feature.name], shape[:1], table)[:, None]
        return state, known

    def _beside(self, vector: Tensor, shown: Tensor) -> Tensor:
        """What the slate and the items above say of each item. vector: [B, T, K, D], 0 at pads."""
        count = shown.to(vector.dtype).cumsum(2)[..., None]
        total = vector.cumsum(2)
        above = (total - vector) / (count - shown[..., None].to(vector.dtype)).clamp(min=1)
        slate = total[:, :, -1:] / count[:, :, -1:].clamp(min=1)
        return self.from_slate(slate) + self.from_above(above)


def within_reach(values: Tensor, feature: Feature) -> Tensor:
    """A column's numbers, cut to `REACH` standard deviations: one odd value must not drown the others.

    A number that is missing counts as the mean. Codes stay as they are.
    """
    if feature.categories is not None:
        return values
    far = REACH * feature.scale
    return values.nan_to_num(feature.mean).clamp(feature.mean - far, feature.mean + far)


def _history_within_reach(history: History, layout: ReferenceLayout) -> History:
    def cut(values: Mapping[str, Tensor], features: Sequence[Feature]) -> dict[str, Tensor]:
        return {feature.name: within_reach(values[feature.name], feature) for feature in features}

    return replace(
        history,
        user=cut(history.user, layout.users),
        context=cut(history.context, layout.contexts),
        feedback=cut(history.feedback, layout.feedback),
    )


def click_probabilities(odds: Tensor, several: bool) -> Tensor:
    """odds: [B, T, K], log-odds, -inf at pads. Returns float64 [B, T, K], 0 at pads."""
    odds = odds.double()
    if several:
        return odds.sigmoid()
    return torch.softmax(F.pad(odds, (1, 0)), -1)[..., 1:]


def negative_log_likelihood(odds: Tensor, reward: Tensor, several: bool) -> Tensor:
    """Of the clicks in these slates, summed, in nats. odds: [B, T, K], -inf at pads; reward: [B, T, K]."""
    clicked = reward > 0
    if several:
        return F.softplus(torch.where(clicked, -odds, odds)).sum()
    # One of the slate or none: the log-odds of none are 0. Pads and steps after the end cost nothing.
    return torch.logsumexp(F.pad(odds, (1, 0)), -1).sum() - torch.where(clicked, odds, 0.0).sum()
