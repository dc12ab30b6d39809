"""One step of a plan: values of this step from those of the one before, random fields resolved, some of them scored."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any

import torch
from recsim_ng.core.value import Value
from torch import Tensor
from torch.distributions import Distribution

from recil.sim.fields import resolving
from recil.sim.guard import naming, watching
from recil.sim.likelihood import per_session
from recil.sim.plan import NetworkValue, Node, Plan
from recil.sim.resolvers import Resolver


@dataclass
class Step:
    """A step in progress.

    scored  names of random fields whose log-probability is wanted
    frozen  no gradient flows through drawn values: the score function takes its place
    """

    resolver: Resolver | None
    number: int | Tensor
    scored: Set[str] = frozenset()
    frozen: bool = False
    scores: dict[str, Tensor] = field(default_factory=dict)
    distributions: dict[str, Distribution] = field(default_factory=dict)

    def anew(self, number: int | Tensor) -> Step:
        """Another step that resolves and scores alike, with nothing resolved yet."""
        return Step(self.resolver, number, self.scored, self.frozen)

    @property
    def total(self) -> Tensor | float:
        """[B]: the log-probability of all that was scored; the number 0 if nothing was."""
        return torch.stack(list(self.scores.values())).sum(0) if self.scores else 0.0

    def resolve(self, name: str, distribution: Distribution) -> Tensor:
        """The value of a random field, of the distribution's own shape."""
        if self.resolver is None:
            raise ValueError(f"random field '{name}' needs a resolver: Drawn or Observed")
        value = self.resolver.resolve(name, distribution, self.number)
        expected = distribution.batch_shape + distribution.event_shape
        if value.shape != expected:
            raise ValueError(f"field '{name}': value {tuple(value.shape)}, its distribution has {tuple(expected)}")
        if self.frozen:
            value = value.detach()
        if name in self.scored:
            self.scores[name] = per_session(distribution.log_prob(value))
            self.distributions[name] = distribution
        return value


def begin(plan: Plan, step: Step, *, checked: bool) -> dict[str, Value]:
    """The values at step 0. checked: every field is met by its spec, every function watched (recil.sim.guard)."""
    return _compute(plan.initial, {}, {}, step, checked)


def advance(plan: Plan, before: NetworkValue, step: Step, *, checked: bool = False) -> dict[str, Value]:
    """The values one step after `before`."""
    still = {name: before[name] for name in plan.still}
    return _compute(plan.moving, still, before, step, checked)


def _compute(
    nodes: tuple[Node, ...],
    current: dict[str, Value],
    previous: NetworkValue,
    step: Step,
    checked: bool,
) -> dict[str, Value]:
    with resolving(step):
        for node in nodes:
            arguments = node.arguments(current, previous)
            made = _made(node, arguments, watched=checked)
            current[node.name] = node.variable.typecheck(made) if checked else _resolved(node, made, step)
    return current


def _made(node: Node, arguments: list[Value], watched: bool) -> Any:
    with naming(node.name):
        if not watched:
            return node.function(*arguments)
        with watching(node.name, arguments):
            return node.function(*arguments)


def _resolved(node: Node, made: Value, step: Step) -> Value:
    """What RecSim NG's typecheck makes of a value whose specs have been met before: random fields get their values."""
    if not node.random:
        return made
    fields = made.as_dict
    for name in node.random:
        fields[name] = step.resolve(f"{node.name}.{name}", fields[name])
    return Value(**fields)
