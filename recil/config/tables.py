"""The tables of an experiment file as pydantic models; a method's fields come from its kind's frozen config."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Optional, Union, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator

from recil.config.kinds import KINDS, Label


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitTable(_Table):
    """How the log is divided into sessions to learn from and sessions to judge by.

    by: "session" keeps users whole where the log has them; cluster: what it keeps whole instead
    """

    by: Literal["time", "session", "user"] = "session"
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    at: int | None = None
    cluster: str | None = None


class LogTable(_Table):
    """The log. path: relative to the experiment file's folder if it is there, else to the working folder."""

    path: str
    format: str | None = None
    reward: str = "click"
    split: SplitTable = SplitTable()


class TruthTable(_Table):
    """The known world that wrote the log, where there is one. settings: the generator's settings file."""

    settings: str


class WorldTable(_Table):
    """Simulation. horizon: most steps of a session; sessions: simulated for each policy's value.

    members: users fitted to bootstraps of the log, whose spread goes into every simulated value's interval; 0 for none
    reference: fit a neural response model, too, and show on the card how much more of the log could be learned
    """

    horizon: Annotated[int, Field(ge=1)] = 12
    sessions: Annotated[int, Field(ge=2)] = 4000
    members: Annotated[int, Field(ge=0)] = 0
    reference: bool = False

    @field_validator("members")
    @classmethod
    def _some_or_none(cls, members: int) -> int:
        if members == 1:
            raise ValueError("give 2 or more, or 0: one alone has no spread")
        return members


class OtherLogTable(_Table):
    """A log of another policy over the same catalogue, with propensities, to judge policies on as a whole."""

    path: str
    format: str | None = None
    reward: str = "click"


class EvaluateTable(_Table):
    """Evaluation on the held-out log. estimators: all when left out; replicates: of the bootstrap; logs: other logs."""

    estimators: tuple[str, ...] | None = None
    replicates: Annotated[int, Field(ge=1)] = 1000
    gamma: Annotated[float, Field(ge=0, le=1)] = 1.0
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    logs: dict[Label, OtherLogTable] = {}


@cache
def file_model() -> Any:
    """The whole file as one pydantic model; the kinds' fields come from their frozen configs."""
    kinds = tuple(_kind_model(name) for name in KINDS)
    method = Annotated[Union[kinds], Field(discriminator="kind")]  # type: ignore[valid-type]  # noqa: UP007
    users: Any = Optional[_fields_model("Users", user_config())]  # noqa: UP045
    return create_model(
        "Experiment",
        __base__=_Table,
        name=(Label, ...),
        seeds=(Annotated[tuple[int, ...], Field(min_length=1)], (0,)),
        log=(LogTable, ...),
        truth=(TruthTable | None, None),
        users=(users, None),
        world=(WorldTable, WorldTable()),
        evaluate=(EvaluateTable, EvaluateTable()),
        methods=(Annotated[tuple[method, ...], Field(min_length=1)], ...),
    )


def _kind_model(name: str) -> type[BaseModel]:
    kind = KINDS[name]
    own: dict[str, Any] = {field: (annotation, default) for field, annotation, default in kind.own}
    own |= {"name": (Label, ...), "kind": (Literal.__getitem__(name), ...)}
    return _fields_model(name.title(), None if kind.settings is None else kind.settings(), own)


def _fields_model(name: str, config: type | None, own: Mapping[str, Any] | None = None) -> type[BaseModel]:
    """A table with the fields of a frozen dataclass, its defaults and types."""
    fields: dict[str, Any] = {}
    if config is not None:
        hints = get_type_hints(config)
        fields = {field.name: (hints[field.name], field.default) for field in dataclasses.fields(config)}
    return create_model(name, __base__=_Table, **fields, **(own or {}))


def user_config() -> type:
    from recil.sim.user_config import UserConfig

    return UserConfig


@cache
def known_keys() -> dict[str, list[str]]:
    """The keys of every table, for naming the nearest one."""
    tables: dict[str, type[BaseModel]] = {
        "log": LogTable,
        "log.split": SplitTable,
        "truth": TruthTable,
        "world": WorldTable,
    }
    keys = {"": list(file_model().model_fields)} | {name: list(table.model_fields) for name, table in tables.items()}
    keys |= {"evaluate": list(EvaluateTable.model_fields), "users": list(get_type_hints(user_config()))}
    return keys | {name: list(_kind_model(name).model_fields) for name in KINDS}
