"""What tracking costs: the demo's training with and without its runs in MLflow, and how many processes a store takes.

    OMP_NUM_THREADS=1 python benchmarks/track.py [--repeats 3]
    OMP_NUM_THREADS=1 python benchmarks/track.py --whole       # the demo of one seed, in this process: minutes

Both ways train the demo's clone on the demo's log with the same seed. "tracked" reports to a RunWriter as `recil run`
does (begin, metrics of every epoch, parameters, datasets, files, end); "bare" throws its metrics away. They
take turns, and the cost is the median of the paired ratios. Below it, the seconds spent within tracking calls alone,
which are steadier than the difference of two trainings on a machine that is shared. With --whole: the seconds within
every RunWriter's calls, of all runs of the demo, beside those of all its training and of everything.
"""

from __future__ import annotations

import argparse
import functools
import operator
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recil.cli.experiments import demo_file
from recil.config import load_experiment
from recil.experiment import learn
from recil.experiment.walk import run_experiment
from recil.jobs import one_thread
from recil.logs.read import read_log
from recil.logs.session_log import SessionLog
from recil.policies.storage import save
from recil.track.run import RunWriter
from recil.track.store import Store, ensure_experiment, prepare_store, resolve_store
from recil.train.clone import clone


class Timed:
    """Calls through, and adds up the seconds, and those of them in which this process computed."""

    def __init__(self) -> None:
        self.seconds = self.worked = 0.0

    def __call__(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        started, worked = time.perf_counter(), time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            self.seconds += time.perf_counter() - started
            self.worked += time.process_time() - worked


def bare(log: SessionLog, config: Any, _: Path) -> tuple[float, float, float]:
    started = time.perf_counter()
    clone(log, config, 0, on_metrics=lambda step, metrics: None)
    return time.perf_counter() - started, 0.0, 0.0


def tracked(log: SessionLog, config: Any, folder: Path) -> tuple[float, float, float]:
    """Seconds in all, those within tracking, and those computed there."""
    store, timed = _store(folder), Timed()
    started = time.perf_counter()
    writer = timed(RunWriter, store, timed(ensure_experiment, store, "recil-cost"), "clone-0", folder / "spool")

    def on_metrics(step: int, metrics: Mapping[str, float]) -> None:
        timed(writer.metrics, metrics, step)

    policy = clone(log, config, 0, on_metrics=on_metrics)
    seconds = time.perf_counter() - started
    save(policy, folder / "policy")  # made with or without tracking
    started = time.perf_counter()
    timed(writer.params, {"method": config})
    timed(writer.dataset, log, "demo", "train", "demo")
    timed(writer.file, folder / "policy", "saved")
    timed(writer.close)
    return seconds + time.perf_counter() - started, timed.seconds, timed.worked


def _store(folder: Path) -> Store:
    store = resolve_store(folder=folder)
    prepare_store(store)
    return store


class Watched:
    """Adds up the seconds within functions of a module or class; calls within calls are counted once."""

    def __init__(self, within: Watched | None = None) -> None:
        self.seconds = self.inside = 0.0
        self.depth = self.calls = 0
        self.within = within

    def watch(self, owner: Any, *names: str) -> None:
        for name in names:
            setattr(owner, name, self._around(getattr(owner, name)))

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def called(*arguments: Any, **options: Any) -> Any:
            self.depth, started = self.depth + 1, time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.depth -= 1
                self.calls += 1
                took = 0.0 if self.depth else time.perf_counter() - started
                self.seconds += took
                self.inside += took if self.within is not None and self.within.depth else 0.0

        return called


def whole_demo() -> None:
    training, drawing = Watched(), Watched()
    writing = Watched(within=training)
    public = [name for name, what in vars(RunWriter).items() if name[0] != "_" and callable(what)]
    drawing.watch(RunWriter, "figure")
    writing.watch(RunWriter, "__init__", "__exit__", *public)
    training.watch(learn, "clone", "finetune", "reinforce", "fit_users")
    with one_thread(), tempfile.TemporaryDirectory() as place:
        store = _store(Path(place))
        started = time.perf_counter()
        run_experiment(load_experiment(demo_file(), ("seeds=[0]",)), store, work=Path(place) / "work")
        seconds = time.perf_counter() - started
    print(f"the demo of one seed                {seconds:8.2f} s, {training.seconds:.2f} s of training")
    print(f"within tracking calls               {writing.seconds:8.2f} s, {writing.calls} calls of RunWriter")
    print(f"of these, drawing figures           {drawing.seconds:8.2f} s")
    print(f"all of them, of the demo            {writing.seconds / seconds:8.2%}")
    print(f"those made by training, of training {writing.inside / training.seconds:8.2%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--whole", action="store_true", help="all runs of the demo, with one seed")
    options = parser.parse_args()
    if options.whole:
        whole_demo()
        return
    experiment = load_experiment(demo_file(), ())
    (method,) = [method for method in experiment.methods if method.kind == "clone"]
    train, _ = read_log(experiment.path(experiment.log.path)).split(by="session", test=0.2)
    ratios, shares, lengths, worked = [], [], [], []
    with one_thread(), tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _store(folder)
        tracked(train.select(range(200)), method.settings, folder)  # imports, and the first connection
        for number in range(options.repeats):
            turns = (bare, tracked) if number % 2 else (tracked, bare)
            seconds = {way.__name__: way(train, method.settings, folder) for way in turns}
            ratios.append(seconds["tracked"][0] / seconds["bare"][0] - 1)
            shares.append(seconds["tracked"][1] / seconds["bare"][0])
            lengths.append(seconds["bare"][0])
            worked.append(seconds["tracked"][2])
    print(f"training the demo's clone, bare     {statistics.median(lengths):8.2f} s (median of {options.repeats})")
    print(f"cost of tracking, by the difference {statistics.median(ratios):8.2%}  {[f'{r:.2%}' for r in ratios]}")
    print(f"cost of tracking, within its calls  {statistics.median(shares):8.2%}  {[f'{s:.2%}' for s in shares]}")
    print(f"seconds within them for each run    {statistics.median(map(operator.mul, shares, lengths)):8.3f}")
    print(f"of these, this process computed     {statistics.median(worked):8.3f} (the rest waits for the disk)")


if __name__ == "__main__":
    main()
