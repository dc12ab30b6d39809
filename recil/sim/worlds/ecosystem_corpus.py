"""What the provider ecosystem is made of: its parameters, its providers and the documents that they publish."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from recsim_ng.core.value import Value, ValueSpec
from torch import Tensor
from torch.distributions import Categorical

from recil.random import Streams
from recil.sim.entity import Entity
from recil.sim.fields import Field, RandomField
from recil.sim.recommenders.documents import Sizes, clicks_of_providers
from recil.sim.shared import Shared
from recil.sim.spaces import Integers, Reals
from recil.sim.states.mixture import normal
from recil.sim.worlds.parameters import refuse

WORLD = "ecosystem"


@dataclass(frozen=True)
class EcosystemSettings:
    """The world's parameters."""

    providers: int = 80
    """Providers of documents: the catalogue that policies choose from."""
    topics: int = 2
    """Topics, which are the dimensions of documents and interests."""
    means: tuple[tuple[float, ...], ...] | None = None
    """Where each provider's documents lie on average, one number per topic; None: drawn from the seed, in clusters."""
    seed: int = 0
    """Of the providers' means."""
    cluster_size: int = 2
    """Providers around one cluster's centre."""
    cluster_spread: float = 8.0
    """Standard deviation of the clusters' centres around the origin, in each topic."""
    provider_spread: float = math.sqrt(0.5)
    """Standard deviation of providers' means around their cluster's centre, in each topic."""
    documents_per_provider: int = 5
    """Documents at any one time, per provider on average; which provider has how many is drawn anew for each slate."""
    document_spread: float = 1.0
    """Standard deviation of documents around their provider's mean, in each topic."""
    gamma: float = 2.0
    """Power of one plus a provider's click count that its share of the documents is proportional to; 0: all alike."""
    discount: float = 0.96
    """Share of a provider's click count that is left at the next slate."""
    user_spread: float = 20.5
    """Standard deviation of interests around a provider at the origin, in each topic; elsewhere it is this divided by
    one plus the provider's distance from the origin, and there are as many times fewer users."""
    utility_spread: float = 1.0
    """Standard deviation of the utility of a document around 2 minus its distance from the interest."""
    slate_size: int = 3
    """Documents on a slate."""
    boost_cap: float = 1.2
    """The most that the myopic recommender moves a document's score for its provider's sake, in units of distance."""
    population: int = 64
    """Users who share the providers and click their counts up; sessions are simulated in whole populations."""
    horizon: int = 60
    """Slates per session; nobody leaves before."""

    def __post_init__(self) -> None:
        counts = (
            "providers",
            "topics",
            "cluster_size",
            "documents_per_provider",
            "slate_size",
            "population",
            "horizon",
        )
        refuse(WORLD, self, "1 or more", ((name, getattr(self, name) >= 1) for name in counts))
        positive = ("document_spread", "user_spread", "utility_spread")
        refuse(WORLD, self, "a number above 0", ((name, 0 < getattr(self, name) < math.inf) for name in positive))
        others = ("cluster_spread", "provider_spread", "gamma", "boost_cap")
        refuse(WORLD, self, "0 or more", ((name, 0 <= getattr(self, name) < math.inf) for name in others))
        refuse(WORLD, self, "0 to 1", [("discount", 0 <= self.discount <= 1)])
        refuse(WORLD, self, f"at most providers, {self.providers}", [("slate_size", self.slate_size <= self.providers)])
        refuse(WORLD, self, f"{self.providers} rows of {self.topics} finite numbers", [("means", self._means_fit())])

    def _means_fit(self) -> bool:
        if self.means is None:
            return True
        sizes = [len(row) for row in self.means]
        return sizes == [self.topics] * self.providers and all(math.isfinite(x) for row in self.means for x in row)

    @property
    def sizes(self) -> Sizes:
        documents = self.providers * self.documents_per_provider
        return Sizes(self.population, self.providers, documents, self.topics, self.slate_size)

    def provider_means(self) -> Tensor:
        """float32 [providers, topics]."""
        if self.means is not None:
            return torch.tensor(self.means, dtype=torch.float32)
        generator = Streams(self.seed).generator("ecosystem.providers")
        clusters = -(-self.providers // self.cluster_size)
        centres = self.cluster_spread * torch.randn(clusters, self.topics, generator=generator)
        around = self.provider_spread * torch.randn(self.providers, self.topics, generator=generator)
        return centres.repeat_interleave(self.cluster_size, 0)[: self.providers] + around


class ProviderCorpus(Entity):
    """Documents of the moment. Clicks earn a provider documents in later slates, and are forgotten little by little.

    State: clicks, [G, providers], discounted; provider, int64 [G, M], who publishes each document of this slate.
    Available: that provider, and features, [G, M, D]. Each population has providers of its own. RecSim NG's
    ViableCorpus.
    """

    moves = True
    means: Tensor

    def __init__(self, settings: EcosystemSettings, batch: int) -> None:
        super().__init__()
        self.settings, self.sizes, self.groups = settings, settings.sizes, settings.sizes.groups(batch)
        self.constant("means", settings.provider_means())

    def _published(self, clicks: Tensor) -> Value:
        logits = (self.settings.gamma * clicks.log1p())[:, None].expand(-1, self.sizes.documents, -1)
        provider = Categorical(logits=logits, validate_args=False)
        return Value(clicks=clicks, provider=Shared(provider, self.sizes.population))

    def initial_state(self) -> Value:
        return self._published(self.like.new_zeros(self.groups, self.sizes.providers))

    def next_state(self, before: Value, slate: Value, response: Value, outcome: Value) -> Value:
        new = clicks_of_providers(slate.get("items"), outcome.get("consumed"), self.groups, self.sizes.providers)
        return self._published(self.settings.discount * before.get("clicks") + new)

    def available(self, state: Value) -> Value:
        provider = state.get("provider")
        features = normal(self.means[provider], self.like.new_tensor(self.settings.document_spread))
        return Value(provider=provider, features=Shared(features, self.sizes.population))

    def specs(self) -> ValueSpec:
        size = (self.sizes.documents,)
        providers = Integers(self.sizes.providers, size)
        return ValueSpec(
            state=ValueSpec(clicks=Field(Reals((self.sizes.providers,), 0.0)), provider=RandomField(providers)),
            available=ValueSpec(provider=Field(providers), features=RandomField(Reals((*size, self.sizes.topics)))),
        )
