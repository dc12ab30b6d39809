"""A PyTorch runtime for RecSim NG networks: simulate them, or score what was observed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from recsim_ng.core.network import Network
from recsim_ng.core.value import Value
from recsim_ng.lib.runtime import Runtime
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as checkpointed

from recil.sim.compiled import Compiled
from recil.sim.likelihood import LogProb
from recil.sim.pack import apart
from recil.sim.plan import NetworkValue, modules_of, plan_of
from recil.sim.resolvers import Observed, Resolver
from recil.sim.stepping import Step, advance, begin


class TorchRuntime(Runtime):
    """Runs a RecSim NG `Network` whose fields are torch tensors and distributions.

    resolver    gives random fields their values while the network runs: Drawn, Observed; not needed without any
    compiled    run steps as compiled code where that is possible; the same numbers up to rounding
    checkpoint  while gradients are recorded, keep only every so many steps and compute those between again; 0: keep all

    Gradients follow torch's own mode. Under `torch.no_grad()` there are none; otherwise they are pathwise: they flow
    through the draws of locations and scales. `score_function` is for draws that cannot carry them. Where gradients
    are recorded, steps run eagerly.

    Steps are numbered. `at` is the number of a starting value: a simulation that goes on from it draws what an
    uninterrupted one would.
    """

    def __init__(
        self, network: Network, resolver: Resolver | None = None, *, compiled: bool = False, checkpoint: int = 0
    ) -> None:
        self._network, self._resolver, self._checkpoint = network, resolver, checkpoint
        self._plan = plan_of(network)
        self._compiled = Compiled(self._plan, resolver) if compiled else None
        self._checked = False

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The torch modules behind the story, by class name: what can be moved and trained."""
        return modules_of(self._network)

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> TorchRuntime:
        """The runtime on a device and in a precision; it moves the story's modules in place."""
        place = None if device is None else torch.device(device)
        for module in self.modules.values():
            module.to(device=place, dtype=dtype)
        for spec in self._plan.specs:
            spec.forget()
        resolver = None if self._resolver is None else self._resolver.to(place, dtype)
        compiled = self._compiled is not None
        return TorchRuntime(self._network, resolver, compiled=compiled, checkpoint=self._checkpoint)

    def steps(
        self, start: NetworkValue | None = None, resolver: Resolver | None = None, *, at: int = 0
    ) -> Iterator[NetworkValue]:
        """The values at step 0, 1, 2, ...: step 0 is `start`, or the network's initial value. Endless.

        A story's first two steps are checked against its specs and watched for draws that bypass the resolver. Values
        that do not change are not copied: do not change them in place.
        """
        for value, _ in self._walk(start, at, Step(resolver or self._resolver, at)):
            yield value

    def _walk(self, start: NetworkValue | None, at: int, like: Step) -> Iterator[tuple[NetworkValue, Step]]:
        """Values step by step, each with the step that made it; what `like` scores and freezes, they do."""
        if like.resolver is None and self._plan.random:
            raise ValueError(
                f"random fields ({', '.join(sorted(self._plan.random))}) need a resolver: Drawn or Observed"
            )
        step, fresh = like.anew(at), not self._checked
        value = start if start is not None else begin(self._plan, step, checked=fresh)
        yield value, step
        step = like.anew(at + 1)
        value = advance(self._plan, value, step, checked=fresh)
        self._checked = True
        yield value, step
        for number in range(at + 2, 2**62):
            step = like.anew(number)
            value = advance(self._plan, value, step)
            yield value, step

    def execute(self, num_steps: int, starting_value: NetworkValue | None = None, *, at: int = 0) -> NetworkValue:
        """The value `num_steps` steps after `starting_value`, which is step number `at`.

        Nothing of the result shares memory with the starting value or with the story. Memory does not grow with the
        number of steps, unless gradients are recorded.
        """
        return self._run(num_steps, starting_value, at, Step(self._resolver, at))[0]

    def score_function(
        self,
        num_steps: int,
        starting_value: NetworkValue | None = None,
        *,
        at: int = 0,
        fields: Collection[str] | None = None,
    ) -> tuple[NetworkValue, Tensor]:
        """As `execute`, with the log-probability [B] of what was drawn on the way in `fields` (None: all random).

        No gradient flows through draws; it is in the log-probability. With r the reward in the value returned, the
        gradient of mean(r.detach() * log_prob + r) is an unbiased estimate of that of its expectation (Williams 1992).
        """
        self._check_random(fields or ())
        scored = self._plan.random if fields is None else frozenset(fields)
        return self._run(num_steps, starting_value, at, Step(self._resolver, at, scored, frozen=True))

    def _run(self, num_steps: int, start: NetworkValue | None, at: int, like: Step) -> tuple[NetworkValue, Tensor]:
        """The value after some steps, and the summed log-probability of what `like` scores."""
        if num_steps < 0:
            raise ValueError(f"num_steps = {num_steps}: wanted 0 or more")
        compiled = None if like.scored else self._compiled
        if compiled is not None and self._checked and start is None and not torch.is_grad_enabled():
            value = compiled.run(compiled.begin(at), at, num_steps)
            return _apart(value), torch.zeros(())
        walk = self._walk(start, at, like)
        taken = list(islice(walk, 1 + min(num_steps, 1)))  # these are checked, so they are taken eagerly
        value, total = taken[-1][0], torch.zeros(()) + sum(step.total for _, step in taken)
        at, left = at + len(taken) - 1, num_steps - len(taken) + 1
        recorded = torch.is_grad_enabled() and (bool(like.scored) or _carries_gradient(value))
        if compiled is not None and not recorded:
            value = compiled.run(value, at, left)
        elif self._checkpoint and recorded:
            value, total = self._in_segments(value, total, like, at, left)
        else:
            for value, step in islice(walk, left):  # noqa: B007 (the last value is the result)
                total = total + step.total
        return _apart(value), total

    def _in_segments(
        self, value: NetworkValue, total: Tensor, like: Step, at: int, num_steps: int
    ) -> tuple[NetworkValue, Tensor]:
        def segment(value: NetworkValue, total: Tensor, first: int, end: int) -> tuple[NetworkValue, Tensor]:
            for number in range(first, end):
                step = like.anew(number)
                value = advance(self._plan, value, step)
                total = total + step.total
            return value, total

        first, end = at + 1, at + 1 + num_steps
        for begins in range(first, end, self._checkpoint):
            ends = min(begins + self._checkpoint, end)
            # Draws are functions of their address: computed again they are the same, whatever state generators are in.
            value, total = checkpointed(
                segment, value, total, begins, ends, use_reentrant=False, preserve_rng_state=False
            )
        return value, total

    def trajectory(
        self,
        length: int,
        starting_value: NetworkValue | None = None,
        *,
        at: int = 0,
        variables: Collection[str] | None = None,
    ) -> NetworkValue:
        """`length` values from `starting_value` (the first) on, with a leading time axis [T, ...] in every field.

        variables: the names of those to keep; all when None.
        """
        if length < 1:
            raise ValueError(f"length = {length}: wanted 1 or more")
        names = [node.name for node in self._plan.initial]
        unknown = sorted(set(variables or ()) - set(names))
        if unknown:
            raise ValueError(f"variables {unknown} are not in the network; those are {sorted(names)}")
        kept = [name for name in names if variables is None or name in variables]
        columns: dict[str, dict[str, list[Any]]] = {name: {} for name in kept}
        for value in islice(self.steps(starting_value, at=at), length):
            for name in kept:
                for field, content in value[name].as_dict.items():
                    columns[name].setdefault(field, []).append(torch.as_tensor(content))
        return {
            name: Value(**{field: torch.stack(column) for field, column in fields.items()})
            for name, fields in columns.items()
        }

    def _check_random(self, names: Collection[str]) -> None:
        unknown = sorted(set(names) - set(self._plan.random))
        if unknown:
            raise ValueError(f"observed {unknown} match no random field; those are {sorted(self._plan.random)}")

    def log_prob(
        self,
        observed: Mapping[str, Tensor],
        length: int,
        starting_value: NetworkValue | None = None,
        *,
        latent: Resolver | None = None,
        at: int = 0,
    ) -> LogProb:
        """Log-probability of what was observed in T = `length` steps: field name (`variable.field`) -> [T, B, ...].

        With a starting value, row 0 of the observations is its own and scores 0. latent: draws the random fields that
        were not observed; their values are returned and not scored.
        """
        self._check_random(observed)
        short = {name: value.shape[0] for name, value in observed.items() if value.shape[0] != length}
        if short:
            raise ValueError(f"observed values must have {length} steps, these have others: {short}")
        like = Step(Observed(observed, latent, at), at, frozenset(observed))
        taken = [(value, step) for value, step in islice(self._walk(starting_value, at, like), length)]
        names = [name for name in sorted(self._plan.random) if name in observed]
        # Not a value's own rows: what groups share has one row per group, and its score one per session.
        last, sessions = taken[-1][1].scores, max((values.shape[1] for values in observed.values()), default=0)
        nothing = {
            name: torch.zeros_like(last[name]) if name in last else observed[name].new_zeros(sessions) for name in names
        }
        hidden = [name for name in sorted(self._plan.random) if name not in observed]
        return LogProb(
            {name: torch.stack([step.scores.get(name, nothing[name]) for _, step in taken]) for name in names},
            {name: [step.distributions[name] for _, step in taken if name in step.distributions] for name in names},
            {name: torch.stack([self._plan.field(value, name) for value, _ in taken]) for name in hidden},
        )


def _apart(value: NetworkValue) -> NetworkValue:
    """The value in memory of its own."""
    return {name: part.map(apart) for name, part in value.items()}


def _carries_gradient(value: NetworkValue) -> bool:
    contents = (content for part in value.values() for content in part.as_dict.values())
    return any(isinstance(content, Tensor) and content.requires_grad for content in contents)
