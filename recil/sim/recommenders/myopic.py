"""A recommender that shows what is nearest to the user now, and helps providers that were consumed less than others."""

from __future__ import annotations

import torch
from recsim_ng.core.value import Value, ValueSpec
from torch.distributions import Uniform

from recil.sim.entity import Entity
from recil.sim.fields import Field, RandomField
from recil.sim.recommenders.documents import Sizes, clicks_of_providers, similarity, slate_of, slate_specs
from recil.sim.spaces import Reals


class MyopicRecommender(Entity):
    """Shows each of `batch` users the documents of highest score: similarity plus a random share of a boost.

    A provider's boost is how many clicks fewer it had so far than the average provider of the population, within
    `boost_cap` to both sides; each user draws for each document which share of it counts. ValueError for a batch of
    populations that are not whole, for slates longer than there are documents, and for a cap below 0.

    RecSim NG's MyopicRecommender (ecosystem_simulation). It draws the score itself, uniform between the similarity and
    the boosted one, which it moves by 1e-4 to keep them apart; here the share is drawn, and its density never vanishes.
    """

    def __init__(self, batch: int, sizes: Sizes, boost_cap: float) -> None:
        super().__init__()
        if sizes.slate_size > sizes.documents:
            raise ValueError(f"slate_size = {sizes.slate_size}: there are {sizes.documents} documents")
        if not boost_cap >= 0:
            raise ValueError(f"boost_cap = {boost_cap}: wanted 0 or more")
        self.batch, self.groups = batch, sizes.groups(batch)
        self.sizes, self.boost_cap = sizes, boost_cap

    def initial_state(self) -> Value:
        return Value(pulls=self.like.new_zeros(self.groups, self.sizes.providers))

    def next_state(self, before: Value, slate: Value, response: Value, outcome: Value) -> Value:
        clicks = clicks_of_providers(slate.get("items"), outcome.get("consumed"), self.groups, self.sizes.providers)
        return Value(pulls=before.get("pulls") + clicks)

    def offer(self, state: Value, observation: Value, available: Value) -> Value:
        """similarity: [B, M]; boost: [G, M]; share: [B, M] in (0, 1)."""
        pulls = state.get("pulls")
        lack = (pulls.mean(-1, keepdim=True) - pulls).clamp(-self.boost_cap, self.boost_cap)
        none = self.like.new_zeros(self.batch, self.sizes.documents)
        return Value(
            similarity=similarity(observation.get("interest"), available.get("features")),
            boost=lack.gather(1, available.get("provider")),
            share=Uniform(none, none + 1, validate_args=False),
        )

    def slate(self, observation: Value, available: Value, offer: Value) -> Value:
        boost = offer.get("boost").repeat_interleave(self.sizes.population, 0)
        score = torch.addcmul(offer.get("similarity"), offer.get("share"), boost)
        return slate_of(available, score.topk(self.sizes.slate_size).indices)

    def specs(self) -> ValueSpec:
        size = (self.sizes.documents,)
        return ValueSpec(
            state=ValueSpec(pulls=Field(Reals((self.sizes.providers,), 0.0))),
            offer=ValueSpec(
                similarity=Field(Reals(size)),
                boost=Field(Reals(size)),
                share=RandomField(Reals(size, 0.0, 1.0)),
            ),
            slate=slate_specs(self.sizes),
        )
