"""Latent variables to be learned: users with an aim nobody sees, who judge whether slates get closer to it.

For: learning a user model from what users do, and recommending to users whose aim has to be inferred. A user's intent
is a point near one of the unit vectors, drawn once; satisfaction follows s' = sensitivity s + improvement + noise, the
improvement being that of the slate's best item over the slate before; items are chosen by affinity + 2 + satisfaction.

Two stories. `latent_variable` shows items of a fixed catalogue and is an environment for policies. `learning_story`
shows documents drawn afresh at every step, and takes a sensitivity that is to be learned. Source: RecSim NG's
latent_variable_model_learning (Mladenov et al. 2021), which has the second story.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from recsim_ng.core.value import Value, ValueSpec
from recsim_ng.core.variable import Variable
from torch import Tensor
from torch.distributions import Independent, Normal

from recil.random import Streams
from recil.sim.choice import MultinomialLogit
from recil.sim.choice.affinities import negative_euclidean
from recil.sim.distributions import Certain
from recil.sim.entity import Entity
from recil.sim.fields import Field, RandomField
from recil.sim.recommendation import recommendation_story
from recil.sim.spaces import Integers, Reals
from recil.sim.states import GaussianMixture
from recil.sim.worlds.built import BuiltWorld
from recil.sim.worlds.parameters import keep, refuse

WORLD = "latent variable"
# Added to minus the distance between intent and item, so that items near the intent are of positive utility.
UTILITY_SHIFT = 2.0


@dataclass(frozen=True)
class LatentVariableSettings:
    """The world's parameters."""

    items: int = 100
    """Items in the catalogue; the learning story has none."""
    slate_size: int = 4
    """Items on a slate."""
    horizon: int = 20
    """Slates per session; nobody leaves before."""
    topics: int = 3
    """Topics, which are the dimensions of items and intents; intents gather around the unit vector of each."""
    seed: int = 0
    """Of the catalogue."""
    document_spread: float = 0.5
    """Standard deviation of an item's features around 0, in each dimension."""
    intent_spread: float = math.sqrt(0.1)
    """Standard deviation of an intent around its unit vector, in each dimension."""
    initial_satisfaction: float = 5.0
    """Satisfaction before the first slate, in log-odds of choosing an item over none."""
    sensitivity: float = 0.8
    """Share of the satisfaction that is left at the next slate, from 0 to 1."""
    satisfaction_noise: float = 0.01
    """Standard deviation of a step of satisfaction, in log-odds."""
    no_click_logit: float = 0.0
    """Log-odds of choosing nothing; an item's are 2, minus its distance to the intent, plus satisfaction."""

    def __post_init__(self) -> None:
        positive = (
            "items",
            "slate_size",
            "horizon",
            "topics",
            "document_spread",
            "intent_spread",
            "satisfaction_noise",
        )
        refuse(WORLD, self, "a number above 0", ((name, 0 < getattr(self, name) < math.inf) for name in positive))
        refuse(WORLD, self, "a finite number", [("initial_satisfaction", math.isfinite(self.initial_satisfaction))])
        refuse(WORLD, self, "0 to 1", [("sensitivity", 0 <= self.sensitivity <= 1)])
        refuse(WORLD, self, "a number, or minus infinity", [("no_click_logit", self.no_click_logit < math.inf)])
        refuse(WORLD, self, f"at most items, {self.items}", [("slate_size", self.slate_size <= self.items)])


class Documents(Entity):
    """A catalogue of items with normal features, drawn once from the seed. Available: features, [A, D]."""

    moves = False
    features: Tensor

    def __init__(self, settings: LatentVariableSettings) -> None:
        super().__init__()
        generator = Streams(settings.seed).generator("latent_variable.corpus")
        noise = torch.randn(settings.items, settings.topics, generator=generator)
        self.constant("features", settings.document_spread * noise)

    def initial_state(self) -> Value:
        return Value()

    def next_state(self, before: Value, slate: Value, response: Value, outcome: Value) -> Value:
        return before

    def available(self, state: Value) -> Value:
        return Value(features=self.features)

    def specs(self) -> ValueSpec:
        size = self.features.shape[-1]
        return ValueSpec(state=ValueSpec(), available=ValueSpec(features=Field(Reals((size,)))))


class NoCatalogue(Entity):
    """A corpus without items: the recommender brings its own."""

    moves = False

    def initial_state(self) -> Value:
        return Value()

    def next_state(self, before: Value, slate: Value, response: Value, outcome: Value) -> Value:
        return before

    def available(self, state: Value) -> Value:
        return Value()

    def specs(self) -> ValueSpec:
        return ValueSpec(state=ValueSpec(), available=ValueSpec())


