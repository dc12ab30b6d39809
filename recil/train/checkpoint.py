"""The whole state of a training run in one file: written at once or not at all, read without pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from recil.errors import InputError


def save_checkpoint(
    path: str | Path,
    modules: Mapping[str, nn.Module],
    optimisers: Mapping[str, torch.optim.Optimizer],
    progress: Mapping[str, Any],
    tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """Write weights, optimiser states, further tensors and `progress` (anything JSON holds) to one safetensors file."""
    path = Path(path)
    content = {f"tensor.{name}": tensor for name, tensor in (tensors or {}).items()}
    for name, module in modules.items():
        content |= {f"module.{name}.{key}": value for key, value in module.state_dict().items()}
    for name, optimiser in optimisers.items():
        for index, state in optimiser.state_dict()["state"].items():
            content |= {f"optimiser.{name}.{index}.{key}": value for key, value in state.items()}
    content = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in content.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(content, unfinished, metadata={"progress": json.dumps(dict(progress))})
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def load_checkpoint(
    path: str | Path,
    modules: Mapping[str, nn.Module],
    optimisers: Mapping[str, torch.optim.Optimizer],
    settings: str = "",
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Put a checkpoint's weights and optimiser states back. Returns its progress and further tensors.

    None where there is no file. InputError where the file is damaged, or was written under other settings (its
    progress["settings"] is not `settings`).
    """
    path = Path(path)
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            progress = json.loads((file.metadata() or {})["progress"])
            content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"checkpoint {path}", f"cannot be read ({error})", "delete it to start afresh") from error
    if progress.get("settings", "") != settings:
        raise InputError(
            f"checkpoint {path}", "was written under other settings or on another log", "give another checkpoint file"
        )
    for name, module in modules.items():
        module.load_state_dict(_below(content, f"module.{name}."))
    for name, optimiser in optimisers.items():
        _restore(optimiser, _below(content, f"optimiser.{name}."))
    return progress, _below(content, "tensor.")


def digest_of_run(settings: Any, tensors: Iterable[Tensor | np.ndarray] = ()) -> str:
    """A digest of all that a run's bits depend on. settings: anything JSON holds; tensors: weights and data."""
    digest = hashlib.blake2b(json.dumps(settings).encode(), digest_size=16)
    for tensor in tensors:
        array = tensor.detach().cpu().numpy() if isinstance(tensor, Tensor) else tensor
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _below(content: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in content.items() if name.startswith(prefix)}


def _restore(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
