"""Requests that arrive at the same time are answered in one pass: whatever waits when the policy is free goes along."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from recil.track.serve import MOST_SESSIONS, Answer
from recil.track.serve_request import Asked

_Waiting = tuple[list[Asked], "Future[list[Answer]]"]


class Batcher:
    """Call it from many threads with sessions; one thread of its own asks the policy. Nobody waits for a full batch.

    passes, sessions: how often the policy was asked, and for how many sessions in all.
    """

    def __init__(self, answer: Callable[[Sequence[Asked]], list[Answer]], most: int = MOST_SESSIONS) -> None:
        self._answer, self._most = answer, most
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self.passes = self.sessions = 0
        self._thread = threading.Thread(target=self._work, name="recil-serve", daemon=True)
        self._thread.start()

    def __call__(self, asked: list[Asked]) -> list[Answer]:
        """The answers, in order. Raises what the policy raises."""
        done: Future[list[Answer]] = Future()
        self._waiting.put((asked, done))
        return done.result()

    def close(self) -> None:
        """Answers what waits, then ends the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        going_on = True
        while going_on:
            first = self._waiting.get()
            if first is None:
                return
            batch = [first]
            while sum(len(asked) for asked, _ in batch) < self._most:
                try:
                    more = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    going_on = False
                    break
                batch.append(more)
            self._pass(batch)

    def _pass(self, batch: list[_Waiting]) -> None:
        self.passes += 1
        self.sessions += sum(len(asked) for asked, _ in batch)
        try:
            answers = self._answer([session for asked, _ in batch for session in asked])
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for alone in batch:  # one that cannot be answered fails no other
                self._pass([alone])
            return
        for asked, done in batch:
            done.set_result(answers[: len(asked)])
            answers = answers[len(asked) :]
