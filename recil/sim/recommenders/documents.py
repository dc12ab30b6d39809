"""Documents that come and go, and providers that stay: slates of documents, and policies that name their providers.

Sessions of a population see the same documents. Fields of documents lead with the G populations of a batch,
[G, M, ...]; fields of sessions lead with B = G n, population after population.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from recsim_ng.core.value import Value, ValueSpec
from torch import Tensor

from recil.logs.history import PAD
from recil.sim.choice.affinities import negative_euclidean
from recil.sim.entity import Entity
from recil.sim.fields import Field
from recil.sim.recommendation import Recommender
from recil.sim.spaces import Integers, Reals

# A document at this distance is worth as much as none.
INDIFFERENCE = 2.0


@dataclass(frozen=True)
class Sizes:
    """How many there are of each.

    population  n, the sessions that see the same documents
    providers   of documents; they are the items of policies
    documents   M, at any one time
    topics      D, the dimensions of documents and interests
    slate_size  K, the documents on a slate
    """

    population: int
    providers: int
    documents: int
    topics: int
    slate_size: int

    def groups(self, batch: int) -> int:
        """G, the populations in a batch. ValueError where they are not whole."""
        if batch % self.population:
            raise ValueError(f"batch = {batch}: wanted a multiple of the population, {self.population}")
        return batch // self.population


def similarity(interest: Tensor, features: Tensor) -> Tensor:
    """2 minus the distance between users and documents, [B, M]. interest: [B, D]; features: [G, M, D]."""
    together = interest.unflatten(0, (len(features), -1))
    return INDIFFERENCE + negative_euclidean(together, features[:, None]).flatten(0, 1)


def slate_of(available: Value, documents: Tensor) -> Value:
    """`document` itself with its provider as `items` and its `features`; those are of some document where it is -1.

    available: provider, int64 [G, M], and features, [G, M, D]; documents: int64 [B, K], -1 for none.
    """
    groups = len(available.get("provider"))
    place = documents.clamp(min=0).unflatten(0, (groups, -1))
    group = torch.arange(groups, device=documents.device)[:, None, None]
    provider, features = (available.get(name)[group, place].flatten(0, 1) for name in ("provider", "features"))
    return Value(items=torch.where(documents >= 0, provider, PAD), document=documents, features=features)


def clicks_of_providers(items: Tensor, click: Tensor, groups: int, providers: int) -> Tensor:
    """How often each provider was clicked in each population, [G, providers].

    items: int64 [B, K], providers on slates, -1 for none, which is never clicked; click: floating [B, K], 0 or 1.
    """
    place, clicked = (values.reshape(groups, -1) for values in (items.clamp(min=0), click))
    return click.new_zeros(groups, providers).scatter_add(1, place, clicked)


def slate_specs(sizes: Sizes) -> ValueSpec:
    """Specs of what `slate_of` makes."""
    size = (sizes.slate_size,)
    return ValueSpec(
        items=Field(Integers(sizes.providers + 1, size, start=PAD)),
        document=Field(Integers(sizes.documents + 1, size, start=-1)),
        features=Field(Reals((*size, sizes.topics))),
    )


class BestDocuments(Entity):
    """Shows of each provider that another recommender offers the document nearest to the user.

    The inner recommender's items are providers. One that has no document at the moment keeps its place on the slate,
    with the document -1: there is nothing to click. The user's interest must be observed.
    """

    def __init__(self, inner: Recommender, sizes: Sizes) -> None:
        super().__init__()
        self.inner, self.sizes = inner, sizes

    def initial_state(self) -> Value:
        return self.inner.initial_state()

    def next_state(self, before: Value, slate: Value, response: Value, outcome: Value) -> Value:
        return self.inner.next_state(before, slate, response, outcome)

    def offer(self, state: Value, observation: Value, available: Value) -> Value:
        return self.inner.offer(state, observation, available)

    def slate(self, observation: Value, available: Value, offer: Value) -> Value:
        items, provider = offer.get("items"), available.get("provider")
        near = similarity(observation.get("interest"), available.get("features"))
        own = items.unflatten(0, (len(provider), -1))[..., None] == provider[:, None, None]
        best = near[:, None].masked_fill(~own.flatten(0, 1), -torch.inf).max(-1)
        document = torch.where(best.values > -torch.inf, best.indices, -1)
        features = slate_of(available, document).get("features")
        return offer.union(Value(document=document, features=features))

    def specs(self) -> ValueSpec:
        inner, made = self.inner.specs(), slate_specs(self.sizes).as_dict
        offered = {name: Field() for name in inner.get("offer").as_dict}
        return ValueSpec(state=inner.get("state"), offer=inner.get("offer"), slate=ValueSpec(**{**offered, **made}))
