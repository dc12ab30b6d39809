"""Where work runs: units one after another in this process, or side by side in local processes."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeVar

from recil.errors import InputError

# glibc hands every freed block above 32 MB back to the system and faults it in again: a seventh of the time of
# training over catalogues of thousands. The processes are short-lived; let them keep what they have. Ignored elsewhere.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 31)}

Unit = TypeVar("Unit")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """What stopped a unit.

    message    one line; for bad input, the whole message of the InputError
    bad_input  the unit's input was at fault (InputError), not the program
    trace      the traceback as text
    """

    message: str
    bad_input: bool
    trace: str

    @staticmethod
    def of(error: BaseException) -> Failure:
        bad_input = isinstance(error, InputError)
        message = str(error) if bad_input else f"{type(error).__name__}: {error}"
        return Failure(message, bad_input, "".join(traceback.format_exception(error)))


def run_units(
    function: Callable[[Unit], Result], units: Iterable[Unit], jobs: int = 1
) -> Iterator[tuple[Unit, Result | Failure]]:
    """Each unit with what `function` made of it, as they finish; a unit that fails is returned with its Failure.

    jobs: 1 runs in this process, in order; more run in as many processes, to which the function (of a module) and the
    units (plain values) are sent. Every unit computes on one thread in both cases, so its numbers do not depend on
    `jobs`. An interrupt ends the processes and is raised.
    """
    units = list(units)
    if jobs < 1:
        raise InputError("--jobs", f"{jobs} processes cannot work", "give 1 or more")
    if jobs == 1 or len(units) <= 1:
        for unit in units:
            yield unit, _attempt(function, unit)
    else:
        yield from _in_processes(function, units, min(jobs, len(units)))


def _in_processes(
    function: Callable[[Unit], Result], units: list[Unit], jobs: int
) -> Iterator[tuple[Unit, Result | Failure]]:
    from joblib import Parallel, delayed, parallel_config

    left = dict(enumerate(units))
    try:
        with _environment(_KEEP_MEMORY), parallel_config("loky", inner_max_num_threads=1):
            calls = (delayed(_numbered)(function, number, unit) for number, unit in enumerate(units))
            for number, result in Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(calls):
                yield left.pop(number), result
    except Exception as error:  # a process was killed: nobody is left to say which unit it had
        for unit in left.values():
            yield unit, Failure.of(error)


@contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    """Variables for processes started within; what the user has set stays."""
    fresh = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(fresh)
    try:
        yield
    finally:
        for name in fresh:
            os.environ.pop(name, None)


def _numbered(function: Callable[[Unit], Result], number: int, unit: Unit) -> tuple[int, Result | Failure]:
    return number, _attempt(function, unit)


def _attempt(function: Callable[[Unit], Result], unit: Unit) -> Result | Failure:
    try:
        with one_thread():
            return function(unit)
    except Exception as error:
        return Failure.of(error)


@contextmanager
def one_thread() -> Iterator[None]:
    """Holds torch and the linear algebra under numpy to one thread: sums come out the same wherever this runs."""
    import torch

    before = torch.get_num_threads()
    limits: Any = None
    if find_spec("threadpoolctl"):
        from threadpoolctl import threadpool_limits

        limits = threadpool_limits(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if limits is not None:
            limits.restore_original_limits()


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
