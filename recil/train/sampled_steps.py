"""Policy-gradient steps over a large catalogue: a policy and its clone, seen through the same few items."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recil.logs.history import History
from recil.ops.policy_pass import Coefficient, PolicyPass, Reference
from recil.ops.proposal import Proposal
from recil.ops.sampled_pass import Columns, Costs, sampled_pass
from recil.policies.softmax import SoftmaxPolicy
from recil.policies.touched import Touched
from recil.random import Streams
from recil.train.policy_loss import log_propensity
from recil.train.rows import Tables
from recil.train.turns import Turn

# Of a clone's logits, so many in a step are enough: what is done beside them takes three times as long as without.
REFERENCE_LOGITS = 1 << 21


@dataclass(frozen=True)
class SampledSteps:
    """What stands for the catalogue, drawn anew for each step, and the tables that the steps move."""

    proposal: Proposal
    streams: Streams
    tables: Tables

    def look(
        self,
        policy: SoftmaxPolicy,
        clone: SoftmaxPolicy | None,
        sessions: History,
        purpose: str,
        step: int,
        learn: bool = False,
    ) -> Seen:
        """Policy and clone on these sessions. learn: `tables` then knows which rows gather gradients."""
        assert clone is not None, "negatives are for finetuning, which has a clone"
        sample = self.proposal.draw(self.streams.child("negatives"), purpose, step).to(sessions.items.device)
        touched = Touched.of(policy, sessions, sample.items, learn)
        if learn:
            self.tables.touched = touched
        small = touched.relabelled(sessions)
        took_place = small.happened & small.shown.any(-1)
        states, head = touched.call(lambda some: (some.encode(small), some.head()))
        # Propensities that the log lacks are the clone's, of all sessions.
        asked = (
            Turn.of(took_place, 1, step)
            if sessions.propensity is None
            else Turn.within(REFERENCE_LOGITS, len(sample.items), took_place, step)
        )
        few = small if asked.whole else small.take(asked.sessions.nonzero()[:, 0])
        with torch.no_grad():
            beside = Touched.of(clone, sessions, sample.items)
            states_of_clone, head_of_clone = beside.call(lambda some: (some.before_steps(few), some.head()))
        reference = Reference(states_of_clone[took_place[asked.sessions]], *head_of_clone)
        columns = Columns(touched.places(sample.items), sample.log_weight)
        return Seen(small, took_place, states, head, asked, reference, columns)


@dataclass(frozen=True)
class Seen:
    """sessions: over the few items; took_place: bool [B, T]; states: [B, T + 1, D]; head: vectors and biases.

    clone: at the steps of the sessions whose turn it is (`asked`).
    """

    sessions: History
    took_place: Tensor
    states: Tensor
    head: tuple[Tensor, Tensor]
    asked: Turn
    clone: Reference
    columns: Columns

    def run(self, coefficient: Coefficient, kl: float, entropy: float) -> PolicyPass:
        """See `recil.train.policy_loss.guarded`."""
        states, slates = self.states[:, :-1][self.took_place], self.sessions.items[self.took_place]

        def beside(rows: slice | Tensor, some: Coefficient) -> PolicyPass:
            parts = states[rows], slates[rows], *self.head, self.columns
            return sampled_pass(*parts, some, self.clone, Costs(kl, entropy))

        def alone(rows: slice | Tensor, some: Coefficient) -> PolicyPass:
            return sampled_pass(states[rows], slates[rows], *self.head, self.columns, some)

        return self.asked.run(beside, alone, coefficient)

    @torch.no_grad()
    def log_prob(self) -> Tensor:
        """The policy's, [B, T, K], 0 at pads."""
        return self._scores(self.states[:, :-1][self.took_place], *self.head)

    @torch.no_grad()
    def behaviour(self, sessions: History) -> Tensor:
        """log beta: the log's, or the clone's against the same items, whose errors then cancel in the ratio."""
        return self._scores(*self.clone) if sessions.propensity is None else log_propensity(sessions)

    def _scores(self, states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        slates = self.sessions.items[self.took_place]
        found = sampled_pass(states, slates, weight, bias, self.columns, _nothing).log_prob
        return found.new_zeros(self.sessions.items.shape).index_put((self.took_place,), found)


def _nothing(rows: slice | Tensor, log_prob: Tensor) -> Tensor:
    return torch.zeros_like(log_prob)