class FreshDocuments(Entity):
    """Shows documents drawn for this slate alone: features [B, K, D], normal around 0. `items` are their positions."""

    def __init__(self, settings: LatentVariableSettings, batch: int) -> None:
        super().__init__()
        self.settings, self.batch = settings, batch

    def initial_state(self) -> Value:
        return Value()

    def next_state(self, before: Value, slate: Value, response: Value, outcome: Value) -> Value:
        return before

    def offer(self, state: Value, observation: Value, available: Value) -> Value:
        settings = self.settings
        loc = self.like.new_zeros(self.batch, settings.slate_size, settings.topics)
        features = Normal(loc, torch.full_like(loc, settings.document_spread), validate_args=False)
        positions = torch.arange(settings.slate_size, device=loc.device).repeat(self.batch, 1)
        return Value(features=Independent(features, 2, validate_args=False), items=positions)

    def specs(self) -> ValueSpec:
        size, topics = self.settings.slate_size, self.settings.topics
        offer = ValueSpec(features=RandomField(Reals((size, topics))), items=Field(Integers(size, (size,))))
        return ValueSpec(state=ValueSpec(), offer=offer)


class LatentVariableUser(Entity):
    """`batch` users. State: intent [B, D], satisfaction [B], and best [B], the utility of the last slate's best item.

    sensitivity: in place of the settings', a number, a tensor [] or [B], or a parameter to be learned. The response is
    a choice, a position or K for none.
    """

    sensitivity: Tensor | float

    def __init__(self, settings: LatentVariableSettings, batch: int, sensitivity: Tensor | float | None = None) -> None:
        super().__init__()
        self.settings, self.batch = settings, batch
        keep(self, "sensitivity", settings.sensitivity if sensitivity is None else sensitivity, batch)
        topics = settings.topics
        self.intent = GaussianMixture(batch, torch.zeros(1, topics), torch.eye(topics)[None], settings.intent_spread)
        self.choice = MultinomialLogit(settings.no_click_logit)

    def initial_state(self) -> Value:
        satisfaction = self.like.new_full((self.batch,), self.settings.initial_satisfaction)
        return Value(
            intent=self.intent.initial_state().get("state"),
            satisfaction=Certain(satisfaction),
            best=torch.zeros_like(satisfaction),
        )

    def next_state(self, before: Value, slate: Value, response: Value, outcome: Value) -> Value:
        intent, best_before = before.get("intent"), before.get("best")
        best = self.utility(intent, slate).amax(-1)
        best = torch.where(best > -torch.inf, best, best_before)  # nothing shown, nothing improved
        loc = self.sensitivity * before.get("satisfaction") + (best - best_before)
        noise = torch.full_like(loc, self.settings.satisfaction_noise)
        return Value(
            intent=self.intent.next_state(Value(state=intent)).get("state"),
            satisfaction=Normal(loc, noise, validate_args=False),
            best=best,
        )

    def utility(self, intent: Tensor, slate: Value) -> Tensor:
        """[B, K], 2 minus the distance between intent and item; minus infinity where nothing is shown."""
        utility = negative_euclidean(intent, slate.get("features")) + UTILITY_SHIFT
        return utility.masked_fill(slate.get("items") < 0, -torch.inf)

    def observation(self, state: Value) -> Value:
        return Value()

    def response(self, state: Value, slate: Value) -> Value:
        return self.choice.choice(self.utility(state.get("intent"), slate) + state.get("satisfaction")[:, None])

    def outcome(self, state: Value, slate: Value, response: Value) -> Value:
        """reward: [B, K], 1 for the chosen item, 0 elsewhere."""
        positions = torch.arange(self.settings.slate_size, device=self.like.device)
        return Value(reward=(response.get("choice")[:, None] == positions).to(self.like.dtype))

    def specs(self) -> ValueSpec:
        size = self.settings.slate_size
        return ValueSpec(
            state=ValueSpec(
                intent=self.intent.specs().get("state"), satisfaction=RandomField(Reals()), best=Field(Reals())
            ),
            observation=ValueSpec(),
            response=self.choice.specs(size),
            outcome=ValueSpec(reward=Field(Reals((size,), 0.0, 1.0))),
        )


def learning_story(
    settings: LatentVariableSettings, batch: int, sensitivity: Tensor | float | None = None
) -> list[Variable]:
    """The variables of `batch` users who meet documents drawn for each slate. sensitivity: see LatentVariableUser."""
    user = LatentVariableUser(settings, batch, sensitivity)
    return recommendation_story(NoCatalogue(), user, FreshDocuments(settings, batch))


def latent_variable(settings: LatentVariableSettings | None = None) -> BuiltWorld:
    """The world of these settings, with a fixed catalogue."""
    settings = settings or LatentVariableSettings()
    corpus = Documents(settings)
    # From an intent as far from its unit vector as it is on average in the square.
    squared = (corpus.features[:, None] - torch.eye(settings.topics)).square().sum(-1)
    distance = (squared + settings.topics * settings.intent_spread**2).sqrt()
    return BuiltWorld(
        name=WORLD,
        settings=settings,
        catalogue=settings.items,
        slate_size=settings.slate_size,
        horizon=settings.horizon,
        corpus=lambda batch: Documents(settings),
        user=lambda batch: LatentVariableUser(settings, batch),
        vectors=corpus.features,
        appeal=UTILITY_SHIFT - distance.mean(-1),
    )
