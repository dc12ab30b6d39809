"""Seven estimators with 1,000 bootstrap replicates in one pass: seconds and memory, beside plain numpy.

    python benchmarks/evaluate.py --out docs/evaluate-benchmark.md      # all lengths, some minutes
    python benchmarks/evaluate.py --rounds 10000 100000                 # shorter logs

Rounds are one-step sessions over 50 actions in 16 contexts; the sequential log has 50,000 sessions of 20 steps. Every
cell runs in a process of its own on one thread. The log lies in .npy files that are mapped into memory, so that what
grows with it is the page cache; `memory` is the peak of the process's own (anonymous) memory above what it holds after
its imports. Seconds are those of the process (CPU time), which another's load on the machine changes least, and of
three runs the fewest: what a machine adds is never negative. The plain bootstrap draws n sessions anew for each
replicate and computes the same estimators from arrays that it is given: scoring the policy and fitting the reward model
cost it nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from limits import measure_limits

from recil.evaluate import evaluate
from recil.logs.history import History
from recil.logs.session_log import Column, SessionLog
from recil.policies.protocol import Slates
from recil.random import Streams

ROUNDS = (10_000, 100_000, 1_000_000, 10_000_000)
ACTIONS, CONTEXTS, REPLICATES = 50, 16, 1000
ONE_STEP = ("dm", "ips", "snips", "dr", "wdr", "switch_dr", "dros")
SEQUENTIAL = ("ips", "snips", "pdis", "pdwis", "dr", "wdr", "dm")
SESSIONS, STEPS = 50_000, 20
RUNS = 3
# What was measured once, elsewhere: the best-known library on 50,000 sessions of 20 steps.
PEER_SECONDS, PEER_BYTES = 5.3, 2.3e9
# Bytes of a round that any pass has to read: item, reward, propensity, context.
BYTES_PER_ROUND = 16


@dataclass(frozen=True)
class ContextPolicy:
    """One item by the context's logits [C, A]; it tells the probability of the logged item alone."""

    logits: torch.Tensor

    @property
    def catalogue(self) -> int:
        return self.logits.shape[1]

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        context = history.context["context"][:, history.steps]
        chance = streams.uniform("item", history.session, history.steps)[:, 0]
        first = context * self.catalogue
        items = (torch.searchsorted(self.stacked, context + chance) - first).clamp(0, self.catalogue - 1)[:, None]
        return Slates(items, self.scores[context[:, None], items])

    def log_prob(self, history: History, slate: torch.Tensor) -> torch.Tensor:
        context = history.context["context"][:, history.steps]
        return torch.where(slate >= 0, self.scores[context, slate[:, 0].clamp(min=0)][:, None], 0.0)

    @cached_property
    def scores(self) -> torch.Tensor:
        return self.logits.log_softmax(1)

    @cached_property
    def stacked(self) -> torch.Tensor:
        """The contexts' edges one above the other, so that one search finds an item of any of them; [C * A]."""
        return (self.edges.double() + torch.arange(len(self.edges))[:, None]).flatten()

    @cached_property
    def edges(self) -> torch.Tensor:
        return self.logits.softmax(1).cumsum(1)


def policies() -> tuple[ContextPolicy, ContextPolicy]:
    draw = torch.Generator().manual_seed(0)
    logits = 0.5 * torch.randn(2, CONTEXTS, ACTIONS, generator=draw)
    return ContextPolicy(logits[0]), ContextPolicy(logits[0] + 0.3 * logits[1])


