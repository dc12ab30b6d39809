"""Fields that several sessions have in common: drawn once for the group, at an address of the group's own."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from recil.sim.draws import addresses, draw, precision_of, uniforms_needed
from recil.sim.likelihood import per_session


class Shared(Distribution):
    """One value for each group of `members` sessions that stand side by side in the batch.

    base: batch shape [G, ...], one row per group; values are its values. A group draws at the address of its first
    session. ValueError, when drawn, where the batch is not G groups. For a score function, sum rewards and scores over
    a group before they meet: its members act on one another through what they share.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, base: Distribution, members: int) -> None:
        self.base, self.members = base, members
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @constraints.dependent_property
    def support(self) -> Any:
        return self.base.support

    @property
    def mean(self) -> Tensor:
        return self.base.mean

    def log_prob(self, value: Tensor) -> Tensor:
        """[G * members], one per session: the group's at its first session, 0 at the others. Sums count it once."""
        score = per_session(self.base.log_prob(value))[:, None]
        return torch.cat([score, score.new_zeros(len(score), self.members - 1)], 1).flatten()


@precision_of.register
def _(distribution: Shared) -> torch.dtype:
    return precision_of(distribution.base)


@uniforms_needed.register
def _(distribution: Shared) -> int:
    return uniforms_needed(distribution.base)


@addresses.register
def _(distribution: Shared, sessions: Tensor) -> Tensor:
    groups, members = distribution.batch_shape[0], distribution.members
    if len(sessions) != groups * members:
        raise ValueError(f"{len(sessions)} sessions for {groups} groups of {members}; give whole groups")
    return sessions[::members]


@draw.register
def _(distribution: Shared, uniforms: Tensor) -> Tensor:
    return draw(distribution.base, uniforms)
