"""Seconds and peak memory of fitting users to large generated logs, each in a process of its own."""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from recil.logs.session_log import SessionLog
from recil.random import Streams
from recil.sim import fit
from recil.sim.user_config import UserConfig

STEPS, SLATE, ITEMS, TOPICS = 10, 5, 10_000, 8
EPOCHS = 15


def generated_log(sessions: int, seed: int = 0) -> SessionLog:
    """Sessions of 10 steps with 5 of 10,000 items each: popular ones more often, at most one click per slate.

    Users differ in what they like; about 8% of slates get a click. Nobody leaves: all sessions are cut after 10 steps.
    """
    draws = Streams(seed).numpy("benchmark.log")
    weight = np.arange(1, ITEMS + 1) ** -0.7
    edges = np.cumsum(weight / weight.sum()).astype(np.float32)
    vectors = draws.normal(size=(ITEMS, TOPICS)).astype(np.float32) / TOPICS**0.5
    appeal = (draws.normal(size=ITEMS) * 0.7 - 4.5).astype(np.float32)
    items = np.empty((sessions * STEPS, SLATE), dtype=np.int32)
    reward = np.zeros((sessions * STEPS, SLATE), dtype=np.float32)
    for first in range(0, sessions, 10_000):  # so that the log itself is the largest thing in memory
        count = min(10_000, sessions - first)
        rows = slice(first * STEPS, (first + count) * STEPS)
        shown = np.searchsorted(edges, draws.random((count * STEPS, SLATE), dtype=np.float32)).clip(max=ITEMS - 1)
        likes = np.repeat(draws.normal(size=(count, TOPICS)).astype(np.float32), STEPS, 0)
        odds = np.exp(appeal[shown] + (vectors[shown] * likes[:, None]).sum(-1))
        drawn = draws.random((count * STEPS, 1), dtype=np.float32)
        below = np.cumsum(odds, 1) / (1 + odds.sum(1, keepdims=True))
        items[rows] = shown
        reward[rows] = (drawn < below) & (drawn >= np.pad(below, ((0, 0), (1, 0)))[:, :-1])
    return SessionLog(
        item_ids=np.arange(ITEMS),
        items=items,
        reward=reward,
        offsets=np.arange(sessions + 1) * STEPS,
        session_ids=np.arange(sessions),
        terminated=np.zeros(sessions, dtype=bool),
    )


@dataclass(frozen=True)
class Cost:
    """Of a fit of one epoch. Seconds, and seconds of processor time over all threads.

    before: choosing the choice model and the start; epoch: one pass and the held-out sessions; after: the sessions' own
    starts, and the baselines. log, start, peak: MiB; the log's arrays, the process before the fit, and at most.
    """

    sessions: int
    before: tuple[float, float]
    epoch: tuple[float, float]
    after: tuple[float, float]
    log: float
    start: float
    peak: float

    def seconds(self, epochs: int) -> float:
        """A whole fit of so many epochs."""
        return self.before[0] + epochs * self.epoch[0] + self.after[0]


def measure(sessions: int, threads: int) -> Cost:
    """Fit in this process, which has done nothing else: what was at most in memory counts all that it did before."""
    torch.set_num_threads(threads)
    log = generated_log(sessions)
    size = sum(part.nbytes for part in (log.items, log.reward, log.offsets, log.session_ids)) / 2**20
    start = _peak()
    marks = [_now()]
    climb = fit.optimise

    def timed(*given: Any) -> dict[str, float]:
        marks.append(_now())
        report = climb(*given)
        marks.append(_now())
        return report

    fit.optimise = timed
    fit.fit_users(log, UserConfig(epochs=1))
    fit.optimise = climb
    marks.append(_now())
    before, epoch, after = (tuple(np.subtract(end, begin)) for begin, end in itertools.pairwise(marks))
    return Cost(sessions, before, epoch, after, size, start, _peak())


def in_a_process(sessions: int, threads: int) -> Cost:
    """Measured in a fresh process."""
    command = [sys.executable, __file__, "--sessions", str(sessions), "--threads", str(threads)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    told = json.loads(done.stdout.splitlines()[-1])
    return Cost(**{name: tuple(value) if isinstance(value, list) else value for name, value in told.items()})


def section(sessions: Sequence[int], threads: int) -> str:
    """Markdown."""
    lines = [
        f"Generated logs: sessions of {STEPS} steps with {SLATE} of {ITEMS:,} items; torch {torch.__version__}, "
        f"{threads} threads, {platform.machine()}. Each fit has one epoch, in a process of its own; `fit_users` stops "
        f"by held-out likelihood, so that {EPOCHS} epochs stand for a fit, by extrapolation. Seconds, and in brackets "
        "seconds of processor time over all threads (those that wait for each other count). Before: the "
        "choice model is selected and the start counted; after: the sessions' own starts, and the baselines.",
        "",
        f"| sessions | items shown | before | an epoch | after | {EPOCHS} epochs | the log | process before | peak |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for count in sessions:
        cost = in_a_process(count, threads)
        parts = " | ".join(f"{wall:.0f} s ({cpu:.0f})" for wall, cpu in (cost.before, cost.epoch, cost.after))
        memory = f"{cost.log:,.0f} MiB | {cost.start:,.0f} MiB | {cost.peak:,.0f} MiB"
        lines.append(
            f"| {count:,} | {count * STEPS * SLATE:,} | {parts} | {cost.seconds(EPOCHS) / 60:.0f} min | {memory} |"
        )
    return "\n".join(lines)


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _peak() -> float:
    """MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--sessions", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    print(json.dumps(asdict(measure(given.sessions, given.threads))))
