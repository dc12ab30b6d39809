"""Where work runs: in this process, side by side in local processes, or on a Ray cluster."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeVar

from recil.errors import InputError

# glibc hands every freed block above 32 MB back to the system and faults it in again: a seventh of the time of
# training over catalogues of thousands. The processes are short-lived; let them keep what they have. Ignored elsewhere.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 31)}

BACKENDS = ("local", "ray")
_backend: ContextVar[str] = ContextVar("backend", default="local")

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


@contextmanager
def working_on(backend: str) -> Iterator[None]:
    """Where `run_units` runs what it is given within: local, or ray (a cluster; the extra `ray`).

    Ray is asked for by RAY_ADDRESS, else one that runs on this machine is joined, else one is started here for as long
    as a call lasts. Its machines must have this version of recil and see the same folders. Raises InputError for
    another name, and where Ray is not installed.
    """
    if backend not in BACKENDS:
        raise InputError("--backend", f"{backend!r}", f"give one of {', '.join(BACKENDS)}")
    if backend == "ray" and not find_spec("ray"):
        raise InputError("--backend", "ray is not installed", "pip install 'recil[ray]', or leave --backend out")
    token = _backend.set(backend)
    try:
        yield
    finally:
        _backend.reset(token)


def run_units(
    function: Callable[[Unit], Result], units: Iterable[Unit], jobs: int = 1
) -> Iterator[tuple[Unit, Result | Failure]]:
    """Each unit with what `function` made of it, as they finish; a unit that fails is returned with its Failure.

    jobs: 1 runs in this process, in order; more run in as many processes, to which the function (of a module) and the
    units (plain values) are sent. Every unit computes on one thread in both cases, so its numbers do not depend on
    `jobs`. An interrupt ends the processes and is raised. On Ray (see `working_on`) it is the cluster's free cores that
    decide how many run at once.
    """
    units = list(units)
    if jobs < 1:
        raise InputError("--jobs", f"{jobs} processes cannot work", "give 1 or more")
    if _backend.get() == "ray":
        yield from _on_ray(function, units)
    elif jobs == 1 or len(units) <= 1:
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


def _on_ray(function: Callable[[Unit], Result], units: list[Unit]) -> Iterator[tuple[Unit, Result | Failure]]:
    import ray

    started = not ray.is_initialized()
    if started:
        ray.init(runtime_env={"env_vars": _KEEP_MEMORY}, log_to_driver=False, logging_level="ERROR")
    # Units are started anew by whoever runs the command again, and not behind its back.
    remote = ray.remote(num_cpus=1, max_retries=0)(_numbered)
    left = {remote.remote(function, number, unit): unit for number, unit in enumerate(units)}
    try:
        while left:
            (done,), _ = ray.wait(list(left), num_returns=1)
            yield left.pop(done), _fetched(done)
    finally:
        for reference in left:
            ray.cancel(reference, force=True)
        if started:
            ray.shutdown()


def _fetched(reference: Any) -> Any:
    """What a unit came to, of what Ray brings back; its machine may be gone."""
    import ray

    try:
        return ray.get(reference)[1]
    except Exception as error:
        return Failure.of(error)


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
