"""Do users fitted to a log predict the values of policies that did not write it? In worlds where the truth is known.

    python benchmarks/users.py --parts FOLDER --out docs/users-benchmark.md

In each of several worlds a mediocre recommender writes a log of 20,000 sessions; users are fitted to it, and an
ensemble to its bootstraps. Policies are then simulated among the fitted users and in the true world, under common
random numbers. Two more tables: the click rate of simulated sessions for logs from rare to frequent clicks, and what
is found of the users' parameters as the log grows. --worlds, --rates, --sizes: fewer of each. A part that is finished
is kept in FOLDER, so that processes can share the work.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats

import recil
from recil.evaluate.components import EnsembleValue
from recil.evaluate.simulate import simulate
from recil.logs.session_log import SessionLog
from recil.policies.protocol import Policy
from recil.sim.ensemble import fit_ensemble
from recil.sim.fit import fit_users
from recil.sim.generate import Recommender, Settings, Truth
from recil.sim.predict import predict
from recil.sim.users import UserModel
from recil.sim.world import World

TIMES = 10  # simulated sessions for each logged one, where rates are compared
# What is special about each world. All: 64 types of user, slates of 3, at most 12 steps.
WORLDS: dict[str, dict] = {
    "sparse": {"items": 300, "click_rate": 0.0075},
    "impatient": {"click_rate": 0.05, "leaving_rate": 0.04, "impatience": 0.8},
    "indifferent": {"click_rate": 0.05, "leaving_rate": 0.15, "impatience": 0.0},
    "drift": {"click_rate": 0.03, "click_gain": 1.8, "skip_gain": 0.3, "recommender_memory": 1.5},
    "fatigue": {"items": 60, "click_rate": 0.06, "fatigue": 2.5, "recommender_variety": 0.0},
    "kinds": {"items": 60, "click_rate": 0.05, "types": 3, "dimension": 4, "interest_spread": 1.8},
}
SEED = 11


class Case(NamedTuple):
    """A policy's true value and mean session length, and what fitted users say of them.

    error: standard error of `truth`; low, high: the ensemble's 95% interval around `value`.
    """

    policy: str
    truth: float
    error: float
    length: float
    value: float
    low: float
    high: float
    found_length: float

    @property
    def off(self) -> float:
        return self.value / self.truth - 1

    @property
    def covered(self) -> bool:
        """Whether the interval, widened by the truth's own error, holds the truth."""
        half = math.hypot(self.high - self.value, 1.96 * self.error)
        return abs(self.truth - self.value) <= half


def settings_of(name: str, sessions: int, seed: int = 0) -> Settings:
    return Settings.model_validate({"seed": seed, "sessions": sessions, "items": 100, **WORLDS[name]})


