"""The provider ecosystem: users share providers, whose clicks decide how many documents they can offer later.

For: recommenders whose slates change what there is to recommend. What is shown to one user is clicked, what is clicked
is published more, and providers that nobody clicks go silent, for all the users of the population. A recommender that
shows the nearest document now starves providers that would be worth something to others. Source: RecSim NG's
ecosystem_simulation (Mladenov et al. 2021, "RecSim NG: toward principled uncertainty modeling for recommender
ecosystems").

Stories with documents on slates: `world.story(world.myopic(batch), batch)`; there RecSim NG's reward is the field
`utility`. As an Environment the catalogue is the providers: a slate names providers, and shows of each the document of
the moment that is nearest to the user, or nothing to click where it has none.

Reward is 1 for a consumed document whose utility is above 0, which is that of consuming nothing, and 0 otherwise.
Utility itself is feedback. As a reward it would teach to show providers that have gone silent: users always consume one
of the documents they see, most utilities are negative, and nothing to consume is worth 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from recsim_ng.core.value import Value, ValueSpec
from recsim_ng.core.variable import Variable
from torch import Tensor
from torch.distributions import Normal

from recil.sim.choice import MultinomialLogit
from recil.sim.choice.affinities import negative_euclidean
from recil.sim.distributions import Certain
from recil.sim.entity import Entity
from recil.sim.fields import Field, RandomField
from recil.sim.metrics import RewardMetrics
from recil.sim.recommendation import Recommender, SlateMaker, recommendation_story
from recil.sim.recommenders.documents import INDIFFERENCE, BestDocuments
from recil.sim.recommenders.myopic import MyopicRecommender
from recil.sim.spaces import Integers, Reals
from recil.sim.states import GaussianMixture
from recil.sim.worlds.built import BuiltWorld
from recil.sim.worlds.ecosystem_corpus import WORLD, EcosystemSettings, ProviderCorpus


def _users_around(settings: EcosystemSettings) -> tuple[Tensor, Tensor, Tensor]:
    """The mixture of interests: logits [providers], means [providers, topics], standard deviations [providers]."""
    means = settings.provider_means()
    distance = 1 + torch.linalg.vector_norm(means, dim=-1)
    return -distance.log(), means, settings.user_spread / distance


class EcosystemUser(Entity):
    """`batch` users who stay what they are, and always consume one of the documents they see, if there is one.

    State: interest [B, D], which is observed. Response: choice, a position or K for none; surprise [B], what the
    document turns out to be worth beyond what was to be expected. Outcome: consumed, utility and reward, [B, K].
    RecSim NG's ClusteredNormalUserCoreDispersion, whose interest_step_size is 0.
    """

    def __init__(self, settings: EcosystemSettings, batch: int) -> None:
        super().__init__()
        self.settings, self.batch = settings, batch
        logits, means, spreads = _users_around(settings)
        self.interests = GaussianMixture(batch, logits[None], means[None], spreads[None])
        self.choice = MultinomialLogit(-math.inf)

    def initial_state(self) -> Value:
        return Value(interest=self.interests.mixture())

    def next_state(self, before: Value, slate: Value, response: Value, outcome: Value) -> Value:
        return Value(interest=Certain(before.get("interest"), 1))

    def observation(self, state: Value) -> Value:
        return state

    def _expected(self, state: Value, slate: Value) -> Tensor:
        """[B, K]: expected utility, minus infinity where there is no document."""
        near = INDIFFERENCE + negative_euclidean(state.get("interest"), slate.get("features"))
        return near.masked_fill(slate.get("document") < 0, -torch.inf)

    def response(self, state: Value, slate: Value) -> Value:
        choice = self.choice.choice(self._expected(state, slate)).get("choice")
        none = self.like.new_zeros(self.batch)
        return Value(choice=choice, surprise=Normal(none, none + self.settings.utility_spread, validate_args=False))

    def outcome(self, state: Value, slate: Value, response: Value) -> Value:
        positions = torch.arange(self.settings.slate_size, device=self.like.device)
        consumed = response.get("choice")[:, None] == positions
        utility = self._expected(state, slate) + response.get("surprise")[:, None]
        return Value(
            consumed=consumed.to(utility.dtype),
            utility=torch.where(consumed, utility, 0.0),
            reward=(consumed & (utility > 0)).to(utility.dtype),
        )

    def specs(self) -> ValueSpec:
        size, topics = (self.settings.slate_size,), (self.settings.topics,)
        flags = Reals(size, 0.0, 1.0)
        return ValueSpec(
            state=ValueSpec(interest=RandomField(Reals(topics))),
            observation=ValueSpec(interest=Field(Reals(topics))),
            response=ValueSpec(choice=RandomField(Integers(size[0] + 1)), surprise=RandomField(Reals())),
            outcome=ValueSpec(consumed=Field(flags), utility=Field(Reals(size)), reward=Field(flags)),
        )


class EcosystemMetrics(RewardMetrics):
    """Beside the rewards: utility and cumulative_utility, [B], which are RecSim NG's UtilityAsRewardMetrics."""

    def first(self, user: Value, slate: Value, response: Value, outcome: Value) -> Value:
        utility = outcome.get("utility").sum(-1)
        rewards = super().first(user, slate, response, outcome)
        return rewards.union(Value(utility=utility, cumulative_utility=utility))

    def next(self, before: Value, user: Value, slate: Value, response: Value, outcome: Value) -> Value:
        utility = outcome.get("utility").sum(-1)
        rewards = super().next(before, user, slate, response, outcome)
        return rewards.union(Value(utility=utility, cumulative_utility=before.get("cumulative_utility") + utility))

    def specs(self) -> ValueSpec:
        return super().specs().union(ValueSpec(utility=Field(Reals()), cumulative_utility=Field(Reals())))


@dataclass(frozen=True)
class EcosystemWorld(BuiltWorld):
    """The world as an Environment of providers. Sessions of one population are not independent of one another."""

    def story(self, recommender: Recommender, batch: int) -> list[Variable]:
        """The variables of the world, metrics included. A recommender of items has its providers' documents shown."""
        if not isinstance(recommender, SlateMaker):
            recommender = BestDocuments(recommender, self.settings.sizes)
        return recommendation_story(self.corpus(batch), self.user(batch), recommender, EcosystemMetrics())

    def myopic(self, batch: int) -> MyopicRecommender:
        """RecSim NG's recommender for `batch` users, with the settings' boost."""
        return MyopicRecommender(batch, self.settings.sizes, self.settings.boost_cap)


def ecosystem(settings: EcosystemSettings | None = None) -> EcosystemWorld:
    """The world of these settings."""
    settings = settings or EcosystemSettings()
    logits, means, spreads = _users_around(settings)
    # The mean square distance between users of each kind and documents of each provider: [kinds, providers].
    squares = torch.cdist(means, means).square() + settings.topics * (
        spreads[:, None].square() + settings.document_spread**2
    )
    return EcosystemWorld(
        name=WORLD,
        settings=settings,
        catalogue=settings.providers,
        slate_size=settings.slate_size,
        horizon=settings.horizon,
        corpus=lambda batch: ProviderCorpus(settings, batch),
        user=lambda batch: EcosystemUser(settings, batch),
        vectors=means,
        appeal=INDIFFERENCE - (logits.softmax(0) @ squares.sqrt()),
        feedback=("consumed", "utility"),
        population=settings.population,
    )
