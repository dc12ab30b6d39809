"""Interest evolution: users whose interests move with what they consume, and a recommender that cannot see them.

For: learning in a world that is only partially observable, where what is clicked now changes what will be liked later.
Items of low quality hold attention and turn interest away from them. Source: RecSim NG's
recsys_partially_observable_rl (Mladenov et al. 2021), after interest evolution in RecSim (Ie et al. 2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from recsim_ng.core.value import Value, ValueSpec
from torch import Tensor
from torch.distributions import Distribution, TransformedDistribution
from torch.distributions.transforms import AffineTransform, SigmoidTransform

from recil.ops.elementwise import sigmoid
from recil.random import Streams
from recil.sim.choice import MultinomialLogit
from recil.sim.choice.affinities import negative_euclidean
from recil.sim.distributions import Certain, Selected
from recil.sim.entity import Entity
from recil.sim.fields import Field, RandomField
from recil.sim.spaces import Integers, Reals
from recil.sim.states.mixture import normal
from recil.sim.worlds.built import BuiltWorld

# Added to minus the distance between interest and item: how far an item may be and still be as good as no click.
AFFINITY_SHIFT = 2.0
MUST_BE_POSITIVE = ("items", "slate_size", "horizon", "topics", "length", "feature_spread", "limit")


@dataclass(frozen=True)
class InterestEvolutionSettings:
    """The world's parameters."""

    items: int = 100
    """Items in the catalogue."""
    slate_size: int = 2
    """Items on a slate."""
    horizon: int = 60
    """Slates per session; nobody leaves before."""
    topics: int = 10
    """Topics, which are the dimensions of items and interests. Seven tenths of them are of negative quality."""
    seed: int = 0
    """Of the catalogue."""
    quality_range: float = 1.0
    """Mean qualities of topics go from minus this to this; qualities have no unit."""
    quality_spread: float = 0.1
    """Standard deviation of an item's quality around its topic's."""
    feature_spread: float = 0.7
    """Standard deviation of an item's features around its topic's corner."""
    length: float = 2.0
    """Length of every item, in units of reward: consuming all of it earns so much."""
    no_click_logit: float = 0.0
    """Log-odds of no click; an item's is its affinity, 2 minus its distance to the interest."""
    step_size: float = 0.1
    """Share of the way to (quality above 0) or away from a consumed item that interest moves, per unit of quality."""
    interest_noise: float = 0.0
    """Standard deviation of a step of interest; 0: steps are certain."""
    limit: float = 10.0
    """Interests stay within twice this; they are squashed after each step, nearly linearly around 0."""

    def __post_init__(self) -> None:
        for name in MUST_BE_POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"interest evolution: {name} = {getattr(self, name)}: wanted above 0")
        if self.slate_size > self.items:
            raise ValueError(f"interest evolution: slate_size = {self.slate_size}: there are {self.items} items")


class TopicCorpus(Entity):
    """Items with a topic, a quality and features around their topic's corner; drawn once from the seed, then fixed."""

    moves = False
    quality: Tensor
    features: Tensor
    length: Tensor
    topic: Tensor

    def __init__(self, settings: InterestEvolutionSettings) -> None:
        super().__init__()
        generator = Streams(settings.seed).generator("interest_evolution.corpus")
        items, topics = settings.items, settings.topics
        negative = int(topics * 0.7)
        means = torch.cat(
            [
                torch.linspace(-settings.quality_range, 0, negative),
                torch.linspace(0, settings.quality_range, topics - negative),
            ]
        )
        topic = torch.randint(topics, (items,), generator=generator)
        self.constant("topic", topic)
        self.constant("quality", means[topic] + settings.quality_spread * torch.randn(items, generator=generator))
        corners = torch.eye(topics)[topic]
        noise = torch.randn(items, topics, generator=generator)
        self.constant("features", corners + settings.feature_spread * noise)
        self.constant("length", torch.full((items,), settings.length))

    def initial_state(self) -> Value:
        return Value()

    def next_state(self, before: Value, slate: Value, response: Value, outcome: Value) -> Value:
        return before

    def available(self, state: Value) -> Value:
        return Value(quality=self.quality, features=self.features, length=self.length)

    def specs(self) -> ValueSpec:
        size = self.features.shape[-1]
        available = ValueSpec(quality=Field(Reals()), features=Field(Reals((size,))), length=Field(Reals(low=0.0)))
        return ValueSpec(state=ValueSpec(), available=available)


