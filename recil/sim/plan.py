"""A network as a plan: which variables are computed once, which at every step, in what order, from what."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recsim_ng.core.network import Network
from recsim_ng.core.value import Value
from recsim_ng.core.variable import Dependency, ValueDef, Variable
from torch import nn

from recil.sim.fields import Field, RandomField

NetworkValue = Mapping[str, Value]


@dataclass(frozen=True)
class Node:
    """How one variable gets its value at a step: a function of values of this step (current) and of the one before."""

    variable: Variable
    function: Callable[..., Any]
    dependencies: tuple[Dependency, ...]
    random: tuple[str, ...]
    """The fields that are drawn or observed."""

    @property
    def name(self) -> str:
        return self.variable.name

    def arguments(self, current: NetworkValue, previous: NetworkValue) -> list[Value]:
        return [(current if need.on_current_value else previous)[need.variable_name] for need in self.dependencies]


@dataclass(frozen=True)
class Plan:
    """initial: every variable, as step 0 computes it. moving: those computed at every later step; the others stay."""

    initial: tuple[Node, ...]
    moving: tuple[Node, ...]

    @property
    def still(self) -> frozenset[str]:
        """Names of the variables that step 0 computes once and for all."""
        return frozenset(self.names) - {node.name for node in self.moving}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all variables, as step 0 computes them."""
        return tuple(node.name for node in self.initial)

    @property
    def random(self) -> frozenset[str]:
        """Full names, `variable.field`, of the random fields."""
        return frozenset(f"{node.name}.{field}" for node in self.initial for field in node.random)

    def field(self, value: NetworkValue, name: str) -> Any:
        """The content of the field with this full name."""
        for node in self.initial:
            if name.startswith(f"{node.name}.") and name[len(node.name) + 1 :] in node.random:
                return value[node.name].get(name[len(node.name) + 1 :])
        raise KeyError(name)

    @property
    def specs(self) -> Iterator[Field | RandomField]:
        for node in self.initial:
            for spec in node.variable.spec.as_dict.values():
                if isinstance(spec, (Field, RandomField)):
                    yield spec


def plan_of(network: Network) -> Plan:
    """The plan of a network; its random fields are bound to their full names."""
    variables = {variable.name: variable for variable in network.variables}
    for variable in variables.values():
        for field, spec in variable.spec.as_dict.items():
            if isinstance(spec, RandomField):
                spec.bind(f"{variable.name}.{field}")
    still: set[str] = set()
    for variable in _in_order(variables, initial=True):
        if _stays(variable, still):
            still.add(variable.name)
    return Plan(
        tuple(_node(variable, variable.initial_value) for variable in _in_order(variables, initial=True)),
        tuple(
            _node(variable, variable.value)
            for variable in _in_order(variables, initial=False)
            if variable.name not in still
        ),
    )


def _stays(variable: Variable, still: set[str]) -> bool:
    """Whether every step would compute what step 0 did: no value of its own, or one made only of values that stay."""
    if not variable.has_explicit_value:
        return True
    if variable.has_explicit_initial_value or _random_fields(variable):
        return False
    needs = variable.value.dependencies
    return bool(needs) and all(need.on_current_value and need.variable_name in still for need in needs)


def _random_fields(variable: Variable) -> tuple[str, ...]:
    return tuple(name for name, spec in variable.spec.as_dict.items() if isinstance(spec, RandomField))


def _node(variable: Variable, definition: ValueDef) -> Node:
    return Node(variable, definition.fn, tuple(definition.dependencies), _random_fields(variable))


def _in_order(variables: Mapping[str, Variable], initial: bool) -> list[Variable]:
    """Each variable after those whose current value it needs; among equals, by name."""
    placed: dict[str, Variable] = {}

    def place(name: str) -> None:
        if name in placed:
            return
        variable = variables[name]
        definition = variable.initial_value if initial else variable.value
        for need in definition.dependencies:
            if need.on_current_value:
                place(need.variable_name)
        placed[name] = variable

    for name in sorted(variables):
        place(name)
    return list(placed.values())


def modules_of(network: Network) -> dict[str, nn.Module]:
    """The torch modules behind a network's value functions, by class name (`Name`, `Name_2`, ...): what can be trained.

    Found where functions hold them: as the object of a bound method, in a closure, in the arguments of a partial.
    """
    found: dict[int, nn.Module] = {}
    for name in sorted(variable.name for variable in network.variables):
        variable = next(variable for variable in network.variables if variable.name == name)
        for definition in (variable.initial_value, variable.value):
            for module in _modules_in(definition.fn, depth=3):
                found.setdefault(id(module), module)
    inner = {id(part) for module in found.values() for part in module.modules() if part is not module}
    named: dict[str, nn.Module] = {}
    for key, module in found.items():
        if key not in inner:
            label = type(module).__name__
            taken = sum(other == label or other.startswith(f"{label}_") for other in named)
            named[label if not taken else f"{label}_{taken + 1}"] = module
    return named


def _modules_in(thing: Any, depth: int) -> Iterator[nn.Module]:
    if isinstance(thing, nn.Module):
        yield thing
    elif depth and isinstance(thing, functools.partial):
        for part in (thing.func, *thing.args, *thing.keywords.values()):
            yield from _modules_in(part, depth - 1)
    elif depth and callable(thing):
        yield from _modules_in(getattr(thing, "__self__", None), depth - 1)
        for cell in getattr(thing, "__closure__", None) or ():
            yield from _modules_in(cell.cell_contents, depth - 1)
