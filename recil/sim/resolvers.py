"""What gives random fields their values: addressed draws in simulation, observations for a likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution

from recil.random import Streams, uniform_at
from recil.sim.draws import addresses, draw, precision_of, uniforms_needed


class Resolver(Protocol):
    """Turns the distribution in a random field into its value."""

    def resolve(self, name: str, distribution: Distribution, step: int | Tensor) -> Tensor:
        """The value of the field `variable.field` at this step."""
        ...

    def to(self, device: torch.device | None, dtype: torch.dtype | None) -> Resolver:
        """The same resolver on a device, its floating values in a precision."""
        ...


@dataclass(frozen=True)
class Drawn:
    """Addressed draws. sessions: int64 [B], the addresses of the batch's rows.

    A draw depends on (seed, field name, session, step) alone. Where the distribution has a location and a scale it is
    differentiable in both (pathwise gradients).
    """

    streams: Streams
    sessions: Tensor
    _keys: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def resolve(self, name: str, distribution: Distribution, step: int | Tensor) -> Tensor:
        count, dtype = uniforms_needed(distribution), precision_of(distribution)
        if count == 0:
            return draw(distribution, self.sessions.new_empty((len(self.sessions), 0), dtype=dtype))
        if name not in self._keys:
            self._keys[name] = self.streams.keys(name, addresses(distribution, self.sessions))
        return draw(distribution, uniform_at(self._keys[name], step, count, dtype))

    def to(self, device: torch.device | None, dtype: torch.dtype | None) -> Drawn:
        return Drawn(self.streams, self.sessions.to(device))


@dataclass(frozen=True)
class Observed:
    """What was observed; where nothing was (latent fields), another resolver has the word.

    values     field name -> [T, B, ...]
    otherwise  draws latent fields; without it they are refused
    first      the step that row 0 belongs to
    """

    values: Mapping[str, Tensor]
    otherwise: Resolver | None = None
    first: int = 0

    def resolve(self, name: str, distribution: Distribution, step: int | Tensor) -> Tensor:
        if name in self.values:
            return self.values[name][step - self.first]
        if self.otherwise is None:
            raise ValueError(
                f"field '{name}' is random and was not observed; observed: {', '.join(sorted(self.values))}. Give"
                " `otherwise=` to draw it"
            )
        return self.otherwise.resolve(name, distribution, step)

    def to(self, device: torch.device | None, dtype: torch.dtype | None) -> Observed:
        def moved(values: Tensor) -> Tensor:
            return values.to(device, dtype if values.is_floating_point() else None)

        otherwise = None if self.otherwise is None else self.otherwise.to(device, dtype)
        return Observed({name: moved(values) for name, values in self.values.items()}, otherwise, self.first)
