"""Clients that mean harm, with and without a key: what they send is refused, and nobody else notices."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPResponse
from typing import Any

import httpx
import psutil
import pytest

from gateway.access.api_keys import Credentials
from schemas.inference import MAX_MESSAGES
from tests.stack import KEY, Stack, chat, eventually, running

PATH, OPENAI = "/models/fake/chat/completions", "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
LIMIT = 4 * 1024 * 1024
ORIGIN = "https://chat.example"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("s"), {"fake": {"step_s": 0.01}}, grace_s=5.0) as stack:
        yield stack


@pytest.fixture
def undisturbed(stack: Stack) -> Iterator[None]:
    """Another client's stream goes on to its end, through the same processes, and a good request follows."""
    web = psutil.Process(stack.processes["web"].pid)
    before = [child.pid for child in web.children()]
    stream = chat(stack, max_tokens=90_000)
    eventually(lambda: stream.text, "the stream has begun")
    yield
    seen = len(stream.ids)
    eventually(lambda: len(stream.ids) > seen, "it goes on")
    assert [child.pid for child in web.children()] == before
    with stack.client() as client:
        assert client.post(PATH, json=BODY).status_code == 200
        client.delete(f"/jobs/{stream.job_id}")
    stream.join()
    assert (stream.finish_reason, stream.error, stream.reconnects) == ("cancelled", None, 0)


def connect(stack: Stack) -> socket.socket:
    return socket.create_connection(("127.0.0.1", stack.settings.http_port), timeout=60)


def head(*lines: str, key: str = "") -> bytes:
    authorization = [f"Authorization: Bearer {key}"] if key else []
    return "\r\n".join([f"POST {PATH} HTTP/1.1", "Host: x", *authorization, *lines, "", ""]).encode()


def exchange(stack: Stack, *parts: bytes) -> bytes:
    """Send it all, and read until the server closes the connection."""
    with closing(connect(stack)) as connection:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
        return received(connection)


