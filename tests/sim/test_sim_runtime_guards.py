"""What a story may not do: draw outside the runtime, compute with distributions, change values in place."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from recsim_ng.core.value import Value, ValueSpec
from recsim_ng.core.variable import Variable, value
from torch import nn
from torch.distributions import Bernoulli, Normal

from recil.random import Streams
from recil.sim.entity import Entity
from recil.sim.fields import Field, RandomField
from recil.sim.guard import StoryError
from recil.sim.network import network_of
from recil.sim.resolvers import Drawn
from recil.sim.runtime import TorchRuntime
from recil.sim.spaces import Flags, Integers, Reals


def computed(make, field: Field | None = None) -> TorchRuntime:
    """A story in which `guilty` is computed by `make` from a draw of the step."""
    draw = Variable("draw", ValueSpec(x=RandomField()))
    draw.value = value(lambda: Value(x=Normal(torch.zeros(3), 1.0)))
    guilty = Variable("guilty", ValueSpec(x=field or Field()))
    guilty.value = value(lambda drawn: Value(x=make(drawn.get("x"))), (draw,))
    return TorchRuntime(network_of([draw, guilty]), Drawn(Streams(0), torch.arange(3)))


PRIVATE = torch.Generator().manual_seed(0)
DROPOUT = nn.Dropout(0.5)
OUTSIDE = {
    "torch": lambda x: x + torch.rand(3),
    "a generator of its own": lambda x: x + torch.randn(3, generator=PRIVATE),
    "sample": lambda x: x + Bernoulli(torch.full((3,), 0.5)).sample(),
    "in place": lambda x: torch.empty(3).normal_() + x,
    "dropout left on": DROPOUT,
    "numpy": lambda x: x + float(np.random.rand()),
    "python": lambda x: x + random.random(),
}


@pytest.mark.parametrize("make", OUTSIDE.values(), ids=OUTSIDE.keys())
def test_draws_that_bypass_the_runtime_are_refused_by_the_variables_name(make) -> None:
    with pytest.raises(StoryError, match=r"variable 'guilty'.*outside the\s+runtime"):
        computed(make).execute(1)


def test_dropout_that_is_switched_off_is_no_draw() -> None:
    off = nn.Dropout(0.5).eval()
    assert computed(off).execute(2)["guilty"].get("x").shape == (3,)


def test_a_draw_that_begins_after_the_first_step_is_found_on_the_second() -> None:
    count = Variable("count", ValueSpec(n=Field()))
    count.initial_value = value(lambda: Value(n=torch.zeros(2)))
    count.value = value(lambda before: Value(n=before.get("n") + torch.rand(2)), (count.previous,))
    runtime = TorchRuntime(network_of([count]))
    runtime.execute(0)
    with pytest.raises(StoryError, match="variable 'count'"):
        runtime.execute(1)


@pytest.mark.parametrize(
    "make", [lambda: Normal(torch.zeros(3), 1.0) + 1, lambda: torch.exp(Normal(torch.zeros(3), 1.0))]
)
def test_arithmetic_on_a_distribution_is_refused_by_name(make) -> None:
    guilty = Variable("guilty", ValueSpec(x=RandomField()))
    guilty.value = value(lambda: Value(x=make()))
    with pytest.raises(StoryError, match=r"variable 'guilty': arithmetic on a Normal .* RandomField"):
        TorchRuntime(network_of([guilty]), Drawn(Streams(0), torch.arange(3))).execute(0)


def test_other_errors_say_in_which_variable_they_happened() -> None:
    with pytest.raises(RuntimeError) as caught:
        computed(lambda x: x @ torch.zeros(2, 2)).execute(0)
    assert caught.value.__notes__ == ["in the value of variable 'guilty'"]


def test_changing_a_value_in_place_is_refused() -> None:
    with pytest.raises(StoryError, match=r"variable 'guilty'.*in place"):
        computed(lambda x: x.add_(1)).execute(0)


def test_what_a_space_excludes_is_refused_with_value_and_place() -> None:
    for field, make, message in [
        (Field(Reals(low=0.0, high=1.0)), lambda x: torch.full_like(x, 1.5), "1.5.*wanted 0 to 1"),
        (Field(Reals()), lambda x: torch.full_like(x, torch.nan), "not numbers"),
        (Field(Integers(3)), lambda x: torch.full((3,), 3), "3 to 3, wanted 0 to 2"),
        (Field(Integers(3)), lambda x: x, "float32 where an integer"),
        (Field(Flags()), lambda x: x, "float32 where bool"),
        (Field(Reals((2,))), lambda x: x, r"shape \[3\] after \[\?, 2\]"),
    ]:
        with pytest.raises(ValueError, match=f"guilty.*'x'.*{message}"):
            computed(make, field).execute(0)


def grows(field: Field) -> TorchRuntime:
    rows = Variable("rows", ValueSpec(x=field))
    rows.initial_value = value(lambda: Value(x=torch.zeros(2, 1)))
    rows.value = value(lambda before: Value(x=torch.cat([before.get("x"), torch.ones(2, 1)], 1)), (rows.previous,))
    return TorchRuntime(network_of([rows]))


def test_a_dimension_may_change_where_it_is_said_to_be_dynamic() -> None:
    with pytest.raises(ValueError, match=r"shape \[2, 2\] after \[2, 1\]; name the dimension as dynamic"):
        grows(Field()).execute(3)
    field = Field(Reals((None,)), dynamic=(1,))
    assert grows(field).execute(3)["rows"].get("x").tolist() == [[0, 1, 1, 1]] * 2
    assert field.shape == (2, None)


def test_a_field_merges_what_it_was_told_with_what_it_sees() -> None:
    field = Field(Reals((None, 3)))
    assert field.shape == (None, None, 3)
    assert field.check_value(torch.zeros(4, 2, 3)) == (True, "")
    assert field.shape == (4, 2, 3)
    assert not field.check_value(torch.zeros(4, 1, 3))[0]
    assert not field.check_value(torch.zeros(4, 2, 3, dtype=torch.float64))[0]
    field.forget()
    assert field.check_value(torch.zeros(4, 1, 3, dtype=torch.float64))[0]
    assert not field.check_value("words")[0]


class Scaled(Entity):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def start(self) -> Value:
        return Value(x=Normal(self.like.new_zeros(3), self.scale))

    def onward(self, before: Value) -> Value:
        return Value(x=Normal(before.get("x"), self.scale))


def story_of(entity: Scaled) -> TorchRuntime:
    place = Variable("place", ValueSpec(x=RandomField(Reals())))
    place.initial_value = value(entity.start)
    place.value = value(entity.onward, (place.previous,))
    return TorchRuntime(network_of([place]), Drawn(Streams(0), torch.arange(3)))


def test_a_runtime_moves_the_modules_it_finds_behind_the_story() -> None:
    entity = Scaled()
    runtime = story_of(entity)
    assert runtime.modules == {"Scaled": entity}
    narrow = runtime.execute(4)["place"].get("x")
    wide = runtime.to(dtype=torch.float64).execute(4)["place"].get("x")
    assert narrow.dtype == torch.float32 and wide.dtype == torch.float64 and entity.scale.dtype == torch.float64
    # Uniforms have 23 digits in float32 and 52 in float64: the same addresses, not the same last digits.
    torch.testing.assert_close(narrow.double(), wide, atol=1e-4, rtol=0)


def test_modules_are_found_in_closures_and_partials_and_named_apart() -> None:
    import functools

    first, second, inner = Scaled(), Scaled(), nn.Linear(1, 1)
    variables = [Variable(name, ValueSpec(x=Field())) for name in ("a", "b", "c")]
    variables[0].value = value(lambda: first.start())
    variables[1].value = value(functools.partial(Scaled.start, second))
    variables[2].value = value(lambda: Value(x=inner(torch.zeros(1))))
    runtime = TorchRuntime(network_of(variables))
    assert runtime.modules == {"Scaled": first, "Scaled_2": second, "Linear": inner}
