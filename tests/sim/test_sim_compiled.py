"""Compiled steps: the numbers of eager ones, or eager steps after one notice."""

from __future__ import annotations

import shutil
import warnings

import pytest
import torch
from recsim_ng.core.network import Network
from recsim_ng.core.value import Value, ValueSpec
from recsim_ng.core.variable import Variable, value
from torch.distributions import Bernoulli, Normal

from recil.random import Streams
from recil.sim import compiled as compiled_module
from recil.sim.distributions import Certain
from recil.sim.fields import Field, RandomField
from recil.sim.network import network_of
from recil.sim.recommenders.collaborative import CollaborativeRecommender
from recil.sim.recommenders.uniform import UniformRecommender
from recil.sim.replay import replay
from recil.sim.resolvers import Drawn
from recil.sim.runtime import TorchRuntime
from recil.sim.worlds.interest_evolution import InterestEvolutionSettings, interest_evolution

USERS = 17
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


def mixed() -> Network:
    """What a carry can hold: draws, numbers, data, a constant, fields that are always equal or share memory."""
    data = replay("data", {"a": torch.arange(USERS * 40.0).reshape(USERS, 40), "b": torch.ones(USERS, 40).long()})
    base = Variable("base", ValueSpec(scale=Field()))
    base.initial_value = value(lambda: Value(scale=torch.full((USERS,), 0.5)))
    clock = Variable("clock", ValueSpec(step=Field(), even=Field()))
    clock.initial_value = value(lambda: Value(step=0, even=True))
    clock.value = value(
        lambda before: Value(step=before.get("step") + 1, even=(before.get("step") + 1) % 2 == 0), (clock.previous,)
    )
    place = Variable("place", ValueSpec(x=RandomField()))
    place.initial_value = value(lambda: Value(x=Certain(torch.zeros(USERS))))
    place.value = value(
        lambda before, now, scale: Value(x=Normal(before.get("x") * 0.9 + now.get("a") / 1000, scale.get("scale"))),
        (place.previous, data, base),
    )
    coin = Variable("coin", ValueSpec(heads=RandomField()))
    coin.value = value(lambda now: Value(heads=Bernoulli(logits=now.get("x"))), (place,))
    twice = Variable("twice", ValueSpec(**{name: Field() for name in ("one", "two", "view", "row", "same", "kept")}))

    def alike(x: torch.Tensor, kept: torch.Tensor) -> Value:
        return Value(one=x + 1, two=x + 1, view=x[:3], row=x.reshape(1, USERS)[0] * 1, same=x + 0, kept=kept)

    twice.initial_value = value(lambda now: alike(now.get("x"), torch.ones(2)), (place,))
    twice.value = value(lambda before, now: alike(now.get("x"), before.get("kept")), (twice.previous, place))
    return network_of([data, base, clock, place, coin, twice])


def runtimes(network_maker) -> tuple[TorchRuntime, TorchRuntime]:
    resolver = Drawn(Streams(3), torch.arange(USERS))
    return TorchRuntime(network_maker(), resolver), TorchRuntime(network_maker(), resolver, compiled=True)


def assert_same(eager, fast) -> None:
    assert eager.keys() == fast.keys()
    for name, part in eager.items():
        for field, content in part.as_dict.items():
            other = fast[name].get(field)
            assert type(content) is type(other), (name, field)
            if isinstance(content, torch.Tensor):
                torch.testing.assert_close(other, content, atol=1e-4, rtol=1e-5, msg=f"{name}.{field}")
            else:
                assert content == other, (name, field)


@needs_compiler
def test_compiled_steps_give_the_numbers_of_eager_ones() -> None:
    eager, fast = runtimes(mixed)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")  # a notice would mean that nothing was compiled
        for steps in (0, 1, 30, 25):
            assert_same(eager.execute(steps), fast.execute(steps))
        start = eager.execute(4)
        assert_same(eager.execute(20, start, at=4), fast.execute(20, start, at=4))
    assert len(fast._compiled._loops) == 1 and not fast._compiled._refused


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("learns", [False, True])
def test_a_compiled_world_gives_the_numbers_of_an_eager_one(learns: bool) -> None:
    world = interest_evolution(InterestEvolutionSettings(items=30, slate_size=3, horizon=20))

    def network() -> Network:
        recommender = CollaborativeRecommender(USERS, 30, 3) if learns else UniformRecommender(USERS, 30, 3)
        return network_of(world.story(recommender, USERS))

    eager, fast = runtimes(network)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        fast.execute(2)
        assert_same(eager.execute(19), fast.execute(19))


