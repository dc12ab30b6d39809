"""The expert that a world can be asked for: whoever knows its users shows what they are likeliest to click."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.history import History
from recil.ops.slates import greedy_slates
from recil.policies.environment import Environment
from recil.policies.protocol import Slates
from recil.random import Streams
from recil.sim.behaviour import Catalogue, Mood, Traits
from recil.sim.world import World

# Rows of (session, type, item) whose clicks are worked out at once.
_ROWS_AT_ONCE = 1 << 18


@dataclass(frozen=True, eq=False)
class BestResponse:
    """The items likeliest to be clicked if shown alone, likeliest first; ties to the lower index.

    click_probability: sessions so far -> [B, A]. Greedy: what a slate does to later steps, and what its items do to
    each other, is left out. Slates are certain: log-probabilities are 0 or minus infinity.
    """

    catalogue: int
    click_probability: Callable[[History], Tensor]

    @torch.no_grad()
    def greedy(self, history: History, k: int) -> Tensor:
        """int64 [B, k]."""
        return greedy_slates(self.click_probability(history), k)

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        items = self.greedy(history, k)
        return Slates(items, torch.zeros(items.shape))

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        """[B, K]: 0 for an item that comes next, minus infinity for any other, 0 at pads."""
        shown = slate >= 0
        place = (shown.cumsum(-1) - 1).clamp(min=0)
        best = self.greedy(history, min(max(slate.shape[1], 1), self.catalogue))
        right = best.gather(1, place.clamp(max=best.shape[1] - 1)) == slate
        return torch.where(shown & ~right, -torch.inf, 0.0)


def best_response(world: Environment) -> BestResponse:
    """The policy greedy to the true click probability of the world's users, given what a session has shown of them.

    A world tells it by a method `click_probability(history) -> [B, A]`; that of simulated users is worked out from
    their behaviour. InputError where a world cannot tell.
    """
    told = getattr(world, "click_probability", None)
    if told is not None:
        return BestResponse(world.catalogue, told)
    if isinstance(world, World):
        return BestResponse(world.catalogue, ClicksOfUsers(world))
    raise InputError(
        "best_response",
        f"a {type(world).__name__} does not tell the click probabilities of its users",
        "give an expert policy, or give the world a method click_probability(history) -> [B, A]",
    )


@dataclass(frozen=True, eq=False)
class ClicksOfUsers:
    """[B, A]: the chance that the coming slate is clicked if it holds this item alone, given the session so far.

    Which type a user is of is weighed by what the session has shown; before it, types are as frequent as in the
    sessions that the world's own begin like.
    """

    world: World

    @cached_property
    def _catalogue(self) -> Catalogue:
        users = self.world.users
        return users.behaviour.catalogue(users.item_columns)

    @torch.no_grad()
    def __call__(self, history: History) -> Tensor:
        belief, kinds = self._belief(history), self.world.users.behaviour.layout.types
        rows = max(1, _ROWS_AT_ONCE // (kinds * self.world.catalogue))
        parts = [
            (self._clicks(history.take(chosen)) * belief[chosen][..., None]).sum(1)
            for chosen in torch.arange(history.batch).split(rows)
        ]
        return torch.cat(parts) if parts else belief.new_zeros(0, self.world.catalogue)

    def _belief(self, history: History) -> Tensor:
        """[B, M]: probability of each type. Everybody is still there, or would not be shown anything."""
        users = self.world.users
        prior = users.starts.kinds.double().mean(0).log().expand(history.batch, -1)
        if not history.steps:
            return prior.exp()
        staying = torch.zeros(history.batch, dtype=torch.bool)
        by_kind, _ = users.log_prob(replace(history, terminated=staying, memo={}))
        scores = by_kind.double() + prior
        impossible = torch.isneginf(scores).all(-1, keepdim=True)
        return torch.where(impossible, prior, scores).softmax(-1)

    def _clicks(self, history: History) -> Tensor:
        """[B, M, A]: under each type."""
        behaviour, catalogue = self.world.users.behaviour, self._catalogue
        kinds, items = behaviour.layout.types, self.world.catalogue
        wide = history.take(torch.arange(history.batch).repeat_interleave(kinds))
        traits = behaviour.traits(torch.arange(kinds).repeat(history.batch), wide.user)
        mood = behaviour.mood_at_start(traits)
        for step in range(wide.steps):
            took_place = step < wide.length
            shown = torch.where(took_place[:, None], wide.items[:, step], -1)
            clicks = (wide.reward[:, step] > 0).to(traits.appeal.dtype) * (shown >= 0)
            after = behaviour.advance(catalogue, traits, mood, shown, clicks)
            mood = Mood(*(_where(took_place, new, old) for new, old in zip(after, mood, strict=True)))
        names = [feature.name for feature in behaviour.layout.contexts]
        context = {name: _at(wide.context[name], wide.length).repeat_interleave(items) for name in names}
        traits = Traits(*(part.repeat_interleave(items, 0) for part in traits))
        mood = Mood(*(part.repeat_interleave(items, 0) for part in mood))
        alone = torch.arange(items).repeat(wide.batch)[:, None]
        return behaviour.clicks(catalogue, traits, mood, alone, context).probs.reshape(-1, kinds, items).double()


def _where(rows: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(rows.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _at(values: Tensor, step: Tensor) -> Tensor:
    """values [B, C] at step [B]; the last one known where a session has none of this step."""
    return values.gather(1, step.clamp(max=values.shape[1] - 1)[:, None])[:, 0]
