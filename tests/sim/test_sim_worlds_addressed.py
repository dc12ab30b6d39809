"""Randomness of built worlds is addressed: batches of thousands, several processes, policies that part ways."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from shown_slates import Shows
from torch import Tensor

from recil.jobs import run_units
from recil.logs.history import History
from recil.policies.protocol import Slates
from recil.random import Streams
from recil.sim.world import World
from recil.sim.worlds.built import BuiltWorld
from recil.sim.worlds.interest_evolution import InterestEvolutionSettings, interest_evolution
from recil.sim.worlds.latent_variable import LatentVariableSettings, latent_variable
from recil.sim.worlds.long_term_satisfaction import LongTermSatisfactionSettings, long_term_satisfaction
from recil.sim.worlds.sparse_clicks import Settings, sparse_clicks

HORIZON, PARTING = 8, 3
SLATES = Shows([[0, 8], [7, 1], [2, 6], [5, 3], [4, 0]], 9)


def world_named(name: str) -> BuiltWorld | World:
    shape = {"items": 9, "horizon": HORIZON}
    match name:
        case "interest evolution":
            return interest_evolution(InterestEvolutionSettings(**shape, slate_size=2))
        case "latent variable":
            return latent_variable(LatentVariableSettings(**shape, slate_size=2, initial_satisfaction=0.0))
        case "long-term satisfaction":
            return long_term_satisfaction(LongTermSatisfactionSettings(**shape, time_budget=7))
        case _:
            return sparse_clicks(Settings.model_validate({**shape, "slate_size": 2, "click_rate": 0.3}))


WORLDS = ("interest evolution", "latent variable", "long-term satisfaction", "sparse clicks")


@dataclass(frozen=True)
class PartsWays:
    """Shows what SLATES shows for the first PARTING steps, and the same slates the other way round afterwards."""

    catalogue: int = SLATES.catalogue

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        shown = SLATES.sample(history, k, streams)
        parted = (history.length >= PARTING)[:, None]
        return shown._replace(items=torch.where(parted, shown.items.flip(1), shown.items))

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        parted = (history.length >= PARTING)[:, None]
        return SLATES.log_prob(history, torch.where(parted, slate.flip(1), slate))


def outcome(name: str, sessions: list[int]) -> list[tuple[list[list[int]], list[list[float]], bool]]:
    """Items, rewards and whether the user left, of each session, without padding."""
    done = world_named(name).rollout(SLATES, torch.tensor(sessions), Streams(3))
    assert done.terminated is not None
    return [
        (done.items[row, :length].tolist(), done.reward[row, :length].tolist(), bool(done.terminated[row]))
        for row, length in enumerate(done.length.tolist())
    ]


def outcome_of(unit: tuple[str, list[int]]) -> list[tuple[list[list[int]], list[list[float]], bool]]:
    return outcome(*unit)


@pytest.mark.parametrize("name", WORLDS)
def test_a_session_among_4096_is_the_session_alone(name: str) -> None:
    many = outcome(name, list(range(4096)))
    alone = [0, 1, 1023, 2048, 4095]
    assert [many[session] for session in alone] == [outcome(name, [session])[0] for session in alone]
    assert len({str(session) for session in many}) > 100  # sessions differ, so that equality says something
    # In any order.
    assert outcome(name, list(range(4095, -1, -1)))[::-1] == many


def test_two_processes_meet_the_same_sessions_as_one() -> None:
    units = [(name, half) for name in WORLDS for half in (list(range(100)), list(range(100, 200)))]
    in_two = {(name, half[0]): result for (name, half), result in run_units(outcome_of, units, jobs=2)}
    for name in WORLDS:
        assert in_two[name, 0] + in_two[name, 100] == outcome(name, list(range(200)))


@pytest.mark.parametrize("name", WORLDS)
def test_users_answer_two_policies_alike_while_these_agree(name: str) -> None:
    sessions, world = torch.arange(500), world_named(name)
    one, other = (world.rollout(policy, sessions, Streams(3)) for policy in (SLATES, PartsWays()))
    assert torch.equal(one.length.clamp(max=PARTING), other.length.clamp(max=PARTING))
    for part in ("items", "reward"):
        assert torch.equal(getattr(one, part)[:, :PARTING], getattr(other, part)[:, :PARTING])
    steps = min(one.steps, other.steps)
    assert not torch.equal(one.reward[:, PARTING:steps], other.reward[:, PARTING:steps])
