"""The simulated user's behaviour: who they are, what they feel, what they click, when they leave.

Each behaviour returns a distribution. The same methods simulate (the runtime draws) and fit (the runtime scores), so
there is one probability of a click in the whole project. Rows of a batch are sessions; all tensors lead with [B].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli
from torch.nn import functional as F

from recil.policies.inputs import Feature
from recil.random import Streams
from recil.sim.choice import CascadeClicks, IndependentClicks, SlateChoice
from recil.sim.features import Effects
from recil.sim.feedback import Answers, FeedbackHeads

NEVER = -1e4  # log-odds of what cannot happen, finite so that gradients stay finite

ChoiceName = Literal["multinomial", "cascade", "independent"]


@dataclass(frozen=True)
class UserLayout:
    """The shape of a user's behaviour: what must be known before it has parameters.

    choice: multinomial or cascade (at most one click per slate) or independent (each item by itself). leaves: whether
    users can leave (a log of single steps cannot tell). hazard_steps: steps with a leaving rate of their own. window:
    slates that users remember item by item. items, users, contexts: the side columns in use; feedback: the kinds of
    answer that users give beside the click.
    """

    catalogue: int
    slate_size: int
    types: int
    dimension: int
    choice: ChoiceName
    leaves: bool
    hazard_steps: int
    window: int = 0
    items: tuple[Feature, ...] = ()
    users: tuple[Feature, ...] = ()
    contexts: tuple[Feature, ...] = ()
    feedback: tuple[Feature, ...] = ()


class Catalogue(NamedTuple):
    """vectors: [A, D]; direction: [A, D], unit length; appeal: [A], log-odds."""

    vectors: Tensor
    direction: Tensor
    appeal: Tensor


class Traits(NamedTuple):
    """What stays: home [B, D], the interest a user comes with; appeal [B], readiness to click; hazard [B], to leave."""

    home: Tensor
    appeal: Tensor
    hazard: Tensor


class Mood(NamedTuple):
    """What changes: interest [B, D]; fatigue [B, D], recent exposure by direction; impatience [B], steps in vain.

    recent: int64 [B, window * K], the items of the last slates, newest first, -1 pad; taken: float, the clicks on them.
    """

    interest: Tensor
    fatigue: Tensor
    impatience: Tensor
    recent: Tensor
    taken: Tensor


class Behaviour(nn.Module):
    """Users with drifting interest, fatigue and patience. Effects start at zero, item vectors at random."""

    def __init__(self, layout: UserLayout, streams: Streams | None = None) -> None:
        super().__init__()
        self.layout = layout
        generator = (streams or Streams(0)).generator("users.initial")
        size, kinds = layout.dimension, layout.types
        self.item_vector = nn.Parameter(torch.randn(layout.catalogue, size, generator=generator) * 0.1)
        self.item_appeal = nn.Parameter(torch.zeros(layout.catalogue))
        self.item_effects = Effects(layout.items, 1 + size)
        self.user_effects = Effects(layout.users, 2 + size)
        self.context_effects = Effects(layout.contexts, 1)
        self.answers = FeedbackHeads(layout.feedback)
        self.position = nn.Parameter(torch.zeros(layout.slate_size))
        self.appeal = nn.Parameter(torch.zeros(()))
        self.type_logit = nn.Parameter(torch.zeros(kinds))
        self.type_home = nn.Parameter(torch.randn(kinds, size, generator=generator) * 0.5)
        self.type_appeal = nn.Parameter(torch.linspace(-0.5, 0.5, kinds) if kinds > 1 else torch.zeros(1))
        self.type_hazard = nn.Parameter(torch.zeros(kinds))
        self.click_gain = nn.Parameter(torch.tensor(0.1))
        self.skip_gain = nn.Parameter(torch.zeros(()))
        self.reversion = nn.Parameter(torch.tensor(-2.0))
        self.fatigue_strength = nn.Parameter(torch.tensor(-1.0))
        self.fatigue_decay = nn.Parameter(torch.tensor(0.0))
        remembers = layout.window > 0
        self.repeat_seen = nn.Parameter(torch.zeros(())) if remembers else None
        self.repeat_taken = nn.Parameter(torch.zeros(())) if remembers else None
        self.repeat_decay = nn.Parameter(torch.tensor(1.0)) if remembers else None
        self.continuation = nn.Parameter(torch.tensor(2.0)) if layout.choice == "cascade" else None
        self.patience_decay = nn.Parameter(torch.tensor(1.0))
        self.hazard = nn.Parameter(torch.tensor(-1.5))
        self.hazard_impatience = nn.Parameter(torch.zeros(()))
        self.hazard_click = nn.Parameter(torch.zeros(()))
        self.hazard_step = nn.Parameter(torch.zeros(layout.hazard_steps))

    def catalogue(self, item_columns: Mapping[str, Tensor]) -> Catalogue:
        """Vectors and appeal of all items, from their own parameters and their columns ([A] or [A, M])."""
        effects = self.item_effects(item_columns, self.item_appeal)
        vectors = self.item_vector + effects[:, 1:]
        return Catalogue(vectors, F.normalize(vectors, dim=-1, eps=1e-6), self.item_appeal + effects[:, 0])

    def type_log_prior(self) -> Tensor:
        """[M]: log-probability of each type among the users of the log."""
        return torch.log_softmax(self.type_logit, -1)

    def traits(self, kind: Tensor, user_columns: Mapping[str, Tensor]) -> Traits:
        """Traits of users of these types. kind: int64 [B]; user_columns: name -> [B]."""
        effects = self.user_effects(user_columns, kind)
        return Traits(
            home=self.type_home[kind] + effects[:, 2:],
            appeal=self.appeal + self.type_appeal[kind] + effects[:, 0],
            hazard=self.hazard + self.type_hazard[kind] + effects[:, 1],
        )

    def mood_at_start(self, traits: Traits) -> Mood:
        """The mood users come with: interested in what they like, rested, patient."""
        rested, patient = torch.zeros_like(traits.home), torch.zeros_like(traits.appeal)
        taken = traits.appeal.new_zeros(len(traits.appeal), self.layout.window * self.layout.slate_size)
        return Mood(traits.home, rested, patient, torch.full_like(taken, -1, dtype=torch.int64), taken)

    def repeat_effect(self, mood: Mood, items: Tensor) -> Tensor | float:
        """[B, K]: what having seen, and having clicked, these very items of late adds to their appeal, in log-odds.

        The last slate weighs most. Weights sum to 1, so that no number of showings adds more than was ever fitted.
        """
        if self.repeat_seen is None or self.repeat_taken is None or self.repeat_decay is None:
            return 0.0
        fading = torch.sigmoid(self.repeat_decay) ** torch.arange(self.layout.window, device=items.device)
        share = (fading / fading.sum()).repeat_interleave(self.layout.slate_size)
        weight = (items[:, :, None] == mood.recent[:, None]) * share
        return self.repeat_seen * weight.sum(-1) + self.repeat_taken * (weight * mood.taken[:, None]).sum(-1)

    def appeal_of(
        self, catalogue: Catalogue, traits: Traits, mood: Mood, items: Tensor, context: Mapping[str, Tensor]
    ) -> Tensor:
        """[B, K]: log-odds of each shown item against no click. items: int64 [B, K]; context: name -> [B]."""
        index = items.clamp(min=0)
        liked = (catalogue.vectors[index] * mood.interest[:, None]).sum(-1)
        tired = (catalogue.direction[index] * mood.fatigue[:, None]).sum(-1)
        base = traits.appeal + self.context_effects(context, traits.appeal)[:, 0]
        position = self.position[: items.shape[-1]]
        appeal = base[:, None] + catalogue.appeal[index] + liked - F.softplus(self.fatigue_strength) * tired + position
        return appeal + self.repeat_effect(mood, items)

    def clicks(
        self, catalogue: Catalogue, traits: Traits, mood: Mood, items: Tensor, context: Mapping[str, Tensor]
    ) -> SlateChoice | IndependentClicks | CascadeClicks:
        """The distribution of clicks on a slate, [B, K]."""
        appeal, shown = self.appeal_of(catalogue, traits, mood, items, context), items >= 0
        if self.continuation is not None:
            return CascadeClicks(appeal, shown, torch.sigmoid(self.continuation).expand(len(items)))
        return (SlateChoice if self.layout.choice == "multinomial" else IndependentClicks)(appeal, shown)

    def feedback(
        self,
        catalogue: Catalogue,
        traits: Traits,
        mood: Mood,
        items: Tensor,
        context: Mapping[str, Tensor],
        clicks: Tensor,
    ) -> dict[str, Answers]:
        """Each kind of feedback on the items of a slate, given the clicks on it."""
        if not self.layout.feedback:
            return {}
        return self.answers(self.appeal_of(catalogue, traits, mood, items, context).detach(), items >= 0, clicks)

    def advance(self, catalogue: Catalogue, traits: Traits, mood: Mood, items: Tensor, clicks: Tensor) -> Mood:
        """The mood after a slate and what was clicked on it; clicks: float [B, K].

        Interest moves towards what was clicked, away from what was passed over, and back home; fatigue gathers the
        directions shown; impatience counts steps without a click. All three fade at rates of their own.
        """
        shown = (items >= 0).to(clicks.dtype)
        index = items.clamp(min=0)
        count = shown.sum(-1, keepdim=True).clamp(min=1)
        vectors = catalogue.vectors[index]
        clicked = (vectors * clicks[..., None]).sum(1)
        skipped = (vectors * (shown - clicks)[..., None]).sum(1) / count
        interest = torch.lerp(mood.interest, traits.home, torch.sigmoid(self.reversion))
        interest = interest + self.click_gain * clicked - self.skip_gain * skipped
        seen = (catalogue.direction[index] * shown[..., None]).sum(1) / count
        fatigue = torch.sigmoid(self.fatigue_decay) * (mood.fatigue + seen)
        any_click = clicks.sum(-1).clamp(max=1)
        impatience = torch.sigmoid(self.patience_decay) * (mood.impatience + 1) * (1 - any_click)
        width = self.layout.window * self.layout.slate_size
        recent = torch.cat([items, mood.recent], 1)[:, :width]
        taken = torch.cat([clicks.to(mood.taken.dtype), mood.taken], 1)[:, :width]
        return Mood(interest, fatigue, impatience, recent, taken)

    def leaving(self, traits: Traits, after: Mood, items: Tensor, clicks: Tensor, step: int) -> Bernoulli:
        """Whether the user leaves after this slate, given the mood it left them in. Never where nothing was shown."""
        if not self.layout.leaves:
            return Bernoulli(logits=torch.full_like(traits.hazard, NEVER), validate_args=False)
        any_click = clicks.sum(-1).clamp(max=1)
        at_step = self.hazard_step[min(step, self.layout.hazard_steps - 1)]
        logit = traits.hazard + at_step + self.hazard_impatience * after.impatience + self.hazard_click * any_click
        return Bernoulli(logits=torch.where((items >= 0).any(-1), logit, NEVER), validate_args=False)
