"""The features of what was chosen, against a loop over sessions."""

from __future__ import annotations

import math

import pytest
import torch
from recsim_ng.core.value import Value

from recil.sim.choice import chosen

CHOICE = torch.tensor([2, 0, 3, 1])


def features() -> Value:
    numbers = torch.arange(4 * 3 * 2).reshape(4, 3, 2)
    return Value(item=numbers[..., 0], embedding=numbers.double() / 7, document=Value(words=numbers, new=numbers > 9))


def test_each_session_gets_the_item_it_chose() -> None:
    slates = features().at("item", "embedding")
    found = chosen(slates, CHOICE)
    for name, field in slates.as_dict.items():
        for session, place in enumerate(CHOICE.tolist()):
            wanted = field[session, place] if place < 3 else torch.full_like(field[session, 0], -1)
            torch.testing.assert_close(found.get(name)[session], wanted, rtol=0, atol=0)


def test_fields_keep_their_types_and_their_nesting() -> None:
    slates = features()
    found = chosen(slates, CHOICE, missing=0)
    assert set(found.as_dict) == {"item", "embedding", "document.words", "document.new"}
    for name, field in slates.as_dict.items():
        assert found.get(name).dtype == field.dtype
        assert found.get(name).shape == (4, *field.shape[2:])
    assert found.get("document.words")[:, 1].tolist() == [5, 7, 0, 21]
    assert found.get("document.new")[:, 0].tolist() == [False, False, False, True]


def test_several_choices_of_a_session() -> None:
    choice = torch.tensor([[0, 3], [2, 1], [3, 0], [1, 1]])
    found = chosen(features().at("embedding", "item"), choice)
    assert found.get("item").tolist() == [[0, -1], [10, 8], [-1, 12], [20, 20]]
    for column in (0, 1):
        single = chosen(features().at("embedding"), choice[:, column]).get("embedding")
        torch.testing.assert_close(found.get("embedding")[:, column], single, rtol=0, atol=0)


def test_a_number_that_is_no_position_is_no_choice() -> None:
    assert chosen(features().at("item"), torch.tensor([-1, 0, 9, 3])).get("item").tolist() == [-1, 6, -1, -1]


def test_what_stands_for_nothing_may_be_not_a_number() -> None:
    found = chosen(features().at("embedding"), CHOICE, missing=math.nan).get("embedding")
    assert found.isnan().any(1).tolist() == [False, False, True, False]


def test_gradients_reach_the_chosen_items_alone() -> None:
    embedding = torch.zeros(4, 3, 2, requires_grad=True)
    chosen(Value(embedding=embedding), CHOICE).get("embedding").sum().backward()
    wanted = torch.zeros(4, 3, 2)
    for session, place in ((0, 2), (1, 0), (3, 1)):
        wanted[session, place] = 1
    assert embedding.grad.tolist() == wanted.tolist()


@pytest.mark.parametrize(
    ("name", "missing"), [("document.new", -1), ("item", 0.5), ("item", math.nan), ("item", math.inf), ("item", 1e30)]
)
def test_a_type_that_cannot_hold_what_is_missing_is_refused(name: str, missing: float) -> None:
    with pytest.raises(ValueError, match=rf"field '{name}' is torch\..* cannot hold"):
        chosen(features().at(name), CHOICE, missing)


def test_fields_of_different_slates_are_refused() -> None:
    with pytest.raises(ValueError, match=r"different slates: .*'wide': \(4, 5\)"):
        chosen(Value(item=torch.zeros(4, 3), wide=torch.zeros(4, 5)), CHOICE)
