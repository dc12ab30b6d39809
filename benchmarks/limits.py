"""What this machine can do at most, measured in the same run as what it is held against."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


def best_seconds(run: Callable[[], object], repeats: int = 7, budget: float = 3.0) -> float:
    """The fastest of some calls, after one that is not timed; fewer calls where they would take beyond the budget."""
    run()
    best, spent = float("inf"), 0.0
    for _ in range(repeats):
        begun = time.perf_counter()
        run()
        taken = time.perf_counter() - begun
        best, spent = min(best, taken), spent + taken
        if spent > budget:
            break
    return best


def best_by_turns(runs: Sequence[Callable[[], object]], repeats: int = 20, budget: float = 6.0) -> list[float]:
    """The fastest call of each, taken by turns so that a noisy machine disturbs all alike."""
    for run in runs:
        run()
    best, begun = [float("inf")] * len(runs), time.perf_counter()
    for _ in range(repeats):
        for place, run in enumerate(runs):
            started = time.perf_counter()
            run()
            best[place] = min(best[place], time.perf_counter() - started)
        if time.perf_counter() - begun > budget:
            break
    return best


@dataclass(frozen=True)
class Limits:
    """bandwidth: bytes per second, read and written; exponentials: per second; operator: seconds of a tiny one."""

    bandwidth: float
    exponentials: float
    operator: float

    def product(self, rows: int, inner: int, columns: int) -> float:
        """Seconds of a float32 matrix product, measured now."""
        left, right = torch.randn(rows, inner), torch.randn(inner, columns)
        out = torch.empty(rows, columns)
        return best_seconds(lambda: torch.mm(left, right, out=out))


def measure_limits() -> Limits:
    large, other = torch.randn(1 << 25), torch.empty(1 << 25)
    cached, out = torch.randn(1 << 18), torch.empty(1 << 18)
    tiny = torch.zeros(8)

    def many() -> None:
        for _ in range(1000):
            torch.add(tiny, tiny)

    return Limits(
        bandwidth=2 * large.numel() * 4 / best_seconds(lambda: other.copy_(large)),
        exponentials=cached.numel() / best_seconds(lambda: torch.exp(cached, out=out), repeats=50),
        operator=best_seconds(many) / 1000,
    )