def squash(values: Tensor, limit: float) -> Tensor:
    """Nearly the identity around 0, never beyond twice the limit: 4 M (sigmoid(x / M) - 1/2)."""
    return 4 * limit * (sigmoid(values / limit) - 0.5)


def squashed(loc: Tensor, scale: float, limit: float) -> Distribution:
    """The distribution of `squash` of a normal vector."""
    steps = [AffineTransform(0.0, 1 / limit), SigmoidTransform(), AffineTransform(-2 * limit, 4 * limit)]
    return TransformedDistribution(normal(loc, loc.new_tensor(scale)), steps, validate_args=False)


class InterestEvolutionUser(Entity):
    """`batch` users. State: interest [B, D]; response: choice, a position or K for none; outcome: consumed time."""

    everybody: Tensor
    positions: Tensor

    def __init__(self, settings: InterestEvolutionSettings, batch: int) -> None:
        super().__init__()
        self.settings, self.batch = settings, batch
        self.choice = MultinomialLogit(settings.no_click_logit)
        self.constant("everybody", torch.arange(batch))
        self.constant("positions", torch.arange(settings.slate_size))

    def initial_state(self) -> Value:
        size = (self.batch, self.settings.topics)
        return Value(interest=normal(self.like.new_zeros(size), self.like.new_ones(1)))

    def next_state(self, before: Value, slate: Value, response: Value, outcome: Value) -> Value:
        interest, choice = before.get("interest"), response.get("choice")
        consumed = choice < self.settings.slate_size
        place = choice.clamp(max=self.settings.slate_size - 1)
        quality, features = (slate.get(name)[self.everybody, place] for name in ("quality", "features"))
        pace = torch.where(consumed, self.settings.step_size * quality, 0.0)
        return Value(interest=self._around(torch.addcmul(interest, pace[:, None], features - interest), consumed))

    def _around(self, loc: Tensor, consumed: Tensor) -> Distribution:
        stays = Certain(squash(loc, self.settings.limit), 1)
        if not self.settings.interest_noise:
            return stays
        return Selected(consumed, squashed(loc, self.settings.interest_noise, self.settings.limit), stays)

    def observation(self, state: Value) -> Value:
        return Value()

    def response(self, state: Value, slate: Value) -> Value:
        affinity = negative_euclidean(state.get("interest"), slate.get("features"))
        return self.choice.choice(affinity + AFFINITY_SHIFT)

    def outcome(self, state: Value, slate: Value, response: Value) -> Value:
        """reward: [B, K], the time for which the chosen item was consumed, in units of its length; 0 elsewhere."""
        click = response.get("choice")[:, None] == self.positions
        consumed = sigmoid(-slate.get("quality")) * slate.get("length")
        return Value(reward=torch.where(click, consumed, 0.0))

    def specs(self) -> ValueSpec:
        settings = self.settings
        bound = 2 * settings.limit
        return ValueSpec(
            state=ValueSpec(interest=RandomField(Reals((settings.topics,), -bound, bound))),
            observation=ValueSpec(),
            response=ValueSpec(choice=RandomField(Integers(settings.slate_size + 1))),
            outcome=ValueSpec(reward=Field(Reals((settings.slate_size,), 0.0, math.inf))),
        )


def interest_evolution(settings: InterestEvolutionSettings | None = None) -> BuiltWorld:
    """The world of these settings."""
    settings = settings or InterestEvolutionSettings()
    corpus = TopicCorpus(settings)
    # A user's first interest is normal around 0, so that an item is the nearer on average the nearer it is to 0.
    distance = (corpus.features.square().sum(-1) + settings.topics).sqrt()
    consumed = sigmoid(-corpus.quality) * corpus.length
    return BuiltWorld(
        name="interest evolution",
        settings=settings,
        catalogue=settings.items,
        slate_size=settings.slate_size,
        horizon=settings.horizon,
        corpus=lambda batch: TopicCorpus(settings),
        user=lambda batch: InterestEvolutionUser(settings, batch),
        vectors=corpus.features,
        appeal=AFFINITY_SHIFT - distance + consumed.log(),
        item_columns={"topic": corpus.topic},
    )
