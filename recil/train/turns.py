"""Over large catalogues the reference is asked by turns: of some sessions in this step, of others in the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recil.ops.policy_pass import Coefficient, PolicyPass

# Fewer steps than these are no basis for a mean, however large the catalogue.
FEWEST_STEPS = 1024

# Rows of the steps that took place, and their coefficients -> what a pass over them finds.
Pass = Callable[[slice | Tensor, Coefficient], PolicyPass]


@dataclass(frozen=True)
class Turn:
    """sessions: bool [B], those held against the reference; steps: bool [N], theirs, of the steps that took place."""

    sessions: Tensor
    steps: Tensor
    whole: bool

    @staticmethod
    def of(took_place: Tensor, every: int, turn: int) -> Turn:
        """Every so many sessions, from the `turn`-th on; took_place: bool [B, T]."""
        sessions = torch.arange(len(took_place), device=took_place.device) % every == turn % every
        return Turn(sessions, sessions[:, None].expand_as(took_place)[took_place], every == 1)

    @staticmethod
    def within(most: int, logits: int, took_place: Tensor, turn: int) -> Turn:
        """The most sessions whose logits (so many a step) are no more than `most`, or `FEWEST_STEPS` steps."""
        steps = int(took_place.sum())
        every = min(-(-steps * logits // most), len(took_place), steps // FEWEST_STEPS)
        return Turn.of(took_place, max(1, every), turn)

    def run(self, beside: Pass, alone: Pass, coefficient: Coefficient) -> PolicyPass:
        """Slates of all steps; means over the steps beside the reference. beside, alone: a pass with it and without."""
        if self.whole:
            return beside(slice(None), coefficient)
        asked, others = self.steps.nonzero()[:, 0], (~self.steps).nonzero()[:, 0]
        found = beside(asked, _at(coefficient, asked))
        rest = alone(others, _at(coefficient, others))
        log_prob = found.log_prob.new_empty((len(self.steps), *found.log_prob.shape[1:]))
        log_prob[asked], log_prob[others] = found.log_prob, rest.log_prob
        return found._replace(loss=found.loss + rest.loss, log_prob=log_prob)


def _at(coefficient: Coefficient, places: Tensor) -> Coefficient:
    """The coefficients of some rows, whose slices count those rows alone."""
    return lambda rows, log_prob: coefficient(places[rows], log_prob)
