"""Sparse clicks: the world of the demo. Users who rarely click, whose interests drift, and who leave when served badly.

For: what recil is about. About one item shown in a hundred is clicked, so that learning from scratch takes long and a
demonstrator is worth having. The users are made of the same behaviour that is fitted to logs, with parameters drawn
from the settings' seed: many types of user, so that a fit with few types is an approximation and not a copy. All is
computed in float64, so that what machines round differently is gone when a log is written in float32. Source: recil.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from torch import Tensor
from torch.nn import functional as F

from recil.random import Streams
from recil.sim.behaviour import Behaviour, UserLayout
from recil.sim.users import Starts, UserModel
from recil.sim.world import World


class Settings(BaseModel):
    """Settings of a generated world and log; `recil log generate` reads them from a TOML file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    seed: int = Field(0, description="All draws follow from it.")
    sessions: int = Field(10_000, ge=1, description="Sessions to write.")
    horizon: int = Field(12, ge=1, description="Most steps in a session.")
    items: int = Field(100, ge=2, description="Size of the catalogue.")
    slate_size: int = Field(3, ge=1, validate_default=True, description="Items shown per step.")
    dimension: int = Field(6, ge=1, description="Size of interests and item vectors.")
    types: int = Field(64, ge=1, description="Kinds of user.")
    click_rate: float = Field(0.0075, gt=0, lt=1, description="Clicks per item, over all users and items, at first.")
    appeal_spread: float = Field(0.7, ge=0, description="Standard deviation of the items' own appeal, in log-odds.")
    interest_spread: float = Field(0.9, ge=0, description="Standard deviation of interest in an item, in log-odds.")
    readiness_spread: float = Field(0.4, ge=0, description="Standard deviation of readiness to click, in log-odds.")
    click_gain: float = Field(0.6, description="Interest gained in an item's direction by a click on it.")
    skip_gain: float = Field(0.05, description="Interest lost in the directions passed over.")
    fatigue: float = Field(0.5, gt=0, le=100, description="Log-odds lost to an item like those just shown.")
    leaving_rate: float = Field(0.08, gt=0, lt=1, description="Rate of leaving of a patient user after a step.")
    impatience: float = Field(0.25, ge=0, description="Log-odds of leaving gained per recent step without a click.")
    recommender_knowledge: float = Field(0.5, ge=0, le=1, description="Correlation of its idea with the truth.")
    recommender_sharpness: float = Field(
        0.8, ge=0, description="Standard deviation of its idea of appeal, in log-odds."
    )
    recommender_memory: float = Field(1.0, ge=0, description="Log-odds given to items like those just clicked.")
    recommender_variety: float = Field(0.5, ge=0, description="Log-odds taken from items like those just shown.")

    @field_validator("slate_size")
    @classmethod
    def _fits_catalogue(cls, slate_size: int, info: ValidationInfo) -> int:
        if slate_size > info.data.get("items", slate_size):
            raise ValueError(f"a slate holds no item twice, and there are {info.data['items']} items")
        return slate_size


def sparse_clicks(settings: Settings | None = None) -> World:
    """The world of these settings."""
    settings = settings or Settings.model_validate({})
    behaviour = _behaviour(settings)
    starts = Starts(behaviour.type_log_prior().exp()[None])
    return World(UserModel(behaviour, starts, np.arange(settings.items), {}), settings.horizon, known=True)


def normal_draws(generator: torch.Generator, *shape: int) -> Tensor:
    """Standard normal draws in float64, cut to six decimals: the last bits of float32 differ between processors."""
    return torch.randn(*shape, generator=generator).double().round(decimals=6)


@torch.no_grad()
def _behaviour(settings: Settings) -> Behaviour:
    """The users' parameters, drawn from the settings."""
    streams = Streams(settings.seed)
    layout = UserLayout(
        catalogue=settings.items,
        slate_size=settings.slate_size,
        types=settings.types,
        dimension=settings.dimension,
        choice="multinomial",
        leaves=True,
        hazard_steps=1,
    )
    behaviour = Behaviour(layout, streams).double()

    def normal(purpose: str, *shape: int) -> Tensor:
        return normal_draws(streams.generator(purpose), *shape)

    vectors = F.normalize(normal("vectors", settings.items, settings.dimension), dim=-1)
    values = {
        "item_vector": vectors,
        "item_appeal": settings.appeal_spread * normal("appeal", settings.items),
        "type_home": settings.interest_spread * normal("home", settings.types, settings.dimension),
        "type_appeal": settings.readiness_spread * normal("readiness", settings.types),
        "type_hazard": 0.3 * normal("hazard", settings.types),
        "click_gain": torch.tensor(settings.click_gain),
        "skip_gain": torch.tensor(settings.skip_gain),
        "fatigue_strength": torch.tensor(math.log(math.expm1(settings.fatigue))),
        "hazard": torch.tensor(math.log(settings.leaving_rate / (1 - settings.leaving_rate))),
        "hazard_impatience": torch.tensor(settings.impatience),
    }
    for name, value in values.items():
        getattr(behaviour, name).copy_(value)
    # The base appeal that gives the wanted rate, averaged over types and items, by bisection on the exact mean.
    liked = behaviour.item_appeal + behaviour.type_home @ vectors.T + behaviour.type_appeal[:, None]
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        rate = float(torch.sigmoid(middle + liked).mean())
        low, high = (middle, high) if rate < settings.click_rate else (low, middle)
    behaviour.appeal.fill_(low)
    return behaviour.requires_grad_(False)
