"""User-steps per second in interest evolution, beside a bare loop, the machine's limits and RecSim NG itself.

    python benchmarks/simulate.py --out docs/simulate-benchmark.md --peer PEER/bin/python

All figures of a page come from one run; ratios hold better than figures, since machines are noisy. Every run ends with
all variables of the story, so that no state is optimised away. --peer: the python of an environment made as
benchmarks/peers/recsim_ng/README.md says; left out, its columns stay empty. --users, --items, --slates: fewer cells.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

import bare
import torch
from limits import Limits, best_by_turns, best_seconds, measure_limits

from recil.logs.history import History
from recil.policies.encoders import EncoderConfig
from recil.policies.softmax import SoftmaxConfig, SoftmaxPolicy
from recil.random import Streams
from recil.sim.network import network_of
from recil.sim.recommendation import Recommender
from recil.sim.recommenders.collaborative import CollaborativeRecommender
from recil.sim.recommenders.uniform import UniformRecommender
from recil.sim.resolvers import Drawn
from recil.sim.runtime import TorchRuntime
from recil.sim.worlds.interest_evolution import InterestEvolutionSettings, interest_evolution

HORIZON, TOPICS = 60, 10
Cell = tuple[int, int, int]
USERS, ITEMS, SLATES = (100, 1000, 10_000, 100_000), (100, 1000, 10_000), (1, 2, 5)
LEARNED = [(1000, 100, 2), (10_000, 100, 2), (1000, 1000, 5), (10_000, 1000, 5)]
# Cells that are also measured as a bare loop, and in RecSim NG: compiling takes far longer than running.
BARED = [(10_000, items, slate) for items in (100, 1000) for slate in (2, 5)]
PEERED = [(100, 100, 2), (1000, 100, 2), (10_000, 100, 2), (1000, 1000, 5), (10_000, 1000, 5)]
PEER = Path(__file__).parent / "peers" / "recsim_ng" / "measure.py"


def runtime_of(cell: Cell, recommender: Recommender, compiled: bool) -> TorchRuntime:
    users, items, slate = cell
    world = interest_evolution(InterestEvolutionSettings(items=items, slate_size=slate, topics=TOPICS, horizon=HORIZON))
    network = network_of(world.story(recommender, users))
    return TorchRuntime(network, Drawn(Streams(0), torch.arange(users)), compiled=compiled)


def rate(users: int, seconds: float) -> float:
    """Millions of user-steps per second."""
    return users * HORIZON / seconds / 1e6


def measured(cell: Cell, recommender: Recommender, bared: bool = False) -> list[float | None]:
    """Eager, its bare loop, compiled, its bare loop. A story that was not compiled ends the benchmark with a notice."""
    users, items, slate = cell
    pairs: list[list[Callable[[], object]]] = []
    for compiled in (False, True):
        runtime = runtime_of(cell, recommender, compiled)
        runtime.execute(2)
        pairs.append([lambda runtime=runtime: runtime.execute(HORIZON - 1)])
        if bared:
            settings = InterestEvolutionSettings(items=items, slate_size=slate, topics=TOPICS, horizon=HORIZON)
            loop = (bare.compiled if compiled else bare.eager)(settings, users)
            pairs[-1].append(lambda loop=loop: loop(HORIZON))
    rates: list[float | None] = []
    for pair in pairs:
        found = [rate(users, seconds) for seconds in best_by_turns(pair)]
        rates += found if bared else [*found, None]
    return rates


def nearest_limit(cell: Cell, limits: Limits) -> tuple[str, float]:
    """What bounds a compiled step most, and the user-steps per second (in millions) that it allows."""
    users, _, slate = cell
    state = 4 * TOPICS + 8 * slate * 2 + slate * 4 * (TOPICS + 2) + 8 + 4 * slate + 8
    gathered = slate * 4 * (TOPICS + 2) + 4 * (TOPICS + 2)
    seconds = {
        "memory": users * (2 * state + gathered) / limits.bandwidth,
        "exponentials": users * (TOPICS + 2 * slate + 1) / limits.exponentials,
        "operators": 2 * limits.operator,
    }
    name = max(seconds, key=lambda key: seconds[key])
    return name, users / seconds[name] / 1e6


def peer_rates(python: str | None, cells: Iterable[Cell], recommender: str, mode: str) -> dict[Cell, float]:
    """RecSim NG's speed, cell by cell: the better of its story in one and its users in two halves side by side.

    A cell that fails or takes minutes stays out.
    """
    found: dict[Cell, float] = {}
    for users, items, slate in cells if python else ():
        words = [python, str(PEER), "--users", users, "--items", items, "--slate", slate, "--recommender", recommender]
        words += ["--modes", mode, "--shards", 1, 2, "--repeats", 3, "--horizon", HORIZON]
        try:
            done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=400)
        except subprocess.TimeoutExpired:
            continue
        for line in done.stdout.splitlines():
            row = json.loads(line) if line.startswith("{") else {"error": line}
            if "error" not in row:
                found[users, items, slate] = row["steps_per_second"] / 1e6
    return found


def training_rate(cell: Cell) -> float:
    """A REINFORCE step through the story: simulate, differentiate, update."""
    users, items, slate = cell
    recommender = CollaborativeRecommender(users, items, slate)
    runtime = runtime_of(cell, recommender, compiled=False)
    optimiser = torch.optim.SGD(recommender.parameters(), 1e-4)

    def step() -> None:
        with torch.enable_grad():
            end, log_prob = runtime.score_function(HORIZON - 1, fields=["offer.items"])
            loss = -(end["metrics"].get("cumulative_reward").detach() * log_prob).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return rate(users, best_seconds(step, repeats=3))


def softmax_policy(limits: Limits) -> list[str]:
    """A recil policy's slates for 10,000 users and 1,000 items with 64 dimensions, against their scores alone."""
    users, items, width = 10_000, 1000, 64
    policy = SoftmaxPolicy(SoftmaxConfig(items, EncoderConfig(width=width))).eval()
    start = History.start(torch.arange(users), 5)
    product = limits.product(users, width, items)
    lines = [
        f"The product alone: {users / product / 1e6:.2f} M slates per second.",
        "",
        "| slate | M slates/s | share |",
        "|---|---|---|",
    ]
    for slate in (1, 2, 5):
        seconds = best_seconds(lambda slate=slate: policy.sample(start, slate, Streams(0)))
        lines.append(f"| {slate} | {users / seconds / 1e6:.2f} | {product / seconds:.0%} |")
    return lines


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value < 1 else f"{value:.1f}"


