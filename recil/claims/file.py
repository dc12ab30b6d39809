"""The experiment file of a claim: which claim, with what settings, in what sizes."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from recil.claims.claim import Claim
from recil.claims.table import claim_of
from recil.config import content_hash
from recil.config.errors import lines_of
from recil.config.load import problems_of, read_file, set_key
from recil.errors import InputError

FULL = "full"


@dataclass(frozen=True)
class ClaimFile:
    """A checked file of a claim, in one of its sizes.

    settings  with paths (fields whose metadata says `path`) as they are found: beside the file, else from here
    given     the settings as the file has them, defaults included
    path      of the file; text: as it is written
    """

    claim: Claim
    size: str
    seeds: tuple[int, ...]
    settings: Any
    given: Mapping[str, Any]
    path: Path
    text: str

    @property
    def key(self) -> str:
        """Changes with everything but the code."""
        return content_hash([self.claim.name, self.size, self.seeds, dataclasses.asdict(self.settings)])


def is_claim(path: Path) -> bool:
    """Whether a file is a claim's and not the experiment of a log: it names a claim. False for what cannot be read."""
    try:
        return "claim" in tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def load_claim(path: str | Path, size: str = FULL, overrides: Sequence[str] = ()) -> ClaimFile:
    """Reads and checks a claim's file. overrides: `settings.episodes=10`, `seeds=[0]`, whatever the size says.

    Raises one InputError with every problem, a line each.
    """
    path = Path(path)
    text = read_file(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(str(path), f"not a TOML file: {error}", "mend this line") from None
    claim = claim_of(str(data.get("claim", "")), str(path))
    _check(path, claim, data)
    sizes = data.get("sizes", {})
    if size != FULL and size not in sizes:
        raise InputError("--size", f"{size!r} is no size in {path}", f"give one of {', '.join([FULL, *sizes])}")
    chosen = sizes.get(size, {})
    whole: dict[str, Any] = {
        "seeds": chosen.get("seeds", data["seeds"]),
        "settings": data.get("settings", {}) | chosen.get("settings", {}),
    }
    for override in overrides:
        set_key(whole, override)
    _check(path, claim, whole | {"claim": claim.name})
    settings = _settings(path, claim, whole["settings"])
    given = dataclasses.asdict(settings)
    return ClaimFile(claim, size, tuple(whole["seeds"]), _found(settings, path.parent), given, path, text)


def _found(settings: Any, folder: Path) -> Any:
    """The settings with their paths made whole; what is not there stays as it is."""
    there = {}
    for field in dataclasses.fields(settings):
        name = getattr(settings, field.name)
        if "path" in field.metadata and name:
            places = [place for place in (folder / name, Path(name)) if place.exists()]
            there[field.name] = str(places[0].resolve()) if places else name
    return dataclasses.replace(settings, **there)


def _settings(path: Path, claim: Claim, values: Mapping[str, Any]) -> Any:
    lists = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    try:
        return claim.settings(**lists)
    except InputError as error:
        raise problems_of(path, [f"settings: {error}"]) from None


def _check(path: Path, claim: Claim, data: Mapping[str, Any]) -> None:
    """Raises InputError for unknown keys, values of another type, and seeds that are none or doubled."""
    table, model = _models(claim)
    try:
        found = model.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        known = {"": list(model.model_fields), "settings": list(table.model_fields), "sizes": ["seeds", "settings"]}
        raise problems_of(path, lines_of(error.errors(include_url=False), data, known)) from None
    for seeds in (found.seeds, *(size.seeds for size in getattr(found, "sizes", {}).values() if size.seeds)):  # type: ignore[attr-defined]
        if not seeds or len(set(seeds)) < len(seeds):
            raise problems_of(path, [f"seeds = {list(seeds)} -> expected at least one, each once"])


def _models(claim: Claim) -> tuple[type[BaseModel], type[BaseModel]]:
    """Of [settings], and of the whole file."""
    base: Any = type("Table", (BaseModel,), {"model_config": ConfigDict(extra="forbid", frozen=True)})
    hints = get_type_hints(claim.settings)
    fields: dict[str, Any] = {
        field.name: (hints[field.name], field.default) for field in dataclasses.fields(claim.settings)
    }
    settings = create_model("Settings", __base__=base, **fields)
    size = create_model("Size", __base__=base, seeds=(tuple[int, ...] | None, None), settings=(settings | None, None))
    whole = create_model(
        "ClaimFile",
        __base__=base,
        claim=(str, ...),
        seeds=(tuple[int, ...], ...),
        settings=(settings | None, None),
        sizes=(dict[str, size], {}),  # type: ignore[valid-type]
    )
    return settings, whole
