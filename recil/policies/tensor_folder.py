"""A folder of one JSON file and one safetensors file: written whole or not at all, read without pickle."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recil.errors import InputError


class FolderKind(NamedTuple):
    """What such a folder holds. what: in words; description, tensors: its two files; writer: what writes one."""

    what: str
    description: str
    tensors: str
    writer: str

    def place(self, path: str | Path) -> str:
        """How errors name the folder."""
        return f"{self.what} folder {path}"

    @property
    def remedy(self) -> str:
        return f"give a folder written by {self.writer}"


def write_tensor_folder(
    path: str | Path, kind: FolderKind, description: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Write the folder beside its place and move it in whole; an older one of the same kind is replaced.

    description: anything JSON holds. Raises InputError where `path` is something else or cannot be written.
    """
    path = Path(path)
    if path.exists() and not ((path / kind.description).is_file() or (path.is_dir() and not any(path.iterdir()))):
        raise InputError(kind.place(path), f"exists and holds no {kind.what}", "give a new folder")
    unfinished, former = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("new", "old"))
    try:
        unfinished.mkdir(parents=True)
        content = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
        save_file(content, unfinished / kind.tensors)
        (unfinished / kind.description).write_text(json.dumps(description, indent=1), encoding="utf-8")
        if path.exists():
            path.replace(former)
        unfinished.replace(path)
    except (OSError, SafetensorError) as error:
        if former.exists() and not path.exists():
            former.replace(path)
        raise InputError(kind.place(path), f"cannot be written ({error})", "give a folder to write to") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def read_tensor_folder(path: str | Path, kind: FolderKind) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The folder's description and tensors. InputError where it is absent, damaged or something else."""
    place = kind.place(path)
    try:
        description = json.loads((Path(path) / kind.description).read_text(encoding="utf-8"))
        tensors = load_file(Path(path) / kind.tensors)
    except FileNotFoundError as error:
        missing = Path(error.filename or kind.tensors).name
        raise InputError(place, f"{missing} is missing", kind.remedy) from error
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(place, f"cannot be read ({type(error).__name__}: {error})", kind.remedy) from error
    if not isinstance(description, dict):
        raise InputError(place, f"{kind.description} describes no {kind.what}", kind.remedy)
    return description, tensors


def installed_version() -> str:
    """The version of recil that writes, for whoever has to read an old folder."""
    try:
        return metadata.version("recil")
    except metadata.PackageNotFoundError:
        return "unknown"
