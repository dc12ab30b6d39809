"""What finetuning a clone gains where clicks are rare, over ten seeds, and what its guards are for.

    python benchmarks/learning.py --out docs/learning-benchmark.md --parts FOLDER       # about 20 minutes on 2 cores
    python benchmarks/learning.py --seeds 0 1                                            # a look

Every seed has worlds of its own. `contexts`: 20 contexts, 200 items, a few of which are clicked in each context; one
slate a session; values are exact. `sessions`: the demo's world with another seed; all policies meet the same sessions
of it, so that differences are paired. A finished seed is kept in FOLDER and not redone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import recil
from recil.evaluate.intervals import student_interval
from recil.exact.policy import STATE, TabularPolicy
from recil.exact.solve import start_value
from recil.exact.worlds import sparse_click_bandit
from recil.sim.generate import Truth, load_settings

SETTINGS = Path(__file__).resolve().parents[1] / "data" / "demo" / "settings.toml"
MET = 40_000
BUDGET = 40_000
DOUBLING = [500 * 2**power for power in range(9)]
# Small batches and large steps, under which a clone does not survive without guards.
ROUGH = {"batch": 25, "learning_rate": 3e-2}
UNGUARDED = {
    "kl": 0.0,
    "cap": 1e9,
    "entropy_floor": 0.0,
    "critic_warmup": 0,
    "iteration_kl": 1e9,
    "gradient_norm": 1e9,
}
FIRST = (500, 1000, 2000)


class Contexts:
    """A bandit of many contexts with exact values, its demonstrator's log of 20,000 sessions, and the clone of it."""

    def __init__(self, seed: int, skill: float, rates: tuple[float, float]) -> None:
        self.mdp, demonstrator = sparse_click_bandit(skill=skill, rates=rates, seed=seed)
        self.world = recil.TabularWorld(self.mdp, 1)
        self.log = recil.simulate(TabularPolicy(demonstrator), self.world, 20_000, seed)
        self.demonstrator = float(start_value(self.mdp, demonstrator))
        self.clone = recil.clone(self.log, seed=seed)
        self.seed = seed

    def value(self, policy: Any) -> float:
        """Its click rate, exactly."""
        contexts = self.mdp.size[0] - 2
        states = torch.arange(contexts)[:, None]
        history = recil.History.start(torch.zeros(contexts, dtype=torch.int64), 1, context={STATE: states})
        with torch.no_grad():
            shown = policy.next_logits(history).double().softmax(-1)
        return float((shown * self.mdp.mean_reward[:contexts]).sum(1).mean())

    def finetuned(self, sessions: int = BUDGET, **settings: Any) -> float:
        """The value after finetuning in the world."""
        config = recil.FinetuneConfig(sessions=sessions, **settings)
        return self.value(recil.finetune(self.clone, self.world, config, self.seed))


def in_contexts(seed: int) -> dict[str, Any]:
    """A weak demonstrator: what finetuning gains on it, and what learning from scratch takes."""
    case = Contexts(seed, skill=0.07, rates=(0.002, 0.102))
    clone, curve = case.value(case.clone), []
    for sessions in DOUBLING:
        policy = recil.reinforce(case.clone, case.world, recil.ReinforceConfig(sessions=sessions), seed)
        curve.append(case.value(policy))
        if curve[-1] > clone:
            break
    return {
        "click_rate": float(case.log.reward.mean()),
        "demonstrator": case.demonstrator,
        "clone": clone,
        "finetuned on the log": case.value(recil.finetune(case.clone, case.log, seed=seed)),
        "finetuned in the world": case.finetuned(),
        "first": case.finetuned(DOUBLING[0]),
        "scratch": DOUBLING[len(curve) - 1] if curve[-1] > clone else None,
    }


def first_steps(seed: int) -> dict[str, Any]:
    """A demonstrator that is nearly the best, of which finetuning can only lose, and the first 5% of a budget."""
    case = Contexts(seed, skill=0.9, rates=(0.0002, 0.0102))
    clone = case.value(case.clone)
    found: dict[str, Any] = {"click_rate": float(case.log.reward.mean()), "clone": clone}
    found["whole, as given"] = case.finetuned() / clone - 1
    found["log, as given"] = case.value(recil.finetune(case.clone, case.log, seed=seed)) / clone - 1
    for sessions in FIRST:
        found[f"as given {sessions}"] = case.finetuned(sessions) / clone - 1
        found[f"guarded {sessions}"] = case.finetuned(sessions, **ROUGH) / clone - 1
        found[f"unguarded {sessions}"] = case.finetuned(sessions, **ROUGH, **UNGUARDED) / clone - 1
    return found


def in_sessions(seed: int) -> dict[str, Any]:
    """The demo's world: means, and paired standard errors of the difference from the clone and the demonstrator."""
    truth = Truth(load_settings(SETTINGS).model_copy(update={"seed": seed}))
    world, log = truth.world, truth.log()
    start = recil.clone(log, seed=seed)
    policies: dict[str, recil.Policy] = {
        "demonstrator": truth.logging_policy,
        "clone": start,
        "finetuned on the log": recil.finetune(start, log, seed=seed),
        "finetuned in the world": recil.finetune(start, world, recil.FinetuneConfig(sessions=20_000), seed),
    }
    returns = {
        name: recil.simulated_value(policy, world, MET, 90_000 + seed).returns for name, policy in policies.items()
    }
    found: dict[str, Any] = {name: float(values.mean()) for name, values in returns.items()}
    for base in ("clone", "demonstrator"):
        for name, values in returns.items():
            found[f"{name} - {base}"] = float((values - returns[base]).std(ddof=1) / MET**0.5)
    return found | {"click_rate": float(log.reward.sum() / log.impressions)}