def write_log(folder: Path, sessions: int, steps: int) -> None:
    """By parts, so that the process that makes a long log is small too."""
    logging, _ = policies()
    chance, edges = logging.logits.softmax(1).numpy(), logging.edges.numpy()
    rate = 0.02 + 0.1 * np.random.default_rng(1).random((CONTEXTS, ACTIONS))
    rows = sessions * steps
    shapes = {"items": ("i4", (rows, 1)), "reward": ("f4", (rows, 1)), "propensity": ("f4", (rows, 1))}
    shapes |= {"context": ("i4", (rows,)), "offsets": ("i8", (sessions + 1,)), "session_ids": ("i8", (sessions,))}
    files = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, shape)
        for name, (kind, shape) in shapes.items()
    }
    files["offsets"][:] = np.arange(sessions + 1) * steps
    files["session_ids"][:] = np.arange(sessions)
    for start in range(0, rows, 1 << 18):
        some = slice(start, min(start + (1 << 18), rows))
        draw = np.random.default_rng([2, start])
        context = draw.integers(0, CONTEXTS, some.stop - start)
        item = (draw.random(len(context))[:, None] > edges[context]).sum(1).clip(max=ACTIONS - 1)
        files["context"][some], files["items"][some, 0] = context, item
        files["propensity"][some, 0] = chance[context, item]
        files["reward"][some, 0] = draw.random(len(context)) < rate[context, item]
    for file in files.values():
        file.flush()


def read_log(folder: Path) -> SessionLog:
    part = {file.stem: np.load(file, mmap_mode="r") for file in folder.glob("*.npy")}
    names = tuple(str(code) for code in range(CONTEXTS))
    context = Column(part.pop("context"), names)
    return SessionLog(item_ids=np.arange(ACTIONS), context={"context": context}, **part)


class Memory:
    """The peak of this process's anonymous memory while the block runs, in bytes above where it began."""

    def __enter__(self) -> Memory:
        self.begun = self.peak = _anonymous()
        self.going = True
        self.watcher = threading.Thread(target=self._watch)
        self.watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.going = False
        self.watcher.join()

    def _watch(self) -> None:
        while self.going:
            self.peak = max(self.peak, _anonymous())
            time.sleep(0.005)

    @property
    def bytes(self) -> int:
        return self.peak - self.begun


def _anonymous() -> int:
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else 0


def own_cell(folder: Path, estimators: Sequence[str], replicates: int = REPLICATES) -> dict[str, float]:
    log, (_, target) = read_log(folder), policies()
    with Memory() as memory:
        begun = time.process_time()
        found = evaluate(target, log, estimators=estimators, replicates=replicates)
        seconds = time.process_time() - begun
    return {"seconds": seconds, "bytes": memory.bytes, "value": found["snips"].raw.value}


def plain_cell(folder: Path, replicates: int) -> dict[str, float]:
    """The straightforward bootstrap of the seven one-step estimators, `replicates` of it."""
    log, (_, target) = read_log(folder), policies()
    context, item = np.asarray(log.context["context"].values), np.asarray(log.items[:, 0])
    scores = target.scores.numpy().astype(np.float64)
    w = np.exp(scores[context, item]) / np.asarray(log.propensity[:, 0], dtype=np.float64)
    r = np.asarray(log.reward[:, 0], dtype=np.float64)
    mean = np.bincount(item, r, ACTIONS) / np.maximum(np.bincount(item, minlength=ACTIONS), 1)
    q, v = mean[item], (np.exp(scores) @ mean)[context]
    draw, found = np.random.default_rng(0), np.empty((replicates, 7))
    with Memory() as memory:
        begun = time.process_time()
        for place in range(replicates):
            chosen = draw.integers(0, len(r), len(r))
            found[place] = plain_estimates(w[chosen], r[chosen], q[chosen], v[chosen])
        seconds = time.process_time() - begun
    return {"seconds": seconds / replicates * REPLICATES, "bytes": memory.bytes, "value": float(found[:, 2].mean())}


def plain_estimates(w: np.ndarray, r: np.ndarray, q: np.ndarray, v: np.ndarray) -> tuple[float, ...]:
    """ONE_STEP of weights, rewards, and the model's values of the item shown and of the target; [n] each."""
    surprise = w * (r - q)
    dm, dr = v.mean(), surprise.mean()
    shrunken = 400.0 * w / (w**2 + 400.0)
    return (
        dm,
        (w * r).mean(),
        (w * r).sum() / w.sum(),
        dm + dr,
        dm + surprise.sum() / w.sum(),
        dm + (surprise * (w <= 10)).mean(),
        dm + (shrunken * (r - q)).mean(),
    )


