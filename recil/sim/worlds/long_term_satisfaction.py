"""Long-term satisfaction: clickbait (chocolate) earns more at once, quality (kale) earns more in the long run.

For: rewards that a recommender earns later, by what the user has been fed, and that a greedy one never sees. Every item
consumed moves the user's net exposure to kale, x' = discount x - 2 (clickbait - 1/2) + noise; satisfaction is
sigmoid(sensitivity x), and the log of engagement is normal around satisfaction times a mean that is higher for choc.
Nothing of the state is shown: it has to be read off engagement.

Source: RecSim's long_term_satisfaction environment (Ie et al. 2019, "RecSim: a configurable simulation platform for
recommender systems"). There users always consume the first item; here they choose from the slate by its clickbait, or
nothing. RecSim's own users (discount 0.7, sensitivity 0.01) are so little moved that choc stays ahead for ever; here
the discount is 0.9 and the sensitivity 0.1. `RECSIM` has the original.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from recsim_ng.core.value import Value, ValueSpec
from torch import Tensor
from torch.distributions import Distribution, LogNormal, Normal, Uniform

from recil.ops.elementwise import sigmoid
from recil.sim.choice import MultinomialLogit, chosen
from recil.sim.distributions import Certain, Selected
from recil.sim.entity import Entity
from recil.sim.fields import Field, RandomField
from recil.sim.spaces import Flags, Integers, Reals
from recil.sim.worlds.built import BuiltWorld
from recil.sim.worlds.parameters import keep, refuse

WORLD = "long-term satisfaction"


@dataclass(frozen=True)
class LongTermSatisfactionSettings:
    """The world's parameters."""

    items: int = 100
    """Items in the catalogue; their clickbait goes in equal steps from 0 (the first, all kale) to 1 (the last)."""
    slate_size: int = 2
    """Items on a slate."""
    horizon: int = 60
    """Slates per session."""
    time_budget: int | None = None
    """Items after whose consumption a user leaves; None: nobody leaves before the horizon."""
    attraction: float = 1.0
    """Log-odds of a click that an item of all choc has over one of all kale, whose log-odds are 0."""
    no_click_logit: float = 0.0
    """Log-odds of no click; minus infinity: something is always consumed."""
    memory_discount: float = 0.9
    """Share of the exposure that is left when the next item has been consumed."""
    sensitivity: float = 0.1
    """Log-odds of satisfaction per unit of exposure; exposure is counted in items of all kale."""
    innovation_noise: float = 0.05
    """Standard deviation of a step of exposure; 0: steps are certain."""
    initial_exposure: float = 5.0
    """Sessions begin with an exposure between minus this and this, each as likely. RecSim: 0.5 / (1 - discount)."""
    choc_mean: float = 5.0
    """Mean log of the engagement with all choc, for a user with satisfaction 1; that with 0 has mean 0."""
    choc_spread: float = 1.0
    """Standard deviation of the log of engagement with all choc."""
    kale_mean: float = 4.0
    """As choc_mean, for all kale."""
    kale_spread: float = 1.0
    """As choc_spread, for all kale."""

    def __post_init__(self) -> None:
        positive = ("items", "slate_size", "horizon", "initial_exposure", "choc_spread", "kale_spread")
        refuse(WORLD, self, "a number above 0", ((name, 0 < getattr(self, name) < math.inf) for name in positive))
        finite = ("attraction", "sensitivity", "choc_mean", "kale_mean")
        refuse(WORLD, self, "a finite number", ((name, math.isfinite(getattr(self, name))) for name in finite))
        refuse(WORLD, self, "0 or more", [("innovation_noise", 0 <= self.innovation_noise < math.inf)])
        refuse(WORLD, self, "0 to below 1", [("memory_discount", 0 <= self.memory_discount < 1)])
        refuse(WORLD, self, "a number, or minus infinity", [("no_click_logit", self.no_click_logit < math.inf)])
        refuse(WORLD, self, "1 or more, or None", [("time_budget", self.time_budget is None or self.time_budget >= 1)])
        refuse(WORLD, self, f"at most items, {self.items}", [("slate_size", self.slate_size <= self.items)])


RECSIM = LongTermSatisfactionSettings(
    slate_size=1,
    no_click_logit=-math.inf,
    time_budget=60,
    memory_discount=0.7,
    sensitivity=0.01,
    initial_exposure=0.5 / (1 - 0.7),
)
"""The parameters of RecSim's users, on slates of one item, which they always consume."""


class ClickbaitCorpus(Entity):
    """Items from all kale to all choc. Available: clickbait, [A], from 0 to 1."""

    moves = False
    clickbait: Tensor

    def __init__(self, settings: LongTermSatisfactionSettings) -> None:
        super().__init__()
        self.constant("clickbait", torch.linspace(0.0, 1.0, settings.items))

    def initial_state(self) -> Value:
        return Value()

    def next_state(self, before: Value, slate: Value, response: Value, outcome: Value) -> Value:
        return before

    def available(self, state: Value) -> Value:
        return Value(clickbait=self.clickbait)

    def specs(self) -> ValueSpec:
        return ValueSpec(state=ValueSpec(), available=ValueSpec(clickbait=Field(Reals((), 0.0, 1.0))))