def met(policy: Policy, world: World, sessions: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns and lengths of sessions, float64 [sessions]; the same users for every policy."""
    log = simulate(policy, world, sessions, SEED, batch=8192)
    rewards = np.add.reduceat(log.reward.sum(1, dtype=np.float64), log.offsets[:-1])
    return rewards, log.lengths.astype(float)


def known_policies(truth: Truth) -> dict[str, Policy]:
    """Policies that know what users like on average, and use it, more or less, or turn it round."""
    assert isinstance(truth.world, World)
    catalogue = truth.world.users.behaviour.catalogue({})
    appeal, direction = catalogue.appeal, catalogue.direction
    return {
        "greedy": Recommender(30 * appeal, direction, 0.0, 0.0),
        "anti-greedy": Recommender(-30 * appeal, direction, 0.0, 0.0),
        "softmax 1": Recommender(appeal, direction, 0.0, 0.0),
        "softmax 1/3": Recommender(3 * appeal, direction, 0.0, 0.0),
    }


def learned_policies(log: SessionLog) -> dict[str, Policy]:
    """Policies made of the log alone."""
    cloned = recil.clone(log)
    bold = recil.FinetuneConfig(kl=0.03, margin=0.0, epochs=10)
    return {
        "uniform": recil.uniform(log),
        "popular": recil.popular(log),
        "kNN": recil.knn(log),
        "clone": cloned,
        "finetuned": recil.finetune(cloned, log),
        "finetuned boldly": recil.finetune(cloned, log, bold, seed=1),
    }


def world_cases(name: str, arguments: argparse.Namespace) -> dict:
    """What fitted users say of policies in this world, beside the truth."""
    truth = Truth(settings_of(name, arguments.sessions))
    assert isinstance(truth.world, World)
    log, began = truth.log(), time.process_time()
    ensemble = fit_ensemble(log, members=arguments.members)
    seconds = (time.process_time() - began) / (1 + arguments.members)
    worlds = [World(users, truth.world.horizon, known=True) for users in (ensemble.central, *ensemble.members)]
    policies = {**known_policies(truth), **learned_policies(log)}
    policies["finetuned in the users"] = recil.finetune(policies["clone"], worlds[0])  # type: ignore[arg-type]
    cases = []
    for policy, acting in {"logging": truth.logging_policy, **policies}.items():
        returns, lengths = met(acting, truth.world, arguments.true)
        found = [met(acting, world, arguments.simulated) for world in worlds]
        value = EnsembleValue.of(np.stack([rewards for rewards, _ in found]))
        error = float(returns.std(ddof=1)) / math.sqrt(len(returns))
        said = (value.value, value.low, value.high, float(found[0][1].mean()))
        cases.append(Case(policy, float(returns.mean()), error, float(lengths.mean()), *said))
        print(name, cases[-1], flush=True)
    layout, report = ensemble.central.behaviour.layout, ensemble.central.report
    about = {"choice": layout.choice, "window": layout.window, "epochs": report["epochs"], "seconds": seconds}
    return {"clicks": float(log.reward.sum()), **about, "cases": [case._asdict() for case in cases]}


def rate_case(rate: float, arguments: argparse.Namespace) -> dict:
    """The click rate per item shown: logged, with its binomial interval, and of `TIMES` as many simulated sessions."""
    settings = settings_of("impatient", arguments.sessions // 2).model_copy(update={"click_rate": rate})
    if rate > 0.3:
        # Of three items on a slate at most one is clicked: with one, half of all can be.
        settings = settings.model_copy(update={"slate_size": 1})
    truth = Truth(settings)
    log = truth.log()
    users = fit_users(log)
    again = simulate(truth.logging_policy, World(users, settings.horizon, known=True), TIMES * log.sessions, SEED)
    shown, clicks = int((log.items >= 0).sum()), int(log.reward.sum())
    interval = stats.binomtest(clicks, shown).proportion_ci(0.95, "wilson")
    found = float(again.reward.sum() / (again.items >= 0).sum())
    return {"rate": rate, "clicks": clicks, "logged": clicks / shown, "low": interval.low, "high": interval.high} | {
        "found": found, "z": (found - clicks / shown) / math.sqrt((1 + 1 / TIMES) * found * (1 - found) / shown)
    }  # fmt: skip


def liking(users: UserModel) -> np.ndarray:
    """[A]: each item's appeal to users who have just come, in log-odds of its mean probability."""
    behaviour, catalogue = users.behaviour, users.behaviour.catalogue(users.item_columns)
    likes = catalogue.appeal[:, None] + catalogue.vectors @ behaviour.type_home.T
    likes = likes + behaviour.appeal + behaviour.type_appeal
    mean = (torch.sigmoid(likes) * behaviour.type_log_prior().exp()).sum(1).double()
    return torch.logit(mean).numpy()


def size_case(sessions: int, arguments: argparse.Namespace) -> dict:
    """What is found of the users of a world in the first sessions of its log."""
    truth = Truth(settings_of("impatient", max(arguments.sizes)))
    assert isinstance(truth.world, World)
    users = fit_users(truth.log().select(np.arange(sessions)))
    fresh = simulate(truth.logging_policy, truth.world, 4000, SEED)
    own, found, shown = predict(truth.world.users, fresh), predict(users, fresh), fresh.items >= 0
    return {
        "sessions": sessions,
        "appeal": float(np.std(liking(users) - liking(truth.world.users))),
        "click": float(np.sqrt(((own.click - found.click)[shown] ** 2).mean())),
        "leave": float(np.sqrt(((own.leave - found.leave) ** 2).mean())),
        "impatience": float(users.behaviour.hazard_impatience),
        "nats": float((own.log_prob - found.log_prob).mean()),
    }


def kept(folder: Path, name: str, make: Callable[[], dict]) -> dict:
    """A part of the page, from the folder where it was finished before."""
    path = folder / f"{name}.json"
    if not path.exists():
        found = make()
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def table(head: str, rows: Iterable[Sequence[object]]) -> list[str]:
    columns = head.split(" | ")
    lines = [f"| {head} |", "|---" * len(columns) + "|"]
    return [*lines, *("| " + " | ".join(str(part) for part in row) + " |" for row in rows), ""]


def cases_of(part: dict) -> list[Case]:
    """The policies that did not write the log."""
    return [case for case in (Case(**each) for each in part["cases"]) if case.policy != "logging"]


def spearman(cases: Sequence[Case]) -> float:
    return float(stats.spearmanr([case.truth for case in cases], [case.value for case in cases])[0])


def summary(parts: dict[str, dict]) -> list[str]:
    rows, everything = [], [case for part in parts.values() for case in cases_of(part)]
    for name, part in parts.items():
        cases = cases_of(part)
        off = [abs(case.off) for case in cases]
        true, found = [case.length for case in cases], [case.found_length for case in cases]
        row = [name, f"{part['clicks']:,.0f}", f"{spearman(cases):.3f}", f"{np.median(off):.1%}", f"{max(off):.0%}"]
        row += [f"{sum(case.covered for case in cases)} of {len(cases)}", f"{min(true):.2f} to {max(true):.2f}"]
        rows.append([*row, f"{min(found):.2f} to {max(found):.2f}", f"{part['seconds']:.0f} s"])
    off = [abs(case.off) for case in everything]
    share = np.mean([case.covered for case in everything])
    verdict = f"All {len(off)} cases: median relative error {np.median(off):.1%}, {share:.0%} of the intervals hold."
    head = "world | clicks | Spearman | median error | largest | intervals that hold | true lengths | simulated | a fit"
    return [*table(head, rows), verdict, ""]


def policies_table(parts: dict[str, dict]) -> list[str]:
    lines: list[str] = []
    for name, part in parts.items():
        special = ", ".join(f"{key} {value}" for key, value in WORLDS[name].items())
        lines += [f"### {name}", "", f"{special}; fitted: {part['choice']}, window {part['window']}", ""]
        rows = [
            (case.policy, f"{case.truth:.4f} ± {case.error:.4f}", f"{case.value:.4f}", f"{case.off:+.1%}",
             f"{case.low:.4f} to {case.high:.4f}{'' if case.covered else ' (misses)'}",
             f"{case.length:.2f}", f"{case.found_length:.2f}")
            for case in (Case(**each) for each in part["cases"])
        ]  # fmt: skip
        lines += table("policy | true value | simulated | error | 95% interval | true length | simulated", rows)
    return lines


def page(arguments: argparse.Namespace, worlds: dict, rates: Sequence[dict], sizes: Sequence[dict]) -> str:
    settings = (
        f"{len(worlds)} worlds; logs of {arguments.sessions:,} sessions; {arguments.members} members beside the central"
        f" users; {arguments.true:,} true and {arguments.simulated:,} simulated sessions for each policy."
    )
    rate_rows = [
        (f"{one['rate']:.1%}", f"{one['clicks']:,}", f"{one['logged']:.4%}", f"{one['low']:.4%} to {one['high']:.4%}",
         f"{one['found']:.4%}", "yes" if one["low"] <= one["found"] <= one["high"] else "no", f"{one['z']:+.1f}")
        for one in rates
    ]  # fmt: skip
    names = ("appeal", "click", "leave", "impatience", "nats")
    size_rows = [(f"{one['sessions']:,}", *(f"{one[name]:.3f}" for name in names)) for one in sizes]
    lines = [
        "# Fitted users against known worlds", "",
        f"{settings} Written by `benchmarks/users.py`.", "", *summary(worlds),
        "Errors are those of the simulated value, relative to the true one. The interval is the ensemble's, widened by",
        "the error of the truth itself. Lengths: the least and the greatest mean session length among policies. Each",
        "world is of seed 0, and how users are fitted was settled with some of these worlds in view: another seed is a",
        "fairer test.", "",
        "## Click rates", "",
        f"Per item shown, the logging policy's, of {TIMES} times as many simulated as logged sessions; z: their",
        "difference in standard errors of both. The interval is the logged rate's.", "",
        *table("asked for | clicks | logged | 95% interval | simulated | inside | z", rate_rows),
        "## Longer logs", "",
        "World `impatient`. Items' appeal: standard deviation of what was found from what is true, in log-odds;",
        "clicks and leaving: root mean square error of probabilities on fresh sessions; impatience: 0.8 is true; nats:",
        "what the true users' log-likelihood per session is better by.", "",
        *table("sessions | appeal | clicks | leaving | impatience | nats", size_rows),
        "## Every policy", "", *policies_table(worlds),
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--parts", type=Path, required=True, help="a folder for finished parts, which are not redone")
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS), choices=list(WORLDS))
    parser.add_argument("--rates", type=float, nargs="*", default=[0.001, 0.01, 0.1, 0.5])
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 5000, 20_000])
    for name, value in (("sessions", 20_000), ("members", 5), ("true", 100_000), ("simulated", 20_000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    parts = arguments.parts
    worlds = {name: kept(parts, name, partial(world_cases, name, arguments)) for name in arguments.worlds}
    rates = [kept(parts, f"rate-{rate}", partial(rate_case, rate, arguments)) for rate in arguments.rates]
    sizes = [kept(parts, f"size-{size}", partial(size_case, size, arguments)) for size in arguments.sizes]
    if arguments.out:
        arguments.out.write_text(page(arguments, worlds, rates, sizes), encoding="utf-8")
    print("\n".join(summary(worlds)) if worlds else "")


if __name__ == "__main__":
    main()
