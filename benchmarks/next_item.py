"""Which item comes next in MovieLens (latest small): the cloner beside popularity, Markov and session-kNN.

    python benchmarks/next_item.py --data FOLDER --out docs/next-item-benchmark.md          # an hour of one core

Leave one out: each user's last rating is what is to be guessed, from all before it; whole catalogue, less what the user
has rated already. The cloner's settings were chosen on the rating before the last (--last 1). Ratings are no exposures:
this is a measure of cloning, and says nothing of a policy's value.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed

import recil
from recil.evaluate.intervals import student_interval
from recil.ops.ranking import hit_rate, ndcg, rank_of

LONGEST = 200  # steps of a session that a cloner sees at once: longer ones are trained on in pieces
CLONERS = {
    "clone, transformer": recil.CloneConfig(
        "transformer", batch=16, epochs=24, learning_rate=2e-3, held_out=0.01, dropout=0.3, tied=True, annealed=True
    )
}


def without_last(log: recil.SessionLog, count: int, longest: int | None = None) -> recil.SessionLog:
    """Each session less its `count` last steps; in pieces of at most `longest` steps, counted from its end."""
    frame = log.to_frame()
    place = frame.groupby("session_id", sort=False).cumcount(ascending=False)
    kept = frame[place >= count]
    if longest is not None:
        piece = (place[kept.index] - count) // longest
        kept = kept.assign(session_id=kept["session_id"].astype(str) + "-" + piece.astype(str))
        kept = kept.assign(step=kept.groupby("session_id", sort=False).cumcount())
    return recil.SessionLog.from_frame(kept, log.items_frame())


def ranks(policy: recil.Policy, log: recil.SessionLog, last: int) -> torch.Tensor:
    """float [S]: of each session's item `last` steps before its end, among those not rated before it."""
    found = []
    for session in range(log.sessions):
        whole = log.batch(np.array([session]))
        before = whole.prefix(int(whole.length) - 1 - last)
        item = whole.items[:, int(whole.length) - 1 - last, 0]
        short = before if before.steps <= LONGEST else _last_steps(before)
        with torch.no_grad():
            logits = policy.next_logits(short if isinstance(policy, recil.SoftmaxPolicy) else before)
        logits = logits.clone().float()
        logits[:, before.items.flatten()] = -torch.inf
        found.append(rank_of(logits, item))
    return torch.cat(found)


def _last_steps(history: recil.History) -> recil.History:
    """Its last `LONGEST` steps alone."""

    def cut(values: torch.Tensor) -> torch.Tensor:
        return values[:, -LONGEST:]

    return replace(
        history,
        items=cut(history.items),
        reward=cut(history.reward),
        length=history.length.clamp(max=LONGEST),
        propensity=None if history.propensity is None else cut(history.propensity),
        feedback={name: cut(values) for name, values in history.feedback.items()},
        memo={},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with ratings.csv and movies.csv")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--last", type=int, default=0, help="1: guess the rating before the last, to choose settings")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at once; give each a thread by OMP_NUM_THREADS=1")
    arguments = parser.parse_args()
    log = recil.read_log(arguments.data, "movielens", quarantine=True)
    train = without_last(log, 1 + arguments.last)
    recent = without_last(log, 1 + arguments.last, LONGEST)
    chain = _gains(ranks(recil.markov(train), log, arguments.last))
    lines = [_row(name, [ranks(make(train), log, arguments.last)], chain, 0.0) for name, make in FOILS.items()]
    for name, config in CLONERS.items():
        started = time.perf_counter()
        tasks = (delayed(recil.clone)(recent, config, seed) for seed in arguments.seeds)
        policies = Parallel(n_jobs=arguments.jobs)(tasks)
        seconds = arguments.jobs * (time.perf_counter() - started) / len(policies)
        lines.append(_row(name, [ranks(policy, log, arguments.last) for policy in policies], chain, seconds))
    text = page(lines, log, len(arguments.seeds))
    sys.stdout.write(text)
    if arguments.out is not None:
        arguments.out.write_text(text)


FOILS: dict[str, Callable[[recil.SessionLog], recil.Policy]] = {
    "popularity": lambda log: recil.popular(
        log.__class__.from_frame(log.to_frame().assign(click=1.0), log.items_frame())
    ),
    "Markov, first order": recil.markov,
    "session-kNN": recil.knn,
}


def _row(name: str, found: Sequence[torch.Tensor], chain: np.ndarray, seconds: float) -> str:
    """found: ranks [S] by each seed; chain: the Markov chain's gains."""
    cells = []
    for measure in (ndcg, hit_rate):
        values = np.array([float(measure(rank, 10)) for rank in found])
        cells.append(f"{values[0]:.4f}" if len(values) == 1 else _interval(values, ""))
    difference = np.mean([_gains(rank) for rank in found], 0) - chain
    cells.append(_interval(difference, "+") if difference.any() else "")
    row = f"| {name} | {' | '.join(cells)} | {f'{seconds:.0f} s' if seconds else ''} |"
    print(row, file=sys.stderr, flush=True)
    return row


def _gains(rank: torch.Tensor) -> np.ndarray:
    """float [S]: each user's NDCG@10."""
    return np.array([float(ndcg(one, 10)) for one in rank.split(1)])


def _interval(values: np.ndarray, sign: str) -> str:
    return "{:{s}.4f} [{:{s}.4f}, {:{s}.4f}]".format(*student_interval(values, 0.95), s=sign)


def page(lines: Sequence[str], log: recil.SessionLog, seeds: int) -> str:
    """The whole file."""
    head = [
        "# The next item",
        "",
        f"MovieLens latest small: {log.sessions} users, {log.impressions:,} ratings, {log.catalogue:,} films."
        f" Each user's last rating is guessed, among all films that the user has not rated before; {seeds} seeds. 95%"
        " intervals: of NDCG and hits over seeds; of the difference from the Markov chain over users, seeds averaged:"
        " how far so few users can tell two models apart. Written by `benchmarks/next_item.py`.",
        "",
        "| model | NDCG@10 | hits@10 | NDCG@10 less Markov's | training |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *lines]) + "\n"


if __name__ == "__main__":
    main()