class Engagement(Selected):
    """A lognormal number where an item is consumed, 0 elsewhere. consumed: bool [B, K]; loc, scale: [B, K]."""

    def __init__(self, consumed: Tensor, loc: Tensor, scale: Tensor) -> None:
        super().__init__(consumed, LogNormal(loc, scale, validate_args=False), Certain(torch.zeros_like(loc)))

    def log_prob(self, value: Tensor) -> Tensor:
        """[B, K]; minus infinity for engagement with what is not consumed, and for none with what is."""
        engaged = self.condition & (value > 0)
        # The density of a lognormal at 0 has no gradient, and one that is not a number would spread from there.
        density = self.chosen.log_prob(torch.where(engaged, value, 1.0))
        return torch.where(engaged, density, torch.where(self.condition, -torch.inf, self.other.log_prob(value)))


class LongTermSatisfactionUser(Entity):
    """`batch` users. State: exposure [B] and the items consumed so far [B]; response: choice, a position, K for none.

    discount, sensitivity: in place of the settings', a number, a tensor [] or [B], or a parameter to be learned.
    """

    discount: Tensor | float
    sensitivity: Tensor | float

    def __init__(
        self,
        settings: LongTermSatisfactionSettings,
        batch: int,
        discount: Tensor | float | None = None,
        sensitivity: Tensor | float | None = None,
    ) -> None:
        super().__init__()
        self.settings, self.batch = settings, batch
        keep(self, "discount", settings.memory_discount if discount is None else discount, batch)
        keep(self, "sensitivity", settings.sensitivity if sensitivity is None else sensitivity, batch)
        self.choice = MultinomialLogit(settings.no_click_logit)

    def satisfaction(self, exposure: Tensor) -> Tensor:
        """[B], from 0 to 1. exposure: [B]."""
        return sigmoid(self.sensitivity * exposure)

    def initial_state(self) -> Value:
        bound = self.like.new_full((self.batch,), self.settings.initial_exposure)
        nothing = torch.zeros_like(bound, dtype=torch.int64)
        return Value(exposure=Uniform(-bound, bound, validate_args=False), consumed=nothing)

    def next_state(self, before: Value, slate: Value, response: Value, outcome: Value) -> Value:
        exposure, choice = before.get("exposure"), response.get("choice")
        clickbait = chosen(slate.at("clickbait"), choice, 0.5).get("clickbait")
        consumed = self._consumes(choice)
        moved = self._around(self.discount * exposure - 2 * (clickbait - 0.5))
        return Value(
            exposure=Selected(consumed, moved, Certain(exposure)),
            consumed=before.get("consumed") + consumed,
        )

    def _consumes(self, choice: Tensor) -> Tensor:
        return choice < self.settings.slate_size

    def _around(self, loc: Tensor) -> Distribution:
        noise = self.settings.innovation_noise
        return Normal(loc, torch.full_like(loc, noise), validate_args=False) if noise else Certain(loc)

    def observation(self, state: Value) -> Value:
        return Value()

    def response(self, state: Value, slate: Value) -> Value:
        scores = self.settings.attraction * slate.get("clickbait")
        return self.choice.choice(scores.masked_fill(slate.get("items") < 0, -torch.inf))

    def outcome(self, state: Value, slate: Value, response: Value) -> Value:
        """reward: [B, K], a distribution of the engagement with each item, 0 but for the chosen; leaves: [B]."""
        settings, choice, clickbait = self.settings, response.get("choice"), slate.get("clickbait")
        consumed = choice[:, None] == torch.arange(settings.slate_size, device=choice.device)
        mean = settings.kale_mean + clickbait * (settings.choc_mean - settings.kale_mean)
        scale = settings.kale_spread + clickbait * (settings.choc_spread - settings.kale_spread)
        engagement = Engagement(consumed, self.satisfaction(state.get("exposure"))[:, None] * mean, scale)
        if settings.time_budget is None:
            return Value(reward=engagement)
        spent = state.get("consumed") + self._consumes(choice)
        return Value(reward=engagement, leaves=spent >= settings.time_budget)

    def specs(self) -> ValueSpec:
        settings = self.settings
        leaves = {} if settings.time_budget is None else {"leaves": Field(Flags())}
        return ValueSpec(
            state=ValueSpec(exposure=RandomField(Reals()), consumed=Field(Integers(settings.horizon + 1))),
            observation=ValueSpec(),
            response=self.choice.specs(settings.slate_size),
            outcome=ValueSpec(reward=RandomField(Reals((settings.slate_size,), 0.0, math.inf)), **leaves),
        )


def long_term_satisfaction(settings: LongTermSatisfactionSettings | None = None) -> BuiltWorld:
    """The world of these settings."""
    settings = settings or LongTermSatisfactionSettings()
    corpus = ClickbaitCorpus(settings)
    # A user of whom nothing is known is half satisfied.
    log_engagement = 0.5 * (settings.kale_mean + corpus.clickbait * (settings.choc_mean - settings.kale_mean))
    return BuiltWorld(
        name=WORLD,
        settings=settings,
        catalogue=settings.items,
        slate_size=settings.slate_size,
        horizon=settings.horizon,
        corpus=lambda batch: ClickbaitCorpus(settings),
        user=lambda batch: LongTermSatisfactionUser(settings, batch),
        vectors=corpus.clickbait[:, None],
        appeal=settings.attraction * corpus.clickbait + log_engagement,
        item_columns={"clickbait": corpus.clickbait},
    )
