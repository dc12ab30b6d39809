"""A cycle is refused with the names of those in it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from recsim_ng.core.value import Value, ValueSpec
from recsim_ng.core.variable import Variable, value

from recil.sim.fields import Field
from recil.sim.network import network_of


def variable(name: str, *needs: object) -> Variable:
    made = Variable(name, ValueSpec(number=Field()))
    made.initial_value = value(lambda: Value(number=0))
    made.value = value(lambda *before: Value(number=1), needs)
    return made


def test_a_cycle_is_named_and_what_stands_outside_is_not() -> None:
    first, second, third, outside = (variable(name) for name in ("first", "second", "third", "outside"))
    for here, need in ((first, third), (second, first), (third, second)):
        here.value = value(lambda before: before, (need,))
    outside.value = value(lambda before: before, (first,))
    with pytest.raises(ValueError, match="value goes in a circle") as error:
        network_of([first, second, third, outside])
    path = str(error.value).split("circle: ")[1].split(";")[0].split(" needs ")
    assert path[0] == path[-1] and set(path) == {"first", "second", "third"}
    needs = {"first": "third", "second": "first", "third": "second"}
    assert all(needs[here] == there for here, there in pairwise(path))


def test_a_variable_that_needs_itself_is_a_cycle_and_its_past_is_not() -> None:
    alone = variable("alone")
    alone.value = value(lambda before: before, (alone,))
    with pytest.raises(ValueError, match="alone needs alone"):
        network_of([alone])
    alone.value = value(lambda before: before, (alone.previous,))
    assert network_of([alone]).initial_step()["alone"].get("number") == 0


def test_a_cycle_among_initial_values_is_named() -> None:
    first, second = variable("first"), variable("second")
    first.initial_value = value(lambda before: before, (second,))
    second.initial_value = value(lambda before: before, (first,))
    with pytest.raises(ValueError, match="initial_value goes in a circle"):
        network_of([first, second])
