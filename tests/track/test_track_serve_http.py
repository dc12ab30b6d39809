"""The server: JSON answers, reasons for what it refuses, one pass for requests at the same time, and a log."""

from __future__ import annotations

import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from served_policies import attentive, requests_of

from recil.errors import InputError
from recil.track import serve_http
from recil.track.serve import ServedPolicy
from recil.track.serve_batch import Batcher
from recil.track.serve_http import PolicyServer, ServeConfig
from recil.track.serve_log import rewards_file


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> ServedPolicy:
    folder = tmp_path_factory.mktemp("http") / "policy"
    attentive(folder)
    return ServedPolicy.load(folder)


@pytest.fixture
def server(served, tmp_path):
    with PolicyServer(served, ServeConfig(k=3, seed=4, log=tmp_path / "served.csv", source="here")) as running:
        yield running


def ask(server, method, path, body=None, headers=None, connection=None):
    """(status, JSON) of one request. body: sent as it is where it is bytes."""
    host, port = server.address.removeprefix("http://").split(":")
    connection = connection or http.client.HTTPConnection(host, int(port), timeout=20)
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, content, headers or {})
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def test_ping_and_version(server, served):
    assert ask(server, "GET", "/ping") == (200, {"status": "ok"})
    status, version = ask(server, "GET", "/version")
    assert status == 200 and version["policy"] == served.version and version["source"] == "here"
    assert (version["catalogue"], version["k"], version["seed"]) == (12, 3, 4)
    assert version["columns"]["context"] == ["context_tab", "context_hour"]


def test_one_session_and_several(server, served, tmp_path):
    sessions = requests_of(attentive(tmp_path / "same"), 3)
    reader = served.reader(k=3)
    wanted = [answer.to_dict() for answer in served.answer(reader.read({"sessions": sessions}), seed=4)]
    status, found = ask(server, "POST", "/recommend", {"sessions": sessions})
    assert status == 200 and [slate["items"] for slate in found["slates"]] == [slate["items"] for slate in wanted]
    status, one = ask(server, "POST", "/recommend?x=1", sessions[1])
    assert status == 200 and one["items"] == wanted[1]["items"] and one["policy"] == served.version
    status, new = ask(server, "POST", "/recommend", {"k": 2})
    assert status == 200 and len(new["items"]) == 2 and new["step"] == 0 and new["session_id"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("GET", "/", None, 404, "there are /ping, /version, /recommend, /reward"),
        ("GET", "/recommend", None, 405, "use POST"),
        ("POST", "/ping", {}, 405, "use GET"),
        ("POST", "/recommend", b"{", 400, "the body is not JSON"),
        ("POST", "/recommend", b'{"k": NaN}', 400, "NaN is no JSON number"),
        ("POST", "/recommend", b"[" * 100_000, 400, "the body is not JSON"),
        ("POST", "/recommend", {"k": 0}, 400, "k: 0 -> give a whole number from 1 to 12"),
        ("POST", "/recommend", b"\xff", 400, "the body is not JSON"),
        ("POST", "/reward", {"session_id": "a", "step": -1, "reward": [1]}, 400, "request.step: -1"),
        ("POST", "/reward", {"session_id": "a", "step": 0, "reward": []}, 400, "request.reward"),
        ("POST", "/reward", {"step": 0, "reward": [1]}, 400, "request.session_id: missing"),
        ("POST", "/reward", {"session_id": "a", "step": 0, "reward": [1], "x": 1}, 400, "request.x: unknown key"),
    ],
)
def test_what_is_refused_and_why(server, method, path, body, status, message):
    found, answer = ask(server, method, path, body)
    assert found == status and message in answer["error"]


def test_a_body_too_long_is_refused_unread_and_the_next_request_is_not_made_of_it(server, monkeypatch):
    monkeypatch.setattr(serve_http, "LONGEST_BODY", 10)
    assert ask(server, "POST", "/recommend", b" " * 11)[0] == 413
    assert ask(server, "GET", "/ping")[0] == 200
    host, port = server.address.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request("POST", "/nowhere", b'{"k": 1}')
    first = connection.getresponse()
    assert first.status == 404 and first.getheader("Connection") == "close"
    connection.close()
    connection.request("POST", "/recommend", iter([b'{"k": 1}']), encode_chunked=True)  # of no length known beforehand
    answer = connection.getresponse()
    assert answer.status == 411 and answer.getheader("Connection") == "close"
    connection.close()


def test_what_the_policy_cannot_answer_is_500_with_its_reason_and_fails_no_other(served, capsys):
    def broken(asked, seed):
        if any(session.session_id == "bad" for session in asked):
            raise ZeroDivisionError("by nothing")
        return served.answer(asked, seed)

    class Broken:
        version, kind, item_ids, columns, reader = served.version, "x", served.item_ids, served.columns, served.reader
        answer = staticmethod(broken)

    with PolicyServer(Broken()) as server:
        assert ask(server, "POST", "/recommend", {"session_id": "bad"}) == (
            500,
            {"error": "ZeroDivisionError: by nothing"},
        )
        assert ask(server, "POST", "/recommend", {"session_id": "good"})[0] == 200
        assert ask(server, "POST", "/reward", {"session_id": "good", "step": 0, "reward": [1]})[0] == 409
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_requests_that_wait_share_a_pass_and_one_that_fails_fails_alone(served):
    held, release, sizes = threading.Event(), threading.Event(), []

    def slow(asked):
        sizes.append(len(asked))
        held.set()
        assert release.wait(20)
        if any(session.session_id == "7" for session in asked):
            raise ValueError("seven")
        return served.answer(asked)

    reader, batcher = served.reader(), Batcher(slow)
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(batcher, reader.read({"session_id": "first"}))
        assert held.wait(20)
        rest = [pool.submit(batcher, reader.read({"session_id": str(number)})) for number in range(10)]
        while batcher._waiting.qsize() < 10:
            pass
        release.set()
        assert first.result()[0].session_id == "first"
        with pytest.raises(ValueError, match="seven"):
            rest[7].result()
        names = [rest[number].result()[0].session_id for number in range(10) if number != 7]
        assert names == [str(number) for number in range(10) if number != 7]
    batcher.close()
    assert sizes[:2] == [1, 10]


def test_many_clients_at_once_get_their_own_slates_and_every_one_is_logged(server, served, tmp_path):
    def one(number):
        return ask(server, "POST", "/recommend", {"session_id": f"s{number}", "k": 2})

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one, range(200)))
    assert all(status == 200 and found["session_id"] == f"s{number}" for number, (status, found) in enumerate(answers))
    lines = (tmp_path / "served.csv").read_text().splitlines()
    assert len(lines) == 1 + 400
    logged = {(line.split(",")[0], int(line.split(",")[2])): line.split(",")[3] for line in lines[1:]}
    assert all(logged[found["session_id"], 1] == found["items"][1] for _, found in answers)


def test_a_port_in_use_and_a_file_that_is_another_table_are_refused(server, served, tmp_path):
    port = int(server.address.rpartition(":")[2])
    with pytest.raises(InputError, match=r"cannot be used .* -> choose another"):
        PolicyServer(served, ServeConfig(port=port))
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="it begins with 'a,b'"):
        PolicyServer(served, ServeConfig(log=tmp_path / "other.csv"))
    assert (tmp_path / "other.csv").read_text() == "a,b\n1,2\n"
    with pytest.raises(InputError, match="cannot be written"):
        PolicyServer(served, ServeConfig(log=tmp_path / "none" / "served.csv"))
    assert rewards_file(tmp_path / "served.csv").exists()
