"""The HTTP server around a policy: JSON in, JSON out, and a 4xx that says why."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from recil.errors import InputError
from recil.policies.tensor_folder import installed_version
from recil.track.serve import ServedPolicy
from recil.track.serve_batch import Batcher
from recil.track.serve_log import ServedLog
from recil.track.serve_request import Draw

LONGEST_BODY = 16 * 2**20
_IDLE_SECONDS = 65.0
_LINGER_SECONDS = 2.0
_PIECE = 2**16


@dataclass(frozen=True)
class ServeConfig:
    """How a policy is served.

    host, port  port 0: a free one
    k           items of a slate where a request does not say
    draw        sample or greedy, where a request does not say; seed: of all sampled slates
    log         table that everything served is appended to; None: nothing is kept
    source      what is served, in the user's words
    """

    host: str = "127.0.0.1"
    port: int = 0
    k: int | None = None
    draw: Draw = "sample"
    seed: int = 0
    log: Path | None = None
    source: str = ""


class _Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        self.status, self.headers = status, headers
        super().__init__(reason)


class PolicyServer:
    """GET /ping, GET /version, POST /recommend, POST /reward. Use it as a context, or `serve` until `stop`."""

    def __init__(self, policy: ServedPolicy, config: ServeConfig | None = None) -> None:
        self.policy, self.config = policy, config or ServeConfig()
        self._reader = policy.reader(self.config.k, self.config.draw)
        try:
            self._http = _Server(self, (self.config.host, self.config.port))
        except OSError as error:
            where = f"{self.config.host}:{self.config.port}"
            raise InputError("--port", f"{where} cannot be used ({error.strerror})", "choose another") from error
        try:
            self._log = None if self.config.log is None else ServedLog(self.config.log, policy.columns)
        except InputError:
            self._http.server_close()
            raise
        self._batcher = Batcher(lambda asked: policy.answer(asked, self.config.seed))
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        return f"http://{self.config.host}:{self._http.server_address[1]}"

    @property
    def passes(self) -> int:
        """How often the policy was asked; requests at the same time share a pass."""
        return self._batcher.passes

    def serve(self) -> None:
        """Answers requests until `stop` is called, or this thread is interrupted."""
        try:
            self._http.serve_forever(poll_interval=0.1)
        finally:
            self._end()

    def stop(self) -> None:
        self._http.shutdown()

    def __enter__(self) -> PolicyServer:
        self._thread = threading.Thread(target=self.serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        assert self._thread is not None
        self._thread.join()

    def _end(self) -> None:
        self._http.server_close()
        self._batcher.close()
        if self._log is not None:
            self._log.close()

    def answer(self, method: str, path: str, body: Callable[[], Any]) -> dict[str, Any]:
        """The answer to one request. body: reads its JSON. Raises InputError and _Refusal."""
        routes: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
            "/ping": ("GET", lambda: {"status": "ok"}),
            "/version": ("GET", self._version),
            "/recommend": ("POST", lambda: self._recommend(body())),
            "/reward": ("POST", lambda: self._reward(body())),
        }
        if path not in routes:
            raise _Refusal(404, f"{path}: nothing is here -> there are {', '.join(routes)}")
        allowed, answer = routes[path]
        if method != allowed:
            raise _Refusal(405, f"{path}: {method} is not answered here -> use {allowed}", Allow=allowed)
        return answer()

    def _recommend(self, body: Any) -> dict[str, Any]:
        asked = self._reader.read(body)
        answers = self._batcher(asked)
        if self._log is not None:
            self._log.served(asked, answers)
        if "sessions" in body:
            return {"slates": [answer.to_dict() for answer in answers]}
        return answers[0].to_dict()

    def _reward(self, body: Any) -> dict[str, Any]:
        if self._log is None:
            raise _Refusal(409, "/reward: nothing is kept -> start the server with --log FILE")
        return {"kept": self._log.rewarded(body)}

    def _version(self) -> dict[str, Any]:
        policy, config, columns = self.policy, self.config, self.policy.columns
        groups = {group: list(getattr(columns, group)) for group in ("feedback", "context", "user")}
        return {
            "policy": policy.version, "kind": policy.kind, "source": config.source, "recil": installed_version(),
            "catalogue": len(policy.item_ids), "k": self._reader.k, "draw": config.draw, "seed": config.seed,
            "columns": groups,
        }  # fmt: skip


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # the usual 5 turns connections away when many come at once

    def __init__(self, owner: PolicyServer, address: tuple[str, int]) -> None:
        self.owner = owner
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"  # connections stay open for the next request
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True
    server_version, sys_version = "recil", ""
    _unread = 0  # bytes of the body that are still on the line; -1 where nobody can say

    def respond(self) -> None:
        length = self.headers.get("Content-Length", "-1" if "Transfer-Encoding" in self.headers else "0")
        self._unread = int(length) if length.isdecimal() else -1
        try:
            status, headers = 200, {}
            content = self.server.owner.answer(self.command, self.path.partition("?")[0], self._body)
        except _Refusal as refusal:
            status, headers, content = refusal.status, refusal.headers, {"error": str(refusal)}
        except InputError as error:
            status, content = 400, {"error": str(error), "place": error.place, "remedy": error.remedy}
        except Exception as error:
            self.log_error("%s: %s", type(error).__name__, error)
            status, content = 500, {"error": f"{type(error).__name__}: {error}"}
        self._send(status, headers, content)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = respond

    def _body(self) -> Any:
        if "Content-Length" not in self.headers:
            raise _Refusal(411, "the request has no Content-Length -> send one")
        if self._unread < 0:
            raise _Refusal(400, "Content-Length is no whole number")
        if self._unread > LONGEST_BODY:
            raise _Refusal(413, f"{self._unread} bytes are too many -> send at most {LONGEST_BODY} at a time")
        text, self._unread = self.rfile.read(self._unread), 0
        try:
            return json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise _Refusal(400, f"the body is not JSON ({error})") from None

    def _send(self, status: int, headers: dict[str, str], content: dict[str, Any]) -> None:
        # A body nobody read would be taken for the next request on this connection.
        self.close_connection = self.close_connection or self._unread != 0
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text)
        if self._unread:
            self._linger()

    def _linger(self) -> None:
        """Reads what is still being sent and drops it: to close over unread bytes resets the connection, and a client
        that is still writing would meet a broken pipe in place of the refusal."""
        self.wfile.flush()
        try:
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_LINGER_SECONDS)
            end = time.monotonic() + _LINGER_SECONDS
            while time.monotonic() < end and self.connection.recv(_PIECE):
                pass
        except OSError:
            pass  # the client is gone, or silent

    def log_request(self, *_: Any) -> None:
        """Says nothing of requests that went well; standard error is for news."""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
