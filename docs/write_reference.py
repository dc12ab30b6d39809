"""Writes docs/reference.md: every public name of recil, with its signature and its docstring.

python docs/write_reference.py
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from pathlib import Path
from typing import Any

import recil

PAGE = Path(__file__).with_name("reference.md")
_HEAD = """\
# Reference

Every public name of recil, `recil.NAME`, out of the docstrings: this page is written by
`python docs/write_reference.py`, and a test fails where it has fallen behind. For commands: `recil COMMAND --help`.
"""


def page() -> str:
    """The whole page."""
    names = [name for name in recil.__all__ if name != "__version__"]
    found = {name: getattr(recil, name) for name in names}
    verbs = [name for name in names if not inspect.isclass(found[name])]
    configs = [name for name in names if name.endswith("Config")]
    types = [name for name in names if name not in {*verbs, *configs}]
    parts = [_HEAD]
    for heading, members in (("Functions", verbs), ("Settings", configs), ("Types", types)):
        links = ", ".join(f"[{name}](#{_anchor(name, names, verbs)})" for name in members)
        parts += [f"## {heading}\n\n{links}\n", *(_entry(name, found[name]) for name in members)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts))


def _anchor(name: str, names: list[str], verbs: list[str]) -> str:
    """Of a type that is called as a function is (Dagger, dagger), the second of two equal anchors."""
    return name.lower() + ("-1" if name not in verbs and name.lower() in names else "")


def _entry(name: str, thing: Any) -> str:
    lines = [f"### {name}", "", f"```python\n{_signature(name, thing)}\n```", "", _quoted(thing)]
    if inspect.isclass(thing) and not name.endswith("Config"):
        lines += [_member(member, value) for member, value in vars(thing).items() if _is_shown(member, value)]
    return "\n".join(lines) + "\n"


def _signature(name: str, thing: Any) -> str:
    if dataclasses.is_dataclass(thing):
        fields = [f"    {f.name}: {_Text.of(f.type)}{_default(f)}" for f in dataclasses.fields(thing) if f.init]
        return "\n".join([f"class {name}:", *fields])
    if inspect.isclass(thing):
        return f"class {name}"
    return f"{name}{_plain(inspect.signature(thing))}"


class _Text(str):
    """Shown without quotes around it, and with double ones within."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    @staticmethod
    def of(annotation: Any) -> Any:
        return _Text(annotation.replace("'", '"')) if isinstance(annotation, str) else annotation


def _as_written(default: Any) -> Any:
    return _Text(json.dumps(default)) if isinstance(default, str) else default


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f" = {_as_written(field.default)!r}"
    return " = ..." if field.default_factory is not dataclasses.MISSING else ""


def _plain(signature: inspect.Signature) -> str:
    """One parameter a line where they do not fit; no addresses of functions, which differ from run to run."""
    written = [
        parameter.replace(annotation=_Text.of(parameter.annotation), default=_as_written(parameter.default))
        for parameter in signature.parameters.values()
    ]
    signature = signature.replace(parameters=written, return_annotation=_Text.of(signature.return_annotation))
    text = re.sub(r"<function (\S+) at 0x\w+>", r"\1", str(signature))
    if len(text) <= 100:
        return text
    inside, _, answer = text.rpartition(") -> ")
    return "(\n    " + ",\n    ".join(_split(inside[1:])) + f",\n) -> {answer}"


def _split(parameters: str) -> list[str]:
    """At the commas outside all brackets."""
    parts, depth = [""], 0
    for letter in parameters:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _is_shown(name: str, value: Any) -> bool:
    return not name.startswith("_") and (
        inspect.isfunction(value) or isinstance(value, (staticmethod, classmethod, property))
    )


def _member(name: str, value: Any) -> str:
    """A method or property: its signature and the first paragraph of what it says."""
    function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    said = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
    shown = name if isinstance(value, property) else f"{name}{_brief(function)}"
    return f"- `.{shown}`{': ' + said if said else ''}"


def _brief(function: Any) -> str:
    """Names of parameters alone."""
    names = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    return f"({', '.join(names)})"


def _quoted(thing: Any) -> str:
    """The docstring as it stands: its columns of explanations need their spaces."""
    text = inspect.getdoc(thing) or ""
    first, _, rest = text.partition("\n")
    rest = rest.strip("\n")
    return first + (f"\n\n```text\n{rest}\n```\n" if rest else "\n")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
