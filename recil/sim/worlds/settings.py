"""Known worlds by name, and the TOML files that set them up."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from recil.errors import InputError
from recil.sim.world import World
from recil.sim.worlds.built import BuiltWorld
from recil.sim.worlds.ecosystem import EcosystemSettings, ecosystem
from recil.sim.worlds.interest_evolution import InterestEvolutionSettings, interest_evolution
from recil.sim.worlds.latent_variable import LatentVariableSettings, latent_variable
from recil.sim.worlds.long_term_satisfaction import LongTermSatisfactionSettings, long_term_satisfaction
from recil.sim.worlds.sparse_clicks import Settings, sparse_clicks


class Kind(NamedTuple):
    """A world that files can name: its frozen settings, and what makes it of them."""

    settings: type
    make: Callable[[Any], BuiltWorld]


WORLDS = {
    "interest_evolution": Kind(InterestEvolutionSettings, interest_evolution),
    "long_term_satisfaction": Kind(LongTermSatisfactionSettings, long_term_satisfaction),
    "ecosystem": Kind(EcosystemSettings, ecosystem),
    "latent_variable": Kind(LatentVariableSettings, latent_variable),
}


class KnownSettings(BaseModel):
    """Settings of a log generated in a world of WORLDS. A file without `world` is of sparse clicks."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    world: str = Field(description="The name of the world.")
    seed: int = Field(0, description="Of the recommender and of all draws of the log; the world has its own.")
    sessions: int = Field(10_000, ge=1, description="Sessions to write.")
    recommender_knowledge: float = Field(0.5, ge=0, le=1, description="Correlation of its idea with the truth.")
    recommender_sharpness: float = Field(
        0.8, ge=0, description="Standard deviation of its idea of appeal, in log-odds."
    )
    recommender_memory: float = Field(1.0, ge=0, description="Log-odds given to items like those just rewarded.")
    recommender_variety: float = Field(0.5, ge=0, description="Log-odds taken from items like those just shown.")
    parameters: dict[str, Any] = Field({}, description="The world's own settings.")


def make_world(settings: Settings | KnownSettings) -> World | BuiltWorld:
    """The world of these settings. Raises InputError for a world that is not known and parameters it does not have."""
    if isinstance(settings, Settings):
        return sparse_clicks(settings)
    if settings.world not in WORLDS:
        raise InputError("world", f"{settings.world!r} is no known world", f"the worlds are {', '.join(WORLDS)}")
    kind = WORLDS[settings.world]
    return kind.make(_checked(settings.world, kind.settings, settings.parameters))


def _checked(world: str, settings: type, parameters: dict[str, Any]) -> Any:
    """The world's frozen settings, keys and types checked as in every file."""
    hints = get_type_hints(settings)
    fields: dict[str, Any] = {field.name: (hints[field.name], field.default) for field in dataclasses.fields(settings)}
    model = create_model(settings.__name__, __config__=ConfigDict(extra="forbid"), **fields)
    try:
        return settings(**model.model_validate(parameters).model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in ("parameters", *first["loc"]))
        remedy = f"the parameters of {world} are {', '.join(sorted(fields))}"
        raise InputError(place, f"{first['input']!r}: {first['msg']}", remedy) from None
    except ValueError as error:
        raise InputError("parameters", str(error)) from None


def load_settings(path: str | Path) -> Settings | KnownSettings:
    """Settings from a TOML file; with the key `world`, of that world.

    Raises InputError naming the file, the key and the value.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        model = KnownSettings if isinstance(content.get("world"), str) else Settings
        settings = model.model_validate(content)
        if isinstance(settings, KnownSettings):
            make_world(settings)
        return settings
    except InputError as error:
        raise InputError(str(path), f"{error.place}: {error.problem}", error.remedy) from None
    except FileNotFoundError:
        raise InputError(str(path), "no such file", "give the path of a settings file") from None
    except OSError as error:
        raise InputError(str(path), f"cannot be read ({error.strerror})", "give the path of a settings file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"not a TOML file ({error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = ", ".join(sorted(model.model_fields))
        raise InputError(str(path), f"{key} = {first['input']!r}: {first['msg']}", f"the keys are {known}") from None
