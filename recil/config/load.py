"""Reading an experiment file: every mistake is found before any work, and said at once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ValidationError

from recil.config.errors import lines_of, shown
from recil.config.kinds import KINDS
from recil.config.tables import EvaluateTable, LogTable, TruthTable, WorldTable, file_model, known_keys, user_config
from recil.errors import InputError


@dataclass(frozen=True)
class Method:
    """One row of the comparison.

    name      its label; kind: a key of KINDS
    settings  the kind's frozen config, None where it has none
    own       what else the kind takes (start, source, like)
    """

    name: str
    kind: str
    settings: Any = None
    own: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def seeded(self) -> bool:
        return KINDS[self.kind].seeded

    @property
    def acts(self) -> bool:
        """It learns from acting in the world of fitted users."""
        return KINDS[self.kind].acts or self.own.get("source") in ("world", "both")

    @property
    def start(self) -> str | None:
        """The method whose policy this one begins from."""
        return self.own.get("start")


@dataclass(frozen=True)
class Experiment:
    """A checked experiment file. users: None where nothing is simulated; folder: the file's own."""

    name: str
    seeds: tuple[int, ...]
    log: LogTable
    world: WorldTable
    evaluate: EvaluateTable
    methods: tuple[Method, ...]
    users: Any = None
    truth: TruthTable | None = None
    folder: Path = Path()
    text: str = ""

    def path(self, name: str) -> Path:
        """A path out of the file: beside the file if it is there, else from the working folder."""
        beside = self.folder / name
        return beside.resolve() if beside.exists() else Path(name).resolve()

    def method(self, name: str) -> Method:
        return next(method for method in self.methods if method.name == name)

    def resolved(self) -> dict[str, Any]:
        """Every setting with its value, defaults included, as plain data."""
        return {
            "name": self.name,
            "seeds": list(self.seeds),
            "log": self.log.model_dump(),
            "truth": None if self.truth is None else self.truth.model_dump(),
            "users": None if self.users is None else dataclasses.asdict(self.users),
            "world": self.world.model_dump(),
            "evaluate": self.evaluate.model_dump(),
            "methods": {method.name: method_settings(method) for method in self.methods},
        }


def method_settings(method: Method) -> dict[str, Any]:
    """A method's settings with their values, defaults included."""
    settings = {} if method.settings is None else dataclasses.asdict(method.settings)
    return {"kind": method.kind, **method.own, **settings}


def content_hash(content: Any) -> str:
    """16 hex digits that depend on the plain data alone."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Reads and checks an experiment file. overrides: `a.b=1`, values as TOML writes them, else as text.

    A method is named by its label: `methods.finetuned.cap=10`. Raises one InputError with every problem, a line each.
    """
    path = Path(path)
    text = read_file(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(str(path), f"not a TOML file: {error}", "mend this line") from None
    for override in overrides:
        set_key(data, override)
    try:
        found = file_model().model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        raise problems_of(path, lines_of(error.errors(include_url=False), data, known_keys())) from None
    problems: list[str] = []
    methods = tuple(_method(method, problems) for method in found.methods)
    users = None if found.users is None else _settings("users", user_config(), found.users, problems)
    fields = {name: getattr(found, name) for name in ("name", "seeds", "log", "truth", "world", "evaluate")}
    experiment = Experiment(**fields, users=users, methods=methods, folder=path.parent, text=text)
    problems += _contradictions(experiment)
    if problems:
        raise problems_of(path, problems)
    return experiment


def read_file(path: Path) -> str:
    """The text of a TOML file. Raises InputError."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(str(path), "no such file", "give the path of an experiment file (TOML)") from None
    except UnicodeDecodeError as error:
        raise InputError(str(path), f"not UTF-8 text (byte {error.start})", "save it as UTF-8") from None
    except OSError as error:
        raise InputError(str(path), f"cannot be read ({error.strerror})", "give the path of a TOML file") from None


def problems_of(path: Path, lines: Sequence[str]) -> InputError:
    """One error that says every line, each with the file's name."""
    return InputError(str(path), f"\n{path}: ".join(lines))


def set_key(data: dict[str, Any], override: str) -> None:
    """Puts one `a.b=1` into the data, the value as TOML writes it, else as text. Raises InputError."""
    key, equals, text = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise InputError("--set", f"{override!r} is not of the form key=value", "write --set methods.clone.epochs=5")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    place: Any = data
    for number, part in enumerate(parts[:-1]):
        if isinstance(place, list):
            place = _member(place, part, override)
        else:
            place = place.setdefault(part, {})
        if not isinstance(place, (dict, list)):
            raise InputError("--set", f"{'.'.join(parts[: number + 1])} is no table in {override!r}", "shorten the key")
    if isinstance(place, list):
        raise InputError("--set", f"{override!r} sets a whole method", "name one of its keys")
    place[parts[-1]] = value


def _member(methods: list[Any], name: str, override: str) -> Any:
    names = [str(method.get("name", "")) for method in methods if isinstance(method, dict)]
    if name in names:
        return methods[names.index(name)]
    raise InputError("--set", f"no method {name!r} in {override!r}", f"the methods are {', '.join(names)}")


def _method(found: Any, problems: list[str]) -> Method:
    kind = KINDS[found.kind]
    own = {name: getattr(found, name) for name, *_ in kind.own}
    settings = None
    if kind.settings is not None:
        settings = _settings(f"methods.{found.name}", kind.settings(), found, problems)
    return Method(found.name, found.kind, settings, own)


def _settings(place: str, config: type, found: Any, problems: list[str]) -> Any:
    """The frozen config with the values found; what it refuses is added to the problems."""
    values = {name: getattr(found, name) for name in found.model_fields_set if name in get_type_hints(config)}
    try:
        return config(**values)
    except InputError as error:
        name = error.place.replace(".", " ").split()[-1]
        subject = f"{name} = {shown(values[name])}" if name in values else f"{name}: {error.problem}"
        problems.append(f"{place}.{subject} -> {error.remedy}")
    except ValueError as error:
        problems.append(str(error) if str(error).startswith(place) else f"{place} -> {error}")
    return None


def _contradictions(experiment: Experiment) -> list[str]:
    """What each key alone does not show: names that refer to nothing, worlds that do not exist."""
    names = [method.name for method in experiment.methods]
    problems = [f"methods: the name {name!r} stands twice" for name in sorted({n for n in names if names.count(n) > 1})]
    if len(set(experiment.seeds)) < len(experiment.seeds):
        problems.append(f"seeds = {list(experiment.seeds)} -> expected each seed once")
    for number, method in enumerate(experiment.methods):
        earlier = [other.name for other in experiment.methods[:number] if other.kind in ("clone", "finetune")]
        if method.start is not None and method.start not in earlier:
            offer = (
                f"the name of a clone above it: {', '.join(earlier)}" if earlier else "a method of kind 'clone' above"
            )
            problems.append(f'methods.{method.name}.start = "{method.start}" -> expected {offer}')
        like = method.own.get("like")
        clones = [other.name for other in experiment.methods if other.kind == "clone"]
        if like is not None and like not in clones:
            problems.append(f'methods.{method.name}.like = "{like}" -> expected the name of a clone')
        if method.acts and experiment.users is None and "users" not in problems:
            problems.append(f"methods.{method.name} acts in a world -> expected a table [users] to fit one")
    return problems
