"""A sparse matrix of non-negative numbers whose rows are read in batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SparseRows:
    """R rows over A columns. start: int64 [R + 1]; column: int64 [n]; value: float32 [n], row after row."""

    start: Tensor
    column: Tensor
    value: Tensor
    columns: int

    @staticmethod
    def count(row: np.ndarray, column: np.ndarray, rows: int, columns: int) -> SparseRows:
        """How often each (row, column) occurs. row, column: int [n]."""
        key, count = np.unique(row.astype(np.int64) * columns + column, return_counts=True)
        start = np.searchsorted(key, np.arange(rows + 1, dtype=np.int64) * columns)
        return SparseRows(
            torch.from_numpy(start.astype(np.int64)),
            torch.from_numpy(key % columns),
            torch.from_numpy(count.astype(np.float32)),
            columns,
        )

    @property
    def rows(self) -> int:
        return len(self.start) - 1

    def weighted_sum(self, row: Tensor, weight: Tensor) -> Tensor:
        """Σ over L of weight · row. row: int64 [B, L], rows to read; weight: float [B, L], 0 to skip. [B, A]"""
        session, place = torch.nonzero(weight, as_tuple=True)
        chosen = row[session, place]
        first = self.start[chosen]
        entries = self.start[chosen + 1] - first
        owner = torch.repeat_interleave(torch.arange(len(chosen), device=row.device), entries)
        within = torch.arange(len(owner), device=row.device) - (entries.cumsum(0) - entries)[owner]
        entry = first[owner] + within
        total = torch.zeros((row.shape[0], self.columns), dtype=weight.dtype, device=row.device)
        value = self.value[entry].to(weight.dtype) * weight[session, place][owner]
        return total.index_put_((session[owner], self.column[entry]), value, accumulate=True)

    def entries(self, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """The values at these places and the sums of their rows, float64 [n]. row, column: int64 [n]."""
        owner = torch.repeat_interleave(torch.arange(self.rows), self.start.diff())
        key, wanted = owner * self.columns + self.column, row * self.columns + column
        place = torch.searchsorted(key, wanted).clamp(max=max(len(key) - 1, 0))
        value = self.value.double()
        found = torch.where(key[place] == wanted, value[place], 0.0) if len(key) else torch.zeros(len(row)).double()
        return found, torch.zeros(self.rows, dtype=torch.float64).index_add_(0, owner, value)[row]

    def to(self, device: torch.device) -> SparseRows:
        if self.start.device == device:
            return self
        return SparseRows(self.start.to(device), self.column.to(device), self.value.to(device), self.columns)

    def parts(self, prefix: str) -> dict[str, Tensor]:
        return {f"{prefix}.start": self.start, f"{prefix}.column": self.column, f"{prefix}.value": self.value}

    @staticmethod
    def from_parts(tensors: Mapping[str, Tensor], prefix: str, columns: int) -> SparseRows:
        start, column, value = (tensors[f"{prefix}.{name}"] for name in ("start", "column", "value"))
        fits = int(start[-1]) == len(column) == len(value) and (not len(column) or int(column.max()) < columns)
        if not fits:
            raise ValueError(f"{prefix} is not a matrix of {columns} columns")
        return SparseRows(start, column, value, columns)
