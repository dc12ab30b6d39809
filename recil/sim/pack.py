"""Network values as plain nested dicts of tensors (pytrees), and as flat lists of them for compiled code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from recsim_ng.core.value import Value
from torch import Tensor

from recil.sim.plan import NetworkValue

Packed = dict[str, dict[str, Any]]


def pack(value: NetworkValue) -> Packed:
    """variable -> field -> content."""
    return {name: part.as_dict for name, part in value.items()}


def unpack(packed: Mapping[str, Mapping[str, Any]]) -> dict[str, Value]:
    """The inverse of `pack`."""
    return {name: Value(**fields) for name, fields in packed.items()}


def apart(content: Any) -> Any:
    """The same content in memory of its own."""
    return content.clone() if isinstance(content, Tensor) else content


@dataclass(frozen=True)
class Layout:
    """The fields of some variables in a fixed order. scalars: fields that hold Python numbers."""

    names: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]
    scalars: frozenset[tuple[str, str]]
    device: torch.device

    @staticmethod
    def of(value: NetworkValue, names: Iterable[str]) -> Layout:
        """Raises TypeError at a field that is neither a tensor nor a number."""
        names, fields, scalars, device = tuple(names), [], set(), torch.device("cpu")
        for name in names:
            for field, content in value[name].as_dict.items():
                fields.append((name, field))
                if isinstance(content, Tensor):
                    device = content.device
                elif isinstance(content, (bool, int, float)):
                    scalars.add((name, field))
                else:
                    raise TypeError(f"field '{name}.{field}' holds a {type(content).__name__}, not a tensor")
        return Layout(names, tuple(fields), frozenset(scalars), device)

    def flat(self, value: NetworkValue) -> list[Tensor]:
        """The fields as tensors of their own, contiguous."""
        parts = {name: value[name].as_dict for name in self.names}
        contents = (parts[name][field] for name, field in self.fields)
        return [
            content.clone(memory_format=torch.contiguous_format)
            if isinstance(content, Tensor)
            else torch.tensor(content, device=self.device)
            for content in contents
        ]

    def unflat(self, tensors: Iterable[Tensor], numbers: bool = False) -> dict[str, Value]:
        """The inverse of `flat`. numbers: give back Python numbers where the value had them."""
        packed: Packed = {name: {} for name in self.names}
        for (name, field), tensor in zip(self.fields, tensors, strict=True):
            back = numbers and (name, field) in self.scalars
            packed[name][field] = tensor.item() if back else tensor
        return unpack(packed)
