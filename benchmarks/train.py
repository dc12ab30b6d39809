"""How fast policies are cloned and finetuned, in what memory, and how near that is to the matrix products alone.

    python benchmarks/train.py --out docs/train-benchmark.md     # all cells, a few minutes; prints the page as well
    python benchmarks/train.py --cells clone-gru clone-transformer

A synthetic log of 50,000 sessions of 20 steps over 10,000 items, one item a step; width 64, batches of 512 sessions,
exact softmax over the whole catalogue. Every cell runs in a process of its own, whose peak memory is its own.
`products` is the time that the matrix products of the step take by themselves, measured in the same process: of the
softmax layer (logits, and the gradients of states and of vectors) and of the encoder. Cells with negatives are steps
alone, against 1,024 sampled items, over 10,000 and over a million items; the last line compares the two, memory without
the item tables and their optimiser's state.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import torch

import recil
from recil.logs.session_log import SessionLog
from recil.train.loop import batches

WIDTH, BATCH = 64, 512


@dataclass(frozen=True)
class Cell:
    """What is trained on what. only: sessions of its log, few enough that slow cells end in time."""

    work: str
    encoder: str
    items: int = 10_000
    steps: int = 20
    only: int = 4_096
    bfloat16: bool = False
    epochs: int = 1
    negatives: int = 0


CELLS = {
    "clone-bag": Cell("clone", "bag"),
    "clone-gru": Cell("clone", "gru"),
    "clone-transformer": Cell("clone", "transformer"),
    "clone-transformer-bfloat16": Cell("clone", "transformer", bfloat16=True),
    "clone-transformer-negatives": Cell("clone steps", "transformer", negatives=1024),
    "clone-transformer-negatives-million": Cell("clone steps", "transformer", items=1_000_000, negatives=1024),
    "finetune-gru": Cell("finetune", "gru"),
    "finetune-transformer": Cell("finetune", "transformer"),
    "finetune-transformer-negatives": Cell("finetune", "transformer", negatives=1024),
    "bandit": Cell("clone", "bag", items=50, steps=1, only=100_000, epochs=5),
}


def synthetic_log(cell: Cell, seed: int = 0) -> SessionLog:
    """Sessions that wander about neighbouring items, popular ones more often; a click in twenty."""
    generator = np.random.default_rng(seed)
    shape = (cell.only, cell.steps)
    start = (cell.items * generator.random((cell.only, 1)) ** 2).astype(np.int64)
    items = (start + generator.geometric(0.02, shape).cumsum(1)) % cell.items
    rows = cell.only * cell.steps
    return SessionLog(
        item_ids=np.arange(cell.items),
        items=items.reshape(rows, 1).astype(np.int32),
        reward=(generator.random((rows, 1)) < 0.05).astype(np.float32),
        offsets=np.arange(0, rows + 1, cell.steps),
        session_ids=np.arange(cell.only),
        propensity=np.full((rows, 1), 1 / cell.items, dtype=np.float32),
    )


def clone_rate(cell: Cell, log: SessionLog) -> float:
    """Sessions per second and pass of recil.clone, everything included."""
    config = recil.CloneConfig(
        encoder=cell.encoder,
        width=WIDTH,
        epochs=cell.epochs,
        patience=cell.epochs,
        batch=_batch(cell),
        held_out=0.01,
        bfloat16=cell.bfloat16,
    )
    started = time.perf_counter()
    recil.clone(log, config)
    return cell.only * cell.epochs / (time.perf_counter() - started)


def clone_steps_rate(cell: Cell, log: SessionLog) -> float:
    """Sessions per second of cloning steps alone, by the median step: no start, no held-out sessions."""
    step, seconds = clone_step(cell, log), []
    for place, sessions in enumerate(whole_batches(cell, log)):
        started = time.perf_counter()
        optimisers = step(sessions)
        seconds.append(time.perf_counter() - started)
        if not place:
            _fill(optimisers)
    return _batch(cell) / float(np.median(seconds[1:]))


def clone_step(cell: Cell, log: SessionLog) -> Callable[[np.ndarray], dict[str, torch.optim.Optimizer]]:
    """A function that takes one cloning step on some sessions, and returns the optimisers."""
    from recil.train.clone import cloning
    from recil.train.loop import optimisers_of, take_step

    config = recil.CloneConfig(cell.encoder, WIDTH, batch=_batch(cell), held_out=0.01, negatives=cell.negatives)
    _, objective, schedule = cloning(log, config, 0)
    optimisers, taken = optimisers_of(objective, schedule), count()

    def step(sessions: np.ndarray) -> dict[str, torch.optim.Optimizer]:
        take_step(objective, optimisers["main"], schedule, sessions, next(taken))
        return optimisers

    return step


def whole_batches(cell: Cell, log: SessionLog) -> list[np.ndarray]:
    order = batches(np.arange(log.sessions), log.lengths, _batch(cell), recil.Streams(0), 0)
    return [part for part in order if len(part) == _batch(cell)]


def _fill(optimisers: dict[str, torch.optim.Optimizer]) -> None:
    """Makes the system give the optimisers all their memory, so that what tables take is known."""
    for optimiser in optimisers.values():
        for state in optimiser.state.values():
            for value in state.values():
                value.add_(0)


def table_gb(cell: Cell) -> float:
    """Vectors of inputs and outputs and biases, their mean squares, and when each row was last touched."""
    return cell.items * 4 * (2 * (2 * WIDTH + 1) + 3) / 2**30 if cell.negatives else 0.0


def finetune_step(cell: Cell, log: SessionLog) -> Callable[[np.ndarray], object]:
    """A function that takes one finetuning step on some sessions, critic and KL to the clone included."""
    from recil.ops.proposal import Proposal
    from recil.policies.encoders import EncoderConfig
    from recil.train.clone import item_counts
    from recil.train.logged_sessions import LoggedSessions
    from recil.train.policy_step import Learner
    from recil.train.rows import Tables
    from recil.train.sampled_steps import SampledSteps

    policy = recil.SoftmaxPolicy.for_log(log, EncoderConfig(cell.encoder, WIDTH), True, 0)
    config, streams, sampled = recil.FinetuneConfig(batch=_batch(cell)), recil.Streams(0), None
    if cell.negatives:
        proposal = Proposal.of(item_counts(log, np.arange(log.sessions)), cell.negatives)
        sampled = SampledSteps(proposal, streams, Tables(policy, config.learning_rate))
    frozen = recil.SoftmaxPolicy.from_parts(policy.parts()).requires_grad_(False)
    learner = Learner.of("finetune", policy, frozen, config, config.kl, 1, streams, sampled)
    sessions = LoggedSessions(log, frozen)
    learner.scale = sessions.scale()
    return lambda chosen: learner.improve(sessions.batch(chosen))


def finetune_rate(cell: Cell, log: SessionLog) -> float:
    """Sessions per second of finetuning steps, by the median step."""
    step, seconds = finetune_step(cell, log), []
    for sessions in whole_batches(cell, log):
        started = time.perf_counter()
        step(sessions)
        seconds.append(time.perf_counter() - started)
    return _batch(cell) / float(np.median(seconds[1:] or seconds))


def steps_compared(cell: Cell, log: SessionLog) -> float:
    """How many cloning steps a finetuning step costs, taken by turns: the median over pairs, three for each batch."""
    cloned, finetuned, ratios = clone_step(cell, log), finetune_step(cell, log), []
    for sessions in 3 * whole_batches(cell, log):
        times = [time.perf_counter()]
        for step in (cloned, finetuned):
            step(sessions)
            times.append(time.perf_counter())
        ratios.append((times[2] - times[1]) / (times[1] - times[0]))
    return float(np.median(ratios[1:]))


def _batch(cell: Cell) -> int:
    return BATCH if cell.steps > 1 else 4096


WORK: dict[str, Callable[[Cell, SessionLog], float]] = {
    "clone": clone_rate,
    "clone steps": clone_steps_rate,
    "finetune": finetune_rate,
}


def products_rate(cell: Cell) -> float:
    """Positions per second that the products of a cloning step allow: three of the softmax layer, and the encoder's."""
    rows, items = 256, cell.negatives or cell.items
    state, vectors = torch.randn(rows, WIDTH), torch.randn(items, WIDTH)
    slope = torch.randn(rows, items)
    shapes = {"bag": [(WIDTH, WIDTH)], "gru": [(2 * WIDTH, 3 * WIDTH), (WIDTH, 3 * WIDTH)]}
    inside = [(WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)] * 2
    layers = [(torch.randn(rows, m), torch.randn(m, n)) for m, n in shapes.get(cell.encoder, inside)]

    def step() -> None:
        state @ vectors.T
        slope @ vectors
        slope.T @ state
        for inputs, weight in layers:
            out = inputs @ weight
            out @ weight.T
            inputs.T @ out

    times = []
    for _ in range(20):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return rows / min(times)


