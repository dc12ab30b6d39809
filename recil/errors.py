"""The one error a user is meant to read: it names the place, the value and the remedy."""

from __future__ import annotations


class InputError(ValueError):
    """Input that cannot be used: a log, a config, a store or an argument.

    The message is complete without a traceback; the command line prints it alone and exits with 2.
    """

    def __init__(self, place: str, problem: str, remedy: str = "") -> None:
        self.place, self.problem, self.remedy = place, problem, remedy
        super().__init__(f"{place}: {problem}" + (f" -> {remedy}" if remedy else ""))

    def __reduce__(self):
        return type(self), (self.place, self.problem, self.remedy)


class GateError(RuntimeError):
    """A check that was asked for came out negative (exit code 1); the input itself was fine."""
