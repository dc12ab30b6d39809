"""Multinomial logit choice models: a softmax over the items' scores and a no-choice option."""

from __future__ import annotations

import torch
from recsim_ng.core.value import Value, ValueSpec
from torch import Tensor

from recil.sim.choice.alternatives import index_spec, or_no_choice, with_no_choice
from recil.sim.choice.index import OneOf
from recil.sim.choice.iterated import IteratedChoice
from recil.sim.entity import Entity


def _moves(bias: Tensor) -> bool:
    """Whether a bias has to be added: not if it is 0 and stays so."""
    return bias.requires_grad or bool((bias != 0).any())


def _moved_by_position(scores: Tensor, bias: Tensor) -> Tensor:
    positions = torch.arange(scores.shape[-1], dtype=scores.dtype, device=scores.device)
    return scores + positions * bias


class MultinomialLogit(Entity):
    """One choice or none, with probability proportional to exp(score).

    no_choice_logit: a number or [B]; positional_bias: a number, added once per position below the first, and not to no
    choice. The value is a position, int64 [B], with K for no choice. McFadden (1974); RecSim NG's
    MultinomialLogitChoiceModel.
    """

    no_choice_logit: Tensor
    positional_bias: Tensor

    def __init__(self, no_choice_logit: Tensor | float, positional_bias: Tensor | float = 0.0) -> None:
        super().__init__()
        self.constant("no_choice_logit", no_choice_logit)
        self.constant("positional_bias", positional_bias)
        self._possible = bool(torch.isfinite(self.no_choice_logit).all())
        self._biased = _moves(self.positional_bias)

    def choice(self, scores: Tensor) -> Value:
        """scores: [B, K], −∞ for what cannot be chosen; where nothing can be, the choice is no choice."""
        scores = _moved_by_position(scores, self.positional_bias) if self._biased else scores
        logits = with_no_choice(scores, self.no_choice_logit)
        return Value(choice=OneOf(logits if self._possible else or_no_choice(logits)))

    def specs(self, slate_size: int | None = None) -> ValueSpec:
        """A fresh spec of `choice`, for one session. slate_size: K, where it is known."""
        return index_spec(slate_size)


class IteratedMultinomialLogit(Entity):
    """`count` choices in order, each a multinomial logit over what is left; no choice, too, is picked at most once.

    no_choice_logit and positional_bias as in MultinomialLogit. The value is positions, int64 [B, count], with K for no
    choice. RecSim NG's IteratedMultinomialLogitChoiceModel.
    """

    no_choice_logit: Tensor
    positional_bias: Tensor

    def __init__(self, count: int, no_choice_logit: Tensor | float, positional_bias: Tensor | float = 0.0) -> None:
        super().__init__()
        self.count = count
        self.constant("no_choice_logit", no_choice_logit)
        self.constant("positional_bias", positional_bias)

    def choice(self, scores: Tensor) -> Value:
        """scores: [B, K], −∞ for what cannot be chosen; where nothing is left, the choice is no choice again."""
        logits = with_no_choice(_moved_by_position(scores, self.positional_bias), self.no_choice_logit)
        return Value(choice=IteratedChoice(logits, self.count))

    def specs(self, slate_size: int | None = None) -> ValueSpec:
        """A fresh spec of `choice`, for one session. slate_size: K, where it is known."""
        return index_spec(slate_size, (self.count,))
