"""A known world with sparse clicks, a mediocre recommender in it, and the log that it writes.

The world is made of the same behaviour that is fitted to logs, with parameters drawn from the settings' seed: many
types of user, so that a fit with few types is an approximation and not a copy. Everything follows from the settings;
the same settings give the same bytes: all is computed in float64, so that what machines round differently is gone when
the log is written in float32.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from torch import Tensor
from torch.nn import functional as F

from recil.errors import InputError
from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.ops.slates import plackett_luce_log_prob, sample_plackett_luce
from recil.policies.protocol import Slates
from recil.random import Streams
from recil.sim.behaviour import Behaviour, UserLayout
from recil.sim.record import log_of
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


def load_settings(path: str | Path) -> Settings:
    """Settings from a TOML file. Raises InputError naming the file, the key and the value."""
    try:
        return Settings.model_validate(tomllib.loads(Path(path).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(str(path), "no such file", "give the path of a settings file") from None
    except OSError as error:
        raise InputError(str(path), f"cannot be read ({error.strerror})", "give the path of a settings file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"not a TOML file ({error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = ", ".join(sorted(Settings.model_fields))
        raise InputError(str(path), f"{key} = {first['input']!r}: {first['msg']}", f"the keys are {known}") from None


@dataclass(frozen=True)
class Recommender:
    """A mediocre recommender: a blurred idea of appeal, a liking for what was clicked, a wish for variety.

    idea: [A] log-odds; directions: [A, D], unit vectors of the items; memory, variety: see Settings.
    """

    idea: Tensor
    directions: Tensor
    memory: float
    variety: float
    decay: float = 0.7

    @property
    def catalogue(self) -> int:
        return len(self.idea)

    def logits(self, history: History) -> Tensor:
        """[B, A]. Recent steps count most: the step before last counts `decay` times the last."""
        steps = torch.arange(history.steps, device=history.items.device)
        age = history.length[:, None] - 1 - steps
        weight = torch.where(age >= 0, self.decay ** age.clamp(min=0).to(self.idea.dtype), 0.0)[..., None]
        shown = history.shown.to(self.idea.dtype)
        directions = self.directions[history.items.clamp(min=0)]

        def profile(per_item: Tensor) -> Tensor:
            return ((directions * (per_item * weight)[..., None]).sum((1, 2))) @ self.directions.T

        seen = profile(shown / shown.sum(-1, keepdim=True).clamp(min=1))
        return self.idea + self.memory * profile(history.reward * shown) - self.variety * seen

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        """The coming slate; see Policy."""
        uniforms = streams.uniform("slate", history.session, history.length, k, dtype=torch.float64)
        return Slates(*sample_plackett_luce(self.logits(history), uniforms))

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        """[B, K]; see Policy."""
        return plackett_luce_log_prob(self.logits(history), slate)


@dataclass(frozen=True)
class Truth:
    """What is true of a generated log: the world it comes from and the recommender that wrote it."""

    settings: Settings

    @cached_property
    def world(self) -> World:
        """The known world: an Environment whose policy values are the true ones."""
        behaviour, item_ids = _behaviour(self.settings), np.arange(self.settings.items)
        starts = Starts(behaviour.type_log_prior().exp()[None])
        return World(UserModel(behaviour, starts, item_ids, {}), self.settings.horizon)

    @cached_property
    def logging_policy(self) -> Recommender:
        """The recommender that writes the log, with exact propensities."""
        settings, catalogue = self.settings, self.world.users.behaviour.catalogue({})
        generator = Streams(settings.seed).generator("recommender")
        noise = _normal(generator, settings.items)
        known = (catalogue.appeal - catalogue.appeal.mean()) / catalogue.appeal.std().clamp(min=1e-6)
        blurred = settings.recommender_knowledge * known + math.sqrt(1 - settings.recommender_knowledge**2) * noise
        return Recommender(
            settings.recommender_sharpness * blurred,
            catalogue.direction,
            settings.recommender_memory,
            settings.recommender_variety,
        )

    def log(self) -> SessionLog:
        """The log: `settings.sessions` sessions of the recommender in the world."""
        streams = Streams(self.settings.seed).child("log")
        history = self.world.rollout(self.logging_policy, torch.arange(self.settings.sessions), streams)
        return log_of([history], self.world.users.item_ids)


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
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
        multinomial=True,
        leaves=True,
        hazard_steps=1,
    )
    behaviour = Behaviour(layout, streams).double()

    def normal(purpose: str, *shape: int) -> Tensor:
        return _normal(streams.generator(purpose), *shape)

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
