"""Choice models traced into a graph, in other precisions, and on a device other than the host.

The device is `meta`, where there is nothing to compute: an operation with a tensor of the host's is refused there too.
"""

from __future__ import annotations

import pytest
import torch
from recsim_ng.core.value import Value
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from recil.sim.choice import (
    Cascade,
    IndependentByPosition,
    IteratedMultinomialLogit,
    MultinomialLogit,
    Proportional,
    affinities,
    chosen,
)
from recil.sim.draws import draw, precision_of, uniforms_needed
from recil.sim.entity import Entity

MODELS = {
    "multinomial": lambda: MultinomialLogit(0.5, -0.25),
    "multinomial by session": lambda: MultinomialLogit(nn.Parameter(torch.tensor([0.5, -1.0])), -0.25),
    "iterated": lambda: IteratedMultinomialLogit(2, 0.5, -0.25),
    "proportional": lambda: Proportional(-2.0, 1.0),
    "cascade": lambda: Cascade(1.5),
    "positions": lambda: IndependentByPosition(torch.tensor([2.0, 0.5, -1.0])),
}


def respond(model: Entity, target: Tensor, items: Tensor, uniforms: Tensor) -> tuple[Tensor, ...]:
    """From affinities to a choice, its log-probability and, of a choice by position, the chosen item."""
    choice = model.choice(affinities.negative_euclidean(target, items)).get("choice")
    value = draw(choice, uniforms[:, : uniforms_needed(choice)])
    score = choice.log_prob(value)
    if value.is_floating_point():
        return value, score, choice.probs
    return value, score, chosen(Value(items=items), value).get("items")


def given(seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, 4), (2, 3, 4), (2, 3))
    target, items, uniforms = (torch.rand(shape, generator=generator, dtype=dtype) for shape in shapes)
    return target, items, uniforms


@pytest.mark.parametrize("name", MODELS)
def test_a_traced_model_answers_other_input_as_the_model_does(name: str) -> None:
    model = MODELS[name]()
    traced = make_fx(lambda *inputs: respond(model, *inputs))(*given(0))
    values = set()
    for seed in range(1, 9):
        wanted = respond(model, *given(seed))
        for found, part in zip(traced(*given(seed)), wanted, strict=True):
            torch.testing.assert_close(found, part, rtol=0, atol=0)
        values.add(str(wanted[0].tolist()))
    assert len(values) > 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MODELS)
def test_precision_is_that_of_the_scores(name: str, dtype: torch.dtype) -> None:
    model = MODELS[name]()
    target, items, uniforms = given(3, dtype)
    choice = model.choice(affinities.dot(target, items)).get("choice")
    assert precision_of(choice) == dtype
    value, score, features = respond(model, target, items, uniforms)
    assert score.dtype == features.dtype == dtype
    assert value.dtype in (torch.int64, dtype)
    assert precision_of(model.double().choice(affinities.dot(target, items)).get("choice")) == dtype


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_made_on_the_host_for_a_model_elsewhere(name: str) -> None:
    model = MODELS[name]().to("meta")
    for part in respond(model, *(part.to("meta") for part in given(0))):
        assert part.device.type == "meta"
