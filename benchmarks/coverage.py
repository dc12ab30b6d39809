"""Do trusted 95% intervals hold the truth 95% of the time, and does the verdict refuse where none could?

    python benchmarks/coverage.py --out docs/coverage.md         # an hour and a half on two cores
    python benchmarks/coverage.py --kinds 50 --logs 0            # only logs as they come in practice, 50 of each
    python benchmarks/coverage.py --logs 100 --only "one step"   # fewer logs, settings by a part of their name

Ends with 1 where trusted intervals cover less than the claim. See simulated_logs.py beside this file for what is
simulated.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from kind_coverage import measured, misses, section
from kind_coverage import row_of as row_of_kind
from simulated_logs import SETTINGS, Setting, replications

from recil.evaluate.on_log import estimates_of
from recil.evaluate.verdict import VERDICTS

TARGETS = ("ips", "snips", "pdis", "pdwis", "dr")
CLAIM, FEWEST = 0.935, 50
_MOST_BLOCKS = 5


@dataclass
class Tally:
    """Of one estimator in one setting: answers by verdict, and how many of their intervals hold the truth.

    An interval that is undefined holds nothing.
    """

    answers: Counter[str] = field(default_factory=Counter)
    covered: Counter[str] = field(default_factory=Counter)

    def add(self, verdict: str, low: float, high: float, truth: float) -> None:
        self.answers[verdict] += 1
        self.covered[verdict] += low <= truth <= high

    def share(self, verdict: str) -> float:
        return self.answers[verdict] / max(1, self.answers.total())

    def coverage(self, verdict: str) -> float:
        return self.covered[verdict] / self.answers[verdict] if self.answers[verdict] else math.nan

    def error(self, verdict: str) -> float:
        """The Monte Carlo error of the coverage: one standard error."""
        rate, count = self.coverage(verdict), self.answers[verdict]
        return math.sqrt(rate * (1 - rate) / count) if count else math.nan

    @staticmethod
    def together(tallies: Iterable[Tally]) -> Tally:
        total = Tally()
        for tally in tallies:
            total.answers.update(tally.answers)
            total.covered.update(tally.covered)
        return total


@dataclass(frozen=True)
class Found:
    """A setting with its tallies by estimator, and the median share of effective sessions behind ips."""

    setting: Setting
    logs: int
    truth: float
    tallies: dict[str, Tally]
    ess_share: float
    seconds: float

    @property
    def together(self) -> Tally:
        return Tally.together(self.tallies.values())


def measure(
    setting: Setting, logs: int, replicates: int = 1000, seed: int = 0, most_blocks: int = _MOST_BLOCKS
) -> Found:
    """`logs` logs, and as many again up to `most_blocks` times, until the coverage of trusted intervals and the claim
    lie more than two standard errors apart."""
    begun, truth = time.perf_counter(), setting.world().truth()
    tallies = {name: Tally() for name in TARGETS}
    shares: list[float] = []
    for block in range(most_blocks):
        for passed, facts in replications(setting, logs, replicates, seed + block):
            found = estimates_of(passed, TARGETS, facts)
            for row in found:
                tallies[row.estimator].add(row.verdict, row.raw.low, row.raw.high, truth)
            shares.append(found["ips"].diagnostics.ess_share)
        if told(Tally.together(tallies.values())):
            break
    return Found(setting, len(shares), truth, tallies, sorted(shares)[len(shares) // 2], time.perf_counter() - begun)


def told(tally: Tally) -> bool:
    """The five estimators look at the same logs: their answers count as one."""
    count = tally.answers["trust"] / len(TARGETS)
    if tally.answers["trust"] < FEWEST:
        return True
    rate = tally.coverage("trust")
    return abs(rate - CLAIM) > 2 * math.sqrt(max(rate * (1 - rate), 1e-9) / count)


def failures(found: Sequence[Found]) -> list[str]:
    """Where the claim does not hold, in words."""
    total = Tally.together(one.together for one in found)
    words = [] if not total.answers["trust"] or total.coverage("trust") >= CLAIM else ["all settings together"]
    for one in found:
        tally = one.together
        if tally.answers["trust"] >= FEWEST and tally.coverage("trust") < CLAIM:
            words.append(one.setting.name)
    return words


def percent(rate: float, digits: int = 1) -> str:
    return "" if math.isnan(rate) else f"{100 * rate:.{digits}f}"


def row_of(one: Found, name: str, tally: Tally) -> str:
    cells = [one.setting.name if name == TARGETS[0] else "", name]
    cells += [percent(tally.share(verdict), 0) for verdict in VERDICTS]
    trusted = percent(tally.coverage("trust"))
    cells.append(f"{trusted} ± {percent(tally.error('trust'))}" if trusted else "")
    cells += [percent(tally.coverage(verdict)) for verdict in VERDICTS[1:]]
    return "| " + " | ".join(cells) + " |"


def setting_row(one: Found) -> str:
    setting, tally = one.setting, one.together
    trusted = percent(tally.coverage("trust"))
    cells = [setting.name, setting.horizon, f"{setting.click:.1%}", f"{setting.sessions:,}", f"{one.logs:,}"]
    cells += [percent(one.ess_share, 0), percent(tally.share("trust"), 0), trusted]
    return "| " + " | ".join(map(str, cells)) + " |"


def page(found: Sequence[Found], replicates: int, practice: Sequence[str] = ()) -> str:
    total = Tally.together(one.together for one in found)
    missed = failures(found)
    simulated = sys.modules["simulated_logs"].__doc__ or ""
    lines = [
        "# Coverage of intervals, and what the verdict lets through",
        "",
        f"Written by `benchmarks/coverage.py`. {len(found)} settings, {sum(one.logs for one in found):,} logs, the five"
        f" estimators {', '.join(TARGETS)}, nominal 95% intervals from {replicates:,} bootstrap replicates, the verdict"
        " by the thresholds as they are.",
        "",
        f"**Trusted intervals cover {percent(total.coverage('trust'))}%** ({total.answers['trust']:,} of"
        f" {total.answers.total():,} answers are trusted). Intervals under `caution` cover"
        f" {percent(total.coverage('caution'))}%, and refused ones would have covered"
        f" {percent(total.coverage('refuse'))}%.",
        f"The claim is at least {CLAIM:.1%}, over all and in each setting with {FEWEST} trusted answers or more: "
        + (f"it fails in {', '.join(missed)}." if missed else "it holds."),
        "",
        *practice,
        "## What is simulated",
        "",
        *simulated.strip().splitlines()[2:],
        "",
        "## Settings",
        "",
        f"A setting whose coverage lies within two standard errors of the claim is given more logs, {_MOST_BLOCKS}"
        " times as many, so that it is told on which side it stands.",
        "",
        "ESS: median share of effective sessions of whole-session weights, %. Trusted: share of all answers, %.",
        "",
        "| setting | horizon | clicks | sessions | logs | ESS | trusted | coverage |",
        "|---|---|---|---|---|---|---|---|",
        *map(setting_row, found),
        "",
        "## By estimator",
        "",
        "Shares of `trust`, `caution` and `refuse` in %, and the coverage of the intervals that came with each; ± one"
        " standard error of the simulation.",
        "",
        "| setting | estimator | trust | caution | refuse | trusted cover | cautioned | refused would |",
        "|---|---|---|---|---|---|---|---|",
        *(row_of(one, name, tally) for one in found for name, tally in one.tallies.items()),
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=int, default=1000)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--only", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", type=int, default=300, help="logs of each kind that comes in practice")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    practice = []
    for kind, outcome in measured(arguments.kinds, 400, arguments.only, arguments.jobs) if arguments.kinds else ():
        practice.append((kind, outcome))
        print(row_of_kind(kind, outcome), f"{outcome.seconds:.0f} s", file=sys.stderr, flush=True)
    for setting in SETTINGS if arguments.logs else ():
        if arguments.only in setting.name:
            found.append(measure(setting, arguments.logs, arguments.replicates, arguments.seed))
            print(setting_row(found[-1]), f"{found[-1].seconds:.0f} s", file=sys.stderr, flush=True)
    text = page(found, arguments.replicates, section(practice))
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    print(text)
    return int(bool(failures(found)) or any(misses(*one) for one in practice))


if __name__ == "__main__":
    sys.exit(main())