def apart(work: str, folder: Path, *words: object) -> dict[str, float]:
    """The quickest run of a cell, each in a process of its own, on one thread."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, __file__, "--cell", work, str(folder), *map(str, words)]
    runs = []
    for _ in range(RUNS):
        done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return min(runs, key=lambda run: run["seconds"])


CELLS: dict[str, Callable[..., dict[str, float]]] = {
    "own": lambda folder: own_cell(folder, ONE_STEP),
    "values": lambda folder: own_cell(folder, ONE_STEP, replicates=2),
    "sequential": lambda folder: own_cell(folder, SEQUENTIAL),
    "plain": lambda folder, replicates: plain_cell(folder, int(replicates)),
}


def rounds_row(rounds: int, bandwidth: float) -> str:
    """The plain bootstrap does as many replicates as take some seconds."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_log(folder, rounds, 1)
        own, values = apart("own", folder), apart("values", folder)
        replicates = max(3, min(REPLICATES, 20_000_000 // rounds))
        plain = apart("plain", folder, replicates)
    least = rounds * BYTES_PER_ROUND / bandwidth
    cells = [f"{rounds:,}", f"{own['seconds']:.2f}", megabytes(own), f"{values['seconds']:.2f}"]
    cells += [f"{plain['seconds']:.1f}", f"{replicates:,}", megabytes(plain)]
    cells += [f"{plain['seconds'] / own['seconds']:.0f}×", f"{least:.3f}", f"{own['seconds'] / least:,.0f}×"]
    return "| " + " | ".join(cells) + " |"


def sequential_lines() -> list[str]:
    with tempfile.TemporaryDirectory() as place:
        write_log(Path(place), SESSIONS, STEPS)
        own = apart("sequential", Path(place))
    faster, smaller = PEER_SECONDS / own["seconds"], PEER_BYTES / max(own["bytes"], 1)
    return [
        f"{SESSIONS:,} sessions of {STEPS} steps, {', '.join(SEQUENTIAL)}:"
        f" **{own['seconds']:.2f} s, {megabytes(own)} MB**. The best-known library needed {PEER_SECONDS} s"
        f" and {PEER_BYTES / 1e9:.1f} GB for seven sequential estimators on a log of this"
        f" shape, measured at another time: {faster:.1f} times as long, {smaller:.0f} times as much.",
    ]


def megabytes(cell: dict[str, float]) -> str:
    return f"{cell['bytes'] / 1e6:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, nargs="+", default=ROUNDS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--cell", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.cell:
        work, folder, *words = arguments.cell
        print(json.dumps(CELLS[work](Path(folder), *words)))
        return
    bandwidth = measure_limits().bandwidth
    rows = []
    for rounds in arguments.rounds:
        rows.append(rounds_row(rounds, bandwidth))
        print(rows[-1], file=sys.stderr, flush=True)
    page = [
        "# Offline evaluation: speed and memory",
        "",
        f"Written by `benchmarks/evaluate.py` in one run; one thread, {platform.machine()}, torch"
        f" {torch.__version__.split('+')[0]}, numpy {np.__version__}, memory {bandwidth / 1e9:.1f} GB/s.",
        "",
        "## Rounds",
        "",
        f"{', '.join(ONE_STEP)} with {REPLICATES:,} replicates, {ACTIONS} actions. *seconds* (of one core, the best of"
        f" {RUNS} runs) and *MB*: `evaluate` from the log on disk to the verdicts, scoring and model fit included."
        " *values*: the same with 2 replicates. *plain*: the seconds of a bootstrap in numpy that draws sessions anew, "
        "measured on *of*"
        f" replicates and scaled to {REPLICATES:,}; weights and model are given to it. *limit*: reading the log's"
        f" {BYTES_PER_ROUND} bytes a round once.",
        "",
        "| rounds | seconds | MB | values | plain | of | MB | ratio | limit | of limit |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        "Each round and replicate is one count, drawn and multiplied into a dozen sums:"
        " 10⁹ of them for 1,000,000 rounds. Memory is a run of the log, whatever its length.",
        "",
        "## Sessions of many steps",
        "",
        *sequential_lines(),
        "",
    ]
    if arguments.out:
        arguments.out.write_text("\n".join(page), encoding="utf-8")
    print("\n".join(page))


if __name__ == "__main__":
    main()