def one_seed(seed: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    return {"seed": seed, "contexts": in_contexts(seed), "steps": first_steps(seed), "sessions": in_sessions(seed)}


def _kept(seed: int, folder: Path | None) -> dict[str, Any]:
    file = None if folder is None else folder / f"seed-{seed}.json"
    if file is not None and file.exists():
        return dict(json.loads(file.read_text()))
    found = one_seed(seed)
    if file is not None:
        file.write_text(json.dumps(found))
    return found


def _interval(values: Sequence[float]) -> str:
    mean, low, high = student_interval(np.array(values), 0.95) if len(values) > 1 else (values[0], np.nan, np.nan)
    return f"{mean:+.1%} [{low:+.1%}, {high:+.1%}], worst {min(values):+.1%}"


def _gains(rows: Sequence[dict[str, Any]], part: str) -> list[str]:
    found = [row[part] for row in rows]
    rates = [one["click_rate"] for one in found]
    lines = [
        f"## {part.title()}",
        "",
        f"{min(rates):.2%} to {max(rates):.2%} of the items shown are clicked in the logs.",
        "",
        "| policy | against the clone | against the demonstrator |",
        "|---|---|---|",
    ]
    for name in ("clone", "finetuned on the log", "finetuned in the world"):
        cells = [_interval([one[name] / one[base] - 1 for one in found]) for base in ("clone", "demonstrator")]
        lines.append(f"| {name} | {'' if name == 'clone' else cells[0]} | {cells[1]} |")
    if part == "sessions":
        for name in ("finetuned on the log", "finetuned in the world"):
            least = min((one[name] - one[base]) / one[f"{name} - {base}"] for one in found for base in BASES)
            lines += ["", f"{name}: in every world above both, by {least:.0f} standard errors at the least."]
    return [*lines, ""]


BASES = ("clone", "demonstrator")


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The whole file."""
    lines = [
        "# Finetuning where clicks are rare",
        "",
        f"{len(rows)} seeds, each with worlds of its own; relative differences of true values, their mean with its 95%"
        " interval over seeds, and the worst seed. Written by `benchmarks/learning.py`, which says what they are.",
        "",
        *_gains(rows, "contexts"),
        *_gains(rows, "sessions"),
        "## From scratch",
        "",
        "In `contexts`: sessions that REINFORCE without a clone needs until its exact value is above the clone's, a"
        f" budget doubling from {DOUBLING[0]}; the clone has acted in none. Beside it, what finetuning makes of its"
        f" first {DOUBLING[0]}.",
        "",
        "| seed | the clone's value | from the clone, after 500 | from scratch, sessions | ratio |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        one = row["contexts"]
        scratch = f"more than {DOUBLING[-1]:,}" if one["scratch"] is None else f"{one['scratch']:,}"
        ratio = (one["scratch"] or DOUBLING[-1]) / DOUBLING[0]
        lines.append(f"| {row['seed']} | {one['clone']:.4f} | {one['first']:.4f} | {scratch} | {ratio:.0f}× |")
    steps = [row["steps"] for row in rows]
    rates = [one["click_rate"] for one in steps]
    lines += [
        "",
        "## A demonstrator that is nearly the best",
        "",
        f"`contexts` with clicks on {min(rates):.2%} to {max(rates):.2%} of the items shown and a demonstrator within a"
        " tenth of the best: finetuning can hardly gain and may lose. Value against the clone's.",
        "",
        f"- Finetuned on the log: {_interval([one['log, as given'] for one in steps])}.",
        f"- Finetuned in the world, {BUDGET:,} sessions: {_interval([one['whole, as given'] for one in steps])}.",
        "",
        "The first 5% of that budget; *rough*: batches of 25 sessions and steps of .03. Unguarded: no cost of leaving"
        " the clone, no cap on ratios, no floor of entropy, no warm-up of the critic, no end of an iteration at a"
        " distance, no bound on gradients.",
        "",
        "| sessions | as given | rough, guarded | rough, unguarded |",
        "|---|---|---|---|",
    ]
    for sessions in FIRST:
        cells = [
            _interval([one[f"{kind} {sessions}"] for one in steps]) for kind in ("as given", "guarded", "unguarded")
        ]
        lines.append(f"| {sessions:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--parts", type=Path, help="a folder for finished seeds")
    arguments = parser.parse_args()
    if arguments.parts is not None:
        arguments.parts.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(arguments.jobs) as pool:
        rows = list(pool.map(partial(_kept, folder=arguments.parts), arguments.seeds))
    sys.stdout.write(page(rows))
    if arguments.out is not None:
        arguments.out.write_text(page(rows))


if __name__ == "__main__":
    main()
