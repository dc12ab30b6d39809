"""Imitation as classification: the smallest form holds, and would not if few demonstrations were many."""

from __future__ import annotations

import pytest
import torch
from claims_helper import smallest

from recil.claims.studies.supervised_imitation import Settings, demonstrated, expected_loss
from recil.exact.solve import finite_values


@pytest.fixture(scope="module")
def tried():
    return smallest("supervised_imitation")


def test_it_holds(tried):
    assert tried.standing == "holds", tried.points


def test_it_would_not_if_few_demonstrations_were_many(tried):
    least, most = min(tried.settings.demonstrations), max(tried.settings.demonstrations)
    clones = tried.swapped(f"clone, {least}", f"clone, {most}").points
    assert [clones[place].standing for place in (0, 5)] == ["does not hold", "does not hold"], clones
    tables = tried.swapped(f"table, {least}", f"table, {most}").points
    assert tables[1].standing == "holds", "each table is held against its own closed form"


def test_the_demonstrator_loses_nothing_and_others_do():
    settings = Settings()
    world, expert = demonstrated(settings)
    clicks = float(world.start @ finite_values(world, expert, settings.steps))
    assert clicks == pytest.approx(settings.steps)
    # A wrong item in the first step alone leads off, where any item is right with probability 1 / items.
    lost = expert.clone()
    lost[settings.situations :] = 1 / settings.items
    lost[: settings.situations] = expert[: settings.situations].roll(1, 1)
    assert float(world.start @ finite_values(world, lost, 2)) == pytest.approx(1 / settings.items)


def test_closed_form_by_drawing(tried):
    settings = Settings(situations=3, off=1, items=4, steps=2)
    met = torch.tensor([6, 3, 2], dtype=torch.float64) / 11
    draws = torch.multinomial(met, 40_000 * 2, True, generator=torch.Generator().manual_seed(0)).view(-1, 2)
    unseen = torch.stack([(draws != state).all(1) for state in range(3)], 1).double()
    assert expected_loss(settings, 1) == pytest.approx(0.75 * float((unseen @ met).mean()), abs=0.005)
