"""A PyTorch runtime for RecSim NG networks: simulate them, or score what was observed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import torch
from recsim_ng.core.network import Network
from recsim_ng.core.value import Value
from recsim_ng.lib.runtime import Runtime
from torch import Tensor
from torch.distributions import Distribution

from recil.random import Streams
from recil.sim.draws import draw, uniforms_needed
from recil.sim.fields import RandomField, Resolver, resolving

NetworkValue = Mapping[str, Value]


@dataclass
class Drawn:
    """Resolves random fields by addressed draws. sessions: int64 [B], the addresses of the batch's rows."""

    streams: Streams
    sessions: Tensor
    step: int = 0

    def resolve(self, name: str, distribution: Distribution) -> Tensor:
        dtype = getattr(distribution, "probs", self.sessions.new_empty(0, dtype=torch.float32)).dtype
        count = uniforms_needed(distribution)
        return draw(distribution, self.streams.uniform(name, self.sessions, self.step, count, dtype))


@dataclass
class Observed:
    """Resolves random fields by what was observed, and keeps the log-probability of it.

    values: field name -> [T, B, ...]. distributions: field name -> what each step's value was scored under.
    """

    values: Mapping[str, Tensor]
    step: int = 0
    scores: dict[str, list[Tensor]] = field(default_factory=dict)
    distributions: dict[str, list[Distribution]] = field(default_factory=dict)

    def resolve(self, name: str, distribution: Distribution) -> Tensor:
        if name not in self.values:
            raise ValueError(
                f"field '{name}' is random and was not observed; observed: {', '.join(sorted(self.values))}"
            )
        value = self.values[name][self.step]
        self.scores.setdefault(name, []).append(distribution.log_prob(value))
        self.distributions.setdefault(name, []).append(distribution)
        return value


@dataclass(frozen=True)
class LogProb:
    """Log-probability of an observed trajectory.

    fields: name -> [T, B]; distributions: name -> the T distributions that the observed values were scored under.
    """

    fields: Mapping[str, Tensor]
    distributions: Mapping[str, list[Distribution]]

    @property
    def by_step(self) -> Tensor:
        """[T, B], summed over fields."""
        return torch.stack(list(self.fields.values())).sum(0)

    @property
    def accumulated(self) -> Tensor:
        """[T, B]: of everything up to and including each step."""
        return self.by_step.cumsum(0)

    @property
    def total(self) -> Tensor:
        """[B]."""
        return self.by_step.sum(0)


class TorchRuntime(Runtime):
    """Runs a RecSim NG `Network` whose fields are torch tensors and distributions.

    resolver: what gives random fields their values while `execute` and `steps` run; not needed without random fields.
    """

    def __init__(self, network: Network, resolver: Resolver | None = None) -> None:
        self._network = network
        self._resolver = resolver
        self._random: set[str] = set()
        for variable in network.variables:
            for name, spec in variable.spec.as_dict.items():
                if isinstance(spec, RandomField):
                    spec.bind(f"{variable.name}.{name}")
                    self._random.add(f"{variable.name}.{name}")

    def steps(self, start: NetworkValue | None = None, resolver: Resolver | None = None) -> Iterator[NetworkValue]:
        """The values at step 0, 1, 2, ...: step 0 is `start`, or the network's initial value. Endless."""
        resolver = resolver if resolver is not None else self._resolver
        number = 0
        while True:
            if start is None:
                start = self._advance(resolver, number, None)
            elif number:
                start = self._advance(resolver, number, start)
            yield start
            number += 1

    def _advance(self, resolver: Resolver | None, number: int, previous: NetworkValue | None) -> NetworkValue:
        if resolver is None:
            if self._random:
                raise ValueError(
                    f"random fields ({', '.join(sorted(self._random))}) need a resolver: Drawn or Observed"
                )
            return self._network.initial_step() if previous is None else self._network.step(previous)
        resolver.step = number  # type: ignore[attr-defined]
        with resolving(resolver):
            return self._network.initial_step() if previous is None else self._network.step(previous)

    def execute(self, num_steps: int, starting_value: NetworkValue | None = None) -> NetworkValue:
        """The value `num_steps` steps after `starting_value` (step 0)."""
        for number, value in enumerate(self.steps(starting_value)):
            if number == num_steps:
                return value
        raise AssertionError("steps() is endless")

    def trajectory(self, length: int, starting_value: NetworkValue | None = None) -> NetworkValue:
        """`length` values from `starting_value` (the first) on, with a leading time axis [T, ...] in every field."""
        values = list(islice(self.steps(starting_value), length))

        def stacked(name: str) -> Value:
            columns = {
                key: [torch.as_tensor(value[name].get(key)) for value in values] for key in values[0][name].as_dict
            }
            return Value(**{key: torch.stack(column) for key, column in columns.items()})

        return {name: stacked(name) for name in values[0]}

    def log_prob(self, observed: Mapping[str, Tensor], length: int) -> LogProb:
        """Log-probability of what was observed in T = `length` steps: field name (`variable.field`) -> [T, B, ...]."""
        unknown = sorted(set(observed) - self._random)
        if unknown:
            raise ValueError(f"observed {unknown} match no random field; those are {sorted(self._random)}")
        short = {name: value.shape[0] for name, value in observed.items() if value.shape[0] != length}
        if short:
            raise ValueError(f"observed values must have {length} steps, these have others: {short}")
        resolver = Observed(observed)
        for _ in islice(self.steps(resolver=resolver), length):
            pass
        return LogProb({name: torch.stack(scores) for name, scores in resolver.scores.items()}, resolver.distributions)