def received(connection: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(65536):
            found += data
    return found


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["data"]["reason"]


def refused(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, reason and text, in the form of either face."""
    said = answer.json()
    if answer.url.path == OPENAI:
        assert said.keys() == {"error"}
        error = said["error"]
        assert (error["type"], error["param"]) == ("invalid_request_error", None)
        return answer.status_code, error["code"], error["message"]
    return answer.status_code, said["data"]["reason"], said["message"]


# -- bodies


@pytest.mark.usefixtures("undisturbed")
def test_an_early_error_closes_the_connection_of_a_client_that_goes_on_sending(stack: Stack) -> None:
    """Without a key: millions of tiny chunks behind an answer that was given long ago."""
    answer = exchange(stack, head("Transfer-Encoding: chunked"), *[b"1\r\na\r\n" * 100_000] * 30)
    assert status(answer) == 401
    assert b"Connection: close" in answer


@pytest.mark.usefixtures("undisturbed")
def test_a_body_in_too_many_chunks_is_refused(stack: Stack) -> None:
    answer = exchange(stack, head("Transfer-Encoding: chunked", key=KEY), *[b"1\r\n \r\n" * 100_000] * 5)
    assert status(answer) == 400
    assert b"body_unreadable" in answer
    assert b"chunks" in answer


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_body_in_some_chunks_is_taken(stack: Stack, size: int) -> None:
    text = json.dumps({**BODY, "stream": False}).encode()
    chunks = [text[i : i + size] for i in range(0, len(text), size)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    with closing(connect(stack)) as connection:
        for _ in range(2):  # the connection stays
            connection.sendall(head("Transfer-Encoding: chunked", key=KEY) + body)
            answer = HTTPResponse(connection)
            answer.begin()
            assert (answer.status, bool(answer.read())) == (200, True)


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(BODY).encode() + b" " * LIMIT + b"garbage",
        json.dumps({**BODY, "user": "x" * LIMIT}).encode(),
        b" " * (LIMIT + 70_000),
    ],
)
@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_above_the_limit_is_refused_however_it_comes(
    client: httpx.Client, content: bytes, chunked: bool
) -> None:
    pieces = (content[i : i + 65536] for i in range(0, len(content), 65536))
    answer = client.post(PATH, content=pieces if chunked else content)
    assert refusal(answer) == (413, "body_too_large")
    assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize("chunked", [True, False])
def test_garbage_behind_the_json_is_refused(client: httpx.Client, chunked: bool) -> None:
    content = json.dumps(BODY).encode() + b"garbage"
    assert refusal(client.post(PATH, content=iter([content]) if chunked else content)) == (400, "invalid_json")


def test_a_body_that_breaks_off_is_refused(stack: Stack) -> None:
    with closing(connect(stack)) as connection:
        connection.sendall(head("Content-Length: 1000", key=KEY) + json.dumps(BODY).encode())
        connection.shutdown(socket.SHUT_WR)
        answer = received(connection)
    assert status(answer) == 400
    assert b"body_unreadable" in answer


@pytest.mark.usefixtures("undisturbed")
@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{}] * 300_000},
        {"messages": [{}] * 1_300_000},
        {"messages": [1] * 1_300_000},
        {"messages": BODY["messages"] * 100_000},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}] * 130_000}]},
        {"messages": [{"role": "assistant", "tool_calls": [{}] * 1_000_000}]},
        {"messages": BODY["messages"], "tools": [{}] * 1_000_000},
        {"messages": BODY["messages"], "stop": [""] * 1_000_000},
        {"messages": [{"x" * i: 1 for i in range(1, 1000)}]},
        {f"f{i}": 1 for i in range(300_000)},
        {"x" * 4_000_000: 1},
        {"messages": [{"role": "x" * 4_000_000, "content": "hello"}]},
        {"messages": [{"role": "user", "content": "hello", "x" * 3_000_000: 1}]},
    ],
    ids=range(13),
)
def test_a_wrong_body_is_cheap_to_refuse_and_its_answer_is_small(client: httpx.Client, body: Any) -> None:
    answer = client.post(PATH, content=json.dumps(body, separators=(",", ":")))
    assert refusal(answer) == (422, "invalid_request")
    assert len(answer.content) < 40_000
    assert len(answer.json()["data"]["errors"]) <= 20


def test_deep_nesting_is_refused_wherever_it_is(client: httpx.Client) -> None:
    for depth in (70, 101, 1000, 100_000):
        deep: Any = "[" * depth + "]" * depth
        in_body = 422 if depth < 100_000 else 400  # what is too deep to be read is no JSON
        for text in (deep, f'{{"messages": {deep}}}', f'{{"messages": [{{"role": "user", "content": {deep}}}]}}'):
            assert client.post(PATH, content=text).status_code == (400 if text == deep else in_body)
        tool = f'{{"type": "function", "function": {{"name": "f", "parameters": {{"a": {deep}}}}}}}'
        body = f'{{"messages": [{{"role": "user", "content": "x"}}], "tools": [{tool}]}}'
        assert client.post(PATH, content=body).status_code == in_body


def test_the_first_flaws_are_told_and_how_many_more_there_are(client: httpx.Client) -> None:
    found = client.post(PATH, json={f"f{i}": 1 for i in range(25)} | BODY).json()
    assert len(found["data"]["errors"]) == 20
    assert "Allowed: " in found["message"]
    assert re.search(r"; and \d+ more$", found["message"])


@pytest.mark.usefixtures("undisturbed")
def test_many_valid_messages_hold_nobody_up(client: httpx.Client) -> None:
    messages = [{"role": "user", "content": "x" * 200}] * 15_000
    assert len(messages) < MAX_MESSAGES
    assert client.post(PATH, json={**BODY, "messages": messages}).status_code == 200


# -- headers


@pytest.mark.parametrize("path", [PATH, OPENAI])
@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity, gzip", "x" * 3000])
def test_a_compressed_body_is_refused_by_name(client: httpx.Client, path: str, encoding: str) -> None:
    answer = client.post(path, content=gzip.compress(json.dumps(BODY).encode()), headers={"Content-Encoding": encoding})
    status, reason, message = refused(answer)
    assert (status, reason) == (415, "unsupported_encoding")
    assert f"Content-Encoding is '{encoding[:20]}" in message


def test_a_body_that_is_not_compressed_may_say_so(client: httpx.Client) -> None:
    assert client.post(PATH, json=BODY, headers={"Content-Encoding": "identity"}).status_code == 200


@pytest.mark.parametrize("path", [PATH, OPENAI])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"messages": [{"role": "user", "content": "\xe9"}]}', "byte 0xe9 at position 43 is not UTF-8"),
        (json.dumps(BODY).encode("utf-16"), "byte 0xff at position 0 is not UTF-8"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "surrogate"),
    ],
)
def test_a_body_that_is_no_unicode_text_is_refused_by_position(
    client: httpx.Client, path: str, content: bytes, told: str
) -> None:
    status, reason, message = refused(client.post(path, content=content))
    assert (status, reason) == (400, "invalid_json")
    assert told in message


def test_a_byte_order_mark_is_no_matter(client: httpx.Client) -> None:
    assert client.post(PATH, content=b"\xef\xbb\xbf" + json.dumps(BODY).encode()).status_code == 200


ODD = [
    "",
    "\x01",
    "-1",
    "9" * 400,
    "1e999",
    "NaN",
    "0-",
    "-",
    "\xff\xfe",
    "é",
    "%00",
    "a" * 6_000,
    "1-" + "c" * 500,
]


@pytest.mark.parametrize(
    "name",
    ["Idempotency-Key", "Last-Event-ID", "X-Request-Id", "Prefer", "Authorization", "Content-Type", "Origin", "Accept"],
)
def test_odd_headers_are_taken_or_refused(client: httpx.Client, name: str) -> None:
    job_id = client.post(PATH, json=BODY).json()["data"]["id"]
    for value in ODD:
        headers = {name: value.encode("latin-1")}
        assert client.post(PATH, json=BODY, headers=headers).status_code < 500, value
        assert client.get(f"/jobs/{job_id}/events", headers=headers).status_code < 500, value


def quoted(text: str) -> str:
    """Percent-encoded, no longer than a path may be."""
    return "".join(f"%{byte:02x}" for byte in text.encode()[:1_300])


NO_REQUESTS = {
    "no method": (b"\x01 / HTTP/1.1\r\n\r\n", 400, "bad_request"),
    "no version": (b"GET / HTTP/9.9\r\n\r\n", 400, "bad_request"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad_request"),
    "a header without a name": (b"GET / HTTP/1.1\r\n: <b>x</b>\r\n\r\n", 400, "bad_request"),
    "a long path": (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414, "uri_too_long"),
    "a long header": (b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431, "request_header_fields_too_large"),
    "an unknown coding": (b"POST / HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n", 501, "bad_request"),
}


@pytest.mark.parametrize("name", NO_REQUESTS)
def test_what_is_no_request_is_answered_as_all_is(stack: Stack, name: str) -> None:
    sent, code, reason = NO_REQUESTS[name]
    head, _, body = exchange(stack, sent).partition(b"\r\n\r\n")
    assert status(head) == code
    assert b"Content-Type: application/json" in head
    told = json.loads(body)
    assert (told["code"], told["data"]) == (code, {"reason": reason})
    assert told["message"]
    assert told["request_id"]


@pytest.mark.parametrize(
    "path",
    [
        *("/models/{}", "/jobs/{}", "/jobs/{}/events", "/keys/{}", "/models/local/deployments/{}", "/v1/models/{}"),
        *("/models/{}/x", "/models/local/deployments/{}/events", "/{}"),
    ],
)
def test_odd_paths_are_nothing(client: httpx.Client, path: str) -> None:
    for value in [*ODD[1:], "../..", "{x}", "\0", "\u200b", "\ufdd0", "😀" * 20]:
        answer = client.get(path.format(quoted(value)))
        assert 400 <= answer.status_code < 500, value
        if "json" in answer.headers["Content-Type"]:
            assert len(answer.content) < 10_000


@pytest.mark.parametrize(
    "path", ["/jobs?limit={}", "/jobs?status={}", "/usage?from={}", "/usage?key={}", "/usage?model={}", "/jobs?{}=1"]
)
def test_odd_queries_are_taken_or_refused(client: httpx.Client, path: str) -> None:
    for value in ODD:
        answer = client.get(path.format(quoted(value)))
        assert answer.status_code < 500, value
        assert len(answer.content) < 40_000


@pytest.mark.usefixtures("undisturbed")
def test_hundreds_of_silent_connections_hinder_nobody(stack: Stack, client: httpx.Client) -> None:
    """More descriptors than select() takes: plain answers ask whether their client is still there."""
    silent = [connect(stack) for _ in range(1_100)]
    try:
        body = {**BODY, "max_tokens": 150}
        assert client.post(PATH, json=body).status_code == 200
    finally:
        for connection in silent:
            connection.close()


# -- browsers


@pytest.mark.parametrize("path", [PATH, OPENAI])
def test_a_page_of_another_origin_may_ask(stack: Stack, client: httpx.Client, path: str) -> None:
    wanted = "authorization,content-type,x-stainless-os"
    with httpx.Client(base_url=client.base_url) as browser:
        asked = browser.options(
            path,
            headers={
                "Origin": ORIGIN,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": wanted,
            },
        )
    assert (asked.status_code, asked.content) == (204, b"")
    assert asked.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    assert asked.headers["Access-Control-Allow-Headers"] == wanted
    body = {**BODY, "model": "fake"} if path == OPENAI else BODY
    answer = client.post(path, json=body, headers={"Origin": ORIGIN})
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "X-Job-Id" in answer.headers["Access-Control-Expose-Headers"]
    for key, status in ((KEY, (422, 400)[path == OPENAI]), ("wrong", 401), ("", 401)):
        with stack.client(key) as other:
            wrong = other.post(path, json={**body, "messages": []}, headers={"Origin": ORIGIN})
        assert wrong.status_code == status
        assert wrong.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Origin" not in client.get("/models").headers


# -- one key


def limited(stack: Stack, **limits: Any) -> httpx.Client:
    return stack.client(Credentials(stack.redis).create("k", **limits)[1])


def test_wrong_requests_count_too(stack: Stack) -> None:
    with limited(stack, requests_per_minute=3) as client:
        found = [client.post(PATH, json={"messages": []}).status_code for _ in range(3)]
        assert found == [422] * 3
        for body in ({"messages": []}, BODY):
            answer = client.post(PATH, json=body)
            assert refusal(answer) == (429, "rate_limit_requests")
            assert int(answer.headers["Retry-After"]) > 0
        assert client.post(PATH, content=b"{").status_code == 429


def test_tokens_are_counted_before_the_request_runs_on(stack: Stack) -> None:
    """Given a prompt with more tokens than its bytes say, then it is refused before it costs anything."""
    body = {"prompt": "a " * 300, "max_tokens": 5}
    with limited(stack, tokens_per_minute=250) as client:
        answer = client.post("/models/fake/completions", json=body)
        assert refusal(answer) == (429, "rate_limit_tokens")
        assert 0 < int(answer.headers["Retry-After"]) <= 60
        assert client.get("/usage").json()["data"]["total"]["total_tokens"] == 0
        assert client.post(PATH, json=BODY).status_code == 200
    with limited(stack, tokens_per_minute=320) as client:
        assert client.post("/models/fake/completions", json=body).status_code == 200
        assert client.post(PATH, json={**BODY, "max_tokens": 50}).status_code == 429


def test_a_log_line_can_not_be_forged(stack: Stack, client: httpx.Client) -> None:
    """What clients choose is in the log of no process as a line of its own, nor as a command of the terminal."""
    forged = "2026-01-01 00:00:00,000 ERROR forged"
    odd = f"x\r\n{forged}\x1b[2J\u2028"
    with closing(connect(stack)) as connection:
        connection.sendall(
            f"GET /models/{quoted(odd)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()
        )
        connection.sendall(f"GET /{quoted(odd)} HTTP/9.{quoted(odd)}\r\n\x1b[2J: 1\r\n\r\n".encode())
        connection.recv(65536)
    assert status(exchange(stack, f"GET / HTTP/\x1b[2J{forged}\r\n\r\n".encode())) == 400

    for path in (f"/models/{quoted(odd)}/chat/completions", f"/models/local/{quoted(odd)}"):
        client.post(path, json=BODY)
        client.delete(path)
    logs = [path.read_text(errors="replace") for path in (stack.folder / "logs").glob("*.log")]
    assert any(rf"HTTP/\x1b[2J{forged}" in text for text in logs), "it is in a log, within a line"
    assert [text for text in logs if "\x1b" in text] == []
    for text in logs:
        assert forged not in [line[: len(forged)] for line in re.split(r"[\r\n\u2028]", text)]