def uniform_table(cells: list[Cell], limits: Limits, python: str | None) -> list[str]:
    peers = peer_rates(python, [cell for cell in cells if cell in PEERED], "uniform", "xla")
    lines = [
        "| users | items | slate | eager | bare | compiled | bare | limit | of it | RecSim NG | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        eager, plain, fast, plain_fast = measured(cell, UniformRecommender(*cell), cell in BARED)
        name, bound = nearest_limit(cell, limits)
        row = [*cell, number(eager), number(plain), number(fast), number(plain_fast), f"{name} {number(bound)}"]
        row += [f"{fast / bound:.0%}", number(peers.get(cell)), times(fast, peers.get(cell))]
        lines.append("| " + " | ".join(str(part) for part in row) + " |")
        print(lines[-1], flush=True)
    return lines


def learned_table(cells: list[Cell], python: str | None) -> list[str]:
    acting = peer_rates(python, cells, "softmax", "graph")
    training = peer_rates(python, (cell for cell in cells if cell[0] == 1000), "reinforce", "graph")
    lines = [
        "| users | items | slate | eager | compiled | RecSim NG | ratio | training step | RecSim NG | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        eager, _, fast, _ = measured(cell, CollaborativeRecommender(*cell))
        trained = training_rate(cell)
        row = [*cell, number(eager), number(fast), number(acting.get(cell)), times(max(eager, fast), acting.get(cell))]
        row += [number(trained), number(training.get(cell)), times(trained, training.get(cell))]
        lines.append("| " + " | ".join(str(part) for part in row) + " |")
        print(lines[-1], flush=True)
    return lines


def times(own: float, peer: float | None) -> str:
    return "" if peer is None else f"{own / peer:.1f}×"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peer")
    for name, values in (("users", USERS), ("items", ITEMS), ("slates", SLATES)):
        parser.add_argument(f"--{name}", type=int, nargs="+", default=values)
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    limits = measure_limits()
    cells = list(product(arguments.users, arguments.items, arguments.slates))
    page = [
        "# Simulation speed",
        "",
        f"Millions of user-steps per second; interest evolution, {TOPICS} topics, horizon {HORIZON}; torch"
        f" {torch.__version__.split('+')[0]}, {torch.get_num_threads()} threads, {platform.machine()}. Written by"
        " `benchmarks/simulate.py` in one run.",
        "",
        f"Measured limits: memory {limits.bandwidth / 1e9:.1f} GB/s, exponentials {limits.exponentials / 1e9:.2f} G/s,"
        f" a small operator {limits.operator * 1e6:.1f} µs.",
        "",
        "## A uniform recommender",
        "",
        "bare: the same mathematics as a loop over tensors, eager or compiled; RecSim NG: its story in XLA, four steps",
        "to a turn of the loop, in one or with the users in two halves side by side, whichever is faster.",
        "",
        *uniform_table(cells, limits, arguments.peer),
        "",
        "## A collaborative filter inside the story, acting and learning",
        "",
        "RecSim NG: graph mode, which is faster here than XLA, in one or in two halves, whichever is faster.",
        "",
        *learned_table(LEARNED, arguments.peer),
        "",
        "## A softmax policy over 1,000 items, 64 dimensions, 10,000 users",
        "",
        *softmax_policy(limits),
        "",
    ]
    if arguments.out:
        arguments.out.write_text("\n".join(page), encoding="utf-8")
    print("\n".join(page))


if __name__ == "__main__":
    main()