@needs_compiler
def test_products_that_stay_are_worked_out_once_and_follow_their_weights() -> None:
    """A product of weights alone leaves the loop; the next run sees what training has made of them."""
    inner, outer = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0))
    still = Variable("still", ValueSpec(scale=Field()))
    still.initial_value = value(lambda: Value(scale=torch.full((USERS, 3), 0.5)))
    point = Variable("point", ValueSpec(x=Field()))
    point.initial_value = value(lambda: Value(x=torch.ones(USERS, 3)))

    def move(before: Value, by: Value) -> Value:
        turn = (inner @ outer).tanh() @ outer
        filled = inner.new_zeros(USERS, 3)  # made of constants alone, and then written over by what moves
        filled[:, 1:] = before.get("x")[:, 1:]
        return Value(x=(before.get("x") @ turn).tanh() + by.get("scale") @ inner + filled @ outer)

    point.value = value(move, (point.previous, still))
    eager, fast = (TorchRuntime(network_of([still, point]), compiled=flag) for flag in (False, True))
    traced: list[torch.fx.GraphModule] = []
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        whole = compiled_module.compile_loop
        patch.setattr(compiled_module, "compile_loop", lambda *args: (traced.append(args[0]), whole(*args))[1])
        assert_same(eager.execute(9), fast.execute(9))
        inner.mul_(-0.5)
        assert_same(eager.execute(9), fast.execute(9))
    products = [node for node in traced[0].graph.nodes if node.target is torch.ops.aten.mm.default]
    assert len(products) == 2 and len(traced) == 1


@needs_compiler
@pytest.mark.slow
def test_a_compiled_session_does_not_depend_on_its_batch() -> None:
    def end(users: int):
        world = interest_evolution(InterestEvolutionSettings(items=40, slate_size=3, horizon=20))
        network = network_of(world.story(UniformRecommender(users, 40, 3), users))
        runtime = TorchRuntime(network, Drawn(Streams(3), torch.arange(users)), compiled=True)
        with torch.no_grad():
            runtime.execute(2)
            return runtime.execute(19)

    few, many = end(5), end(2003)
    for variable, field in (("offer", "items"), ("response", "choice"), ("user", "interest"), ("outcome", "reward")):
        torch.testing.assert_close(many[variable].get(field)[:5], few[variable].get(field), atol=1e-6, rtol=1e-5)


def test_where_compiling_fails_steps_run_eagerly_after_one_notice(monkeypatch) -> None:
    def broken(*_args, **_options):
        raise OSError("no compiler here")

    monkeypatch.setattr(compiled_module.torch, "compile", broken)
    monkeypatch.setattr(compiled_module, "_noticed", set())
    eager, fast = runtimes(mixed)
    with torch.no_grad(), pytest.warns(RuntimeWarning, match="run eagerly, not compiled: OSError: no compiler here"):
        assert_same(eager.execute(5), fast.execute(5))
    with torch.no_grad():  # the second time without a word: warnings are errors
        assert_same(eager.execute(5), fast.execute(5))


def test_a_field_that_is_no_tensor_is_named_in_the_notice(monkeypatch) -> None:
    monkeypatch.setattr(compiled_module, "_noticed", set())
    words = Variable("words", ValueSpec(text=Field()))
    words.initial_value = value(lambda: Value(text="a"))
    words.value = value(lambda before: Value(text=before.get("text") + "b"), (words.previous,))
    runtime = TorchRuntime(network_of([words]), compiled=True)
    with pytest.warns(RuntimeWarning, match=r"field 'words\.text' holds a str"):
        assert runtime.execute(3)["words"].get("text") == "abbb"


def test_gradients_are_recorded_in_eager_steps() -> None:
    scale = torch.tensor(0.5, requires_grad=True)
    place = Variable("place", ValueSpec(x=RandomField()))
    place.initial_value = value(lambda: Value(x=Certain(torch.zeros(3))))
    place.value = value(lambda before: Value(x=Normal(before.get("x"), scale)), (place.previous,))
    resolver = Drawn(Streams(0), torch.arange(3))
    fast, eager = (TorchRuntime(network_of([place]), resolver, compiled=flag) for flag in (True, False))
    wanted = torch.autograd.grad(eager.execute(4)["place"].get("x").sum(), scale)[0]
    assert torch.equal(torch.autograd.grad(fast.execute(4)["place"].get("x").sum(), scale)[0], wanted)


def test_every_story_is_compiled_as_code_of_its_own() -> None:
    """torch gives up on a code object after eight compilations, and stories would run eagerly from the ninth on."""
    traces = [torch.fx.symbolic_trace(torch.nn.Identity()) for _ in range(2)]
    codes = [compiled_module.compile_loop(trace, 1)._torchdynamo_orig_callable.__code__ for trace in traces]
    assert codes[0] is not codes[1] and codes[0] != codes[1]