def measured(name: str) -> dict[str, float | str]:
    """One cell, in this process."""
    cell = CELLS[name]
    log = synthetic_log(cell)
    if not cell.negatives:  # whose first step is left out, and whose tables are to stand in memory once
        WORK[cell.work](replace(cell, only=min(cell.only, 2 * BATCH)), log.select(np.arange(2 * BATCH)))  # warms up
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rate = WORK[cell.work](cell, log)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    products = products_rate(cell)
    return {
        "ratio": steps_compared(cell, log) if cell.work == "finetune" else 0.0,
        "cell": name,
        "sessions_per_second": rate,
        "positions_per_second": rate * cell.steps,
        "share_of_products": rate * cell.steps / products,
        "peak_gb": max(peak, before) / 2**20,
        "apart_gb": max(peak, before) / 2**20 - table_gb(cell),
    }


BEGINNING = """# Speed of training

Written by `benchmarks/train.py` in one run: torch {torch}, {threads} threads. A synthetic log of sessions of 20 steps
over 10,000 items; width 64, two blocks, batches of 512 sessions, full softmax in float32; *clone*: `recil.clone` with
everything around its steps; *finetune*: steps with critic and KL; *negatives*: steps against 1,024 sampled items;
*bandit*: 100,000 one-step rounds over 50 items, five epochs. *of the products alone*: how near that is to the bare
matrix products, measured in the same process. bfloat16 is for processors that have it.

Measured elsewhere, at another time, on two cores: the best of the well-known trainers reached 449 sessions/s in 1.95
GB for a transformer with full softmax, 290 for a GRU, and 95,000 rounds/s for the bandit.

| cell | sessions/s | positions/s | of the products alone | peak memory, GB |
|---|---:|---:|---:|---:|"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", choices=CELLS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(arguments.one)))
        return
    rows: dict[str, dict] = {}
    lines = [BEGINNING.format(torch=torch.__version__, threads=torch.get_num_threads())]
    for name in arguments.cells:
        done = subprocess.run([sys.executable, __file__, "--one", name], capture_output=True, text=True, check=True)
        row = rows[name] = json.loads(done.stdout.splitlines()[-1])
        lines.append(
            f"| {name} | {row['sessions_per_second']:,.0f} | {row['positions_per_second']:,.0f} |"
            f" {row['share_of_products']:.0%} | {row['peak_gb']:.2f} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    page = "\n".join([*lines, *_compared(rows)]) + "\n"
    print(page)
    if arguments.out is not None:
        arguments.out.write_text(page)


def _compared(rows: dict[str, dict]) -> list[str]:
    """What a million items and a finetuning step cost, where both of what is compared were measured."""
    lines = []
    small, large = (rows.get(f"clone-transformer-negatives{end}") for end in ("", "-million"))
    if small and large:
        lines.append(
            "- A million items against 10,000: step time"
            f" {small['sessions_per_second'] / large['sessions_per_second']:.2f}×, memory apart from the tables"
            f" {large['apart_gb'] / small['apart_gb']:.2f}× ({small['apart_gb']:.2f} and {large['apart_gb']:.2f} GB)."
        )
    for kind in ("gru", "transformer", "transformer-negatives"):
        if finetuned := rows.get(f"finetune-{kind}"):
            steps = f"{finetuned['ratio']:.2f} cloning steps of its own kind, taken by turns"
            lines.append(f"- A finetuning step, {kind}: {steps}.")
    return ["", *lines] if lines else []


if __name__ == "__main__":
    main()
