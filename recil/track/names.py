"""Names and values as MLflow will take them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from recil.errors import InputError

_METRIC = re.compile(r"[A-Za-z0-9_.\-: ]+(/[A-Za-z0-9_.\-: ]+)*")
_LONGEST_PARAMETER = 6000


def check_metric_name(name: str) -> str:
    """The name, if MLflow takes it as a metric: `section/name`. Raises InputError with a name that would do."""
    if _METRIC.fullmatch(name) and not {".", ".."} & set(name.split("/")) and len(name) <= 250:
        return name
    parts = (re.sub(r"[^A-Za-z0-9_.\-: ]", "_", part).strip(".") for part in name.replace("@", "_at_").split("/"))
    better = "/".join(part for part in parts if part)[:250] or "value"
    raise InputError("metric name", f"{name!r} is refused by MLflow", f"call it {better!r}")


def flat(config: Any, prefix: str = "") -> dict[str, str]:
    """A nested config (mappings, sequences, dataclasses) as dotted names and texts: `finetune.cap` -> `20.0`."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        items = [(str(key), value) for key, value in config.items()]
    elif isinstance(config, (list, tuple)) and any(isinstance(value, (Mapping, list, tuple)) for value in config):
        items = [(str(index), value) for index, value in enumerate(config)]
    else:
        return {prefix: str(list(config) if isinstance(config, tuple) else config)[:_LONGEST_PARAMETER]}
    result: dict[str, str] = {}
    for key, value in items:
        result |= flat(value, f"{prefix}.{key}" if prefix else key)
    return result
