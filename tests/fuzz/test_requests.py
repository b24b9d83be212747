"""Requests of every REST route and every RPC, good ones with odd parts, over a running stack with the fake engine.

Each ends in bounded time with an answer or a clear error, never with a mistake of ours; and a good request right after
it, through the same processes, succeeds.
"""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote

import grpc
import httpx
import psutil
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.budget import budget
from tests.rpc import Client, chat_request, details, start_rpc
from tests.stack import KEY, Stack, running
from web.rpc.methods import SERVICES

#: A request that has no answer after so long hangs.
HANGS_S = 60.0
#: Written as a number that is too large for any type, which no Python value is.
HUGE = "@1e999@"
#: Kept small: the fake engine answers in as many tokens as it is asked for.
MAX_TOKENS = 3

TEXTS = st.one_of(
    st.sampled_from(
        [
            *("", " ", "\0", "x" * 300, "x" * 70_000, "fake", "\ufdd0\uffff\U0010ffff", "\ud800", "a\udfff", "\u202e"),
            *(
                "\r\nX: y",
                "../..",
                "%",
                "%00",
                "{}",
                "null",
                "0",
                "-1",
                "é",
                "😀" * 50,
                "local",
                "NaN",
                HUGE,
                "\x1b[2J",
            ),
        ]
    ),
    st.text(max_size=30),
)
NUMBERS = st.one_of(
    st.sampled_from(
        [0, 1, -1, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, -(2**63), 10**40, 0.0, -0.0, 5e-324, 1e-50, 1e308]
    ),
    st.sampled_from([math.nan, math.inf, -math.inf, True, 0.1]),
    st.integers(),
    st.floats(),
)


def nested(depth: int) -> Any:
    """A list in a list in a list."""
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


ODD = st.one_of(
    TEXTS,
    NUMBERS,
    st.sampled_from([None, [], {}, [[]], {"": ""}, [None], nested(60), nested(200), [0] * 3_000, [{}] * 50]),
    st.recursive(
        st.none() | NUMBERS | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=6,
    ),
)


@dataclass(frozen=True, repr=False)
class Route:
    """An operation of the OpenAPI document."""

    method: str
    path: str
    query: tuple[str, ...]
    bodies: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"{self.method} {self.path}"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("s"), {"fake": {"step_s": 0.001}}, grace_s=0.5) as stack:
        start_rpc(stack)
        yield stack


@pytest.fixture(scope="module")
def processes(stack: Stack) -> list[psutil.Process]:
    """All that must live on."""
    return [*map(psutil.Process, pids(stack))]


def pids(stack: Stack) -> list[int]:
    """The processes of the stack and their children, the model worker and its engine among them."""
    roots = [psutil.Process(process.pid) for process in stack.processes.values()] + stack._locked()
    return sorted({one.pid for root in roots for one in (root, *root.children(recursive=True))})


@pytest.fixture(scope="module")
def rest(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


@pytest.fixture(scope="module")
def rpc(stack: Stack) -> Iterator[Client]:
    client = Client(stack)
    yield client
    client.channel.close()


@pytest.fixture(scope="module")
def routes(rest: httpx.Client) -> list[Route]:
    document = rest.get("/openapi.json").json()
    found = []
    for path, item in document["paths"].items():
        for method in sorted(item.keys() & {"get", "post", "put", "patch", "delete"}):
            operation = item[method]
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            examples = [example["value"] for example in content.get("examples", {}).values()]
            query = [one["name"] for one in operation.get("parameters", []) if one.get("in") == "query"]
            found.append(Route(method.upper(), path, tuple(query), tuple(examples)))
    assert len(found) > 25
    return found


# -- odd values in good ones


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something could be put in the place of something else."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from places(one, (*path, name))


def put(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    """A copy with something else at a place."""
    if not path:
        return odd
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(value[path[0]], path[1:], odd)
    return copy


@st.composite
def spoiled(draw: st.DrawFn, value: Any) -> Any:
    """A good body with up to three things in it put in place of others, left out or added."""
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from([*places(value)]))
        how = draw(st.sampled_from(["put", "put", "add", "leave out", "twice"]))
        target = value
        for name in path:
            target = target[name]
        if how == "add" and isinstance(target, dict):
            value = put(value, path, {**target, draw(TEXTS): draw(ODD)})
        elif how == "leave out" and isinstance(target, dict) and target:
            value = put(value, path, {k: v for k, v in target.items() if k != draw(st.sampled_from(sorted(target)))})
        elif how == "twice" and isinstance(target, list):
            value = put(value, path, target * draw(st.integers(0, 5)))
        else:
            value = put(value, path, draw(ODD))
    return value


def harmless(route: Route, body: Any) -> Any:
    """The same, but that it asks for little and deploys nothing."""
    if not isinstance(body, dict):
        return body
    if "model" in body and is_known(body["model"]):
        body = {**body, "model": "fake"}
    for name in ("max_tokens", "max_completion_tokens"):
        if isinstance(body.get(name), int) and MAX_TOKENS < body[name] < 2**31:
            body = {**body, name: MAX_TOKENS}
    if route.path.endswith("completions") and body.get("max_tokens") is None and "max_completion_tokens" not in body:
        body = {**body, "max_tokens": MAX_TOKENS}
    if route.path.endswith("/deploy") and body.get("dry_run") in (None, False):
        body = {**body, "dry_run": True}
    return body


def is_known(model: Any) -> bool:
    """Whether it is a model of the examples."""
    return isinstance(model, str) and ("smollm" in model or "minilm" in model)


def written(body: Any) -> bytes:
    """As JSON, odd numbers and halves of surrogate pairs included."""
    return json.dumps(body).replace(json.dumps(HUGE), "1e999").encode()


HEADERS = st.dictionaries(
    st.sampled_from(
        [
            *("Idempotency-Key", "Last-Event-ID", "X-Request-Id", "Prefer", "Content-Type", "Accept", "Origin"),
            *("Content-Encoding", "Access-Control-Request-Method", "X-Forwarded-For", "Cookie", "Range", "If-Match"),
        ]
    ),
    st.one_of(
        st.sampled_from(["respond-async", "gzip", "identity", "0-x", "9" * 30, "-1", "a" * 5_000]), st.text(max_size=40)
    ),
    max_size=3,
)


def clean(value: str) -> bytes:
    """What can stand in a header at all: any byte but the ends of lines."""
    return value.encode("utf-8", "surrogatepass").replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")


def ask(stack: Stack, head: str, headers: dict[str, bytes], body: bytes | None) -> tuple[int, bytes]:
    """Send a request byte by byte as it is; status and whole answer. Fails if there is none in time."""
    lines = [head.encode(), b"Host: x", b"Connection: close", b"Authorization: Bearer " + KEY.encode()]
    lines += [name.encode() + b": " + value for name, value in headers.items()]
    lines += [b"Content-Length: %d" % len(body)] if body is not None else []
    address = ("127.0.0.1", stack.settings.http_port)
    with closing(socket.create_connection(address, timeout=HANGS_S)) as connection:
        connection.sendall(b"\r\n".join([*lines, b"", body or b""]))
        found = b""
        while data := connection.recv(65536):
            found += data
    head_of, _, rest = found.partition(b"\r\n\r\n")
    return int(head_of.split(b" ", 2)[1]), rest


def check(status: int, answer: bytes) -> None:
    """Never a mistake of ours, and never a long answer to a wrong request."""
    assert status < 500 or status == 503, answer[:1_000]
    assert status < 400 or len(answer) < 50_000, answer[:1_000]
    assert b"internal_error" not in answer


def still_well(stack: Stack, rest: httpx.Client, processes: list[psutil.Process]) -> None:
    """A good request succeeds, through the same processes."""
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
    answer = rest.post("/models/fake/chat/completions", json=body, timeout=HANGS_S)
    assert answer.status_code == 200, answer.text
    assert all(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes), stack.logs()


@st.composite
def requests(draw: st.DrawFn, routes: list[Route]) -> tuple[str, dict[str, bytes], bytes | None]:
    route = draw(st.sampled_from(routes))
    path = route.path
    while "{" in path:
        name = path[path.index("{") : path.index("}") + 1]
        asks = route.method == "POST" and name == "{model_id}"
        value = "fake" if asks and draw(st.booleans()) else draw(TEXTS.filter(lambda text: text != "fake"))
        path = path.replace(name, quote(value[:900].encode("utf-8", "surrogatepass"), safe="") or "x")
    names = st.sampled_from(route.query) | TEXTS if route.query else TEXTS
    pairs = draw(st.lists(st.tuples(names, TEXTS), max_size=3))
    query = "&".join(
        f"{quote(name[:200].encode('utf-8', 'surrogatepass'))}={quote(text[:200].encode('utf-8', 'surrogatepass'))}"
        for name, text in pairs
    )
    headers = {name: clean(value) for name, value in draw(HEADERS).items()}
    body = None
    if route.bodies:
        body = written(harmless(route, draw(spoiled(draw(st.sampled_from(route.bodies))))))
        body = draw(st.sampled_from([body] * 8 + [body[:-3], body + b"x", b"", b"\xff" + body]))
    head = f"{route.method} {path}{'?' if query else ''}{query}"[:4_000]
    return f"{head} HTTP/1.1", headers, body


@budget(examples=60)
@given(data=st.data())
def test_no_request_of_rest_breaks_anything(
    stack: Stack, rest: httpx.Client, routes: list[Route], processes: list[psutil.Process], data: st.DataObject
) -> None:
    head, headers, body = data.draw(requests(routes))
    check(*ask(stack, head, headers, body))
    still_well(stack, rest, processes)


@budget(examples=60)
@given(raw=st.binary(max_size=400), method=st.sampled_from(["GET", "POST", "PUT", "OPTIONS", "HEAD", "BREW"]))
def test_no_bytes_as_a_body_break_anything(
    stack: Stack, rest: httpx.Client, processes: list[psutil.Process], raw: bytes, method: str
) -> None:
    for path in ("/models/fake/chat/completions", "/v1/embeddings", "/keys"):
        check(*ask(stack, f"{method} {path} HTTP/1.1", {}, raw))
    still_well(stack, rest, processes)


# -- gRPC

#: Each may be set to these, and what else its type holds.
_WHOLE = (0, 1, -1, 5, 2**31 - 1, -(2**31))
_LONG = (*_WHOLE, 2**53 + 1, 2**63 - 1, -(2**63))
METHODS = {method.name: method for service, _ in SERVICES for method in service.methods}
UTF8 = TEXTS.map(lambda text: text.encode("utf-8", "replace").decode())


def scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Any value of a field that is no message."""
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return st.binary(max_size=9) if field.type == FieldDescriptor.TYPE_BYTES else UTF8
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        width = 32 if kind == FieldDescriptor.CPPTYPE_FLOAT else 64
        return st.floats(width=width)  # type: ignore[arg-type]
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return st.sampled_from([value.number for value in field.enum_type.values])
    low, most = {
        FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
        FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
        FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
        FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    }[kind]
    return st.sampled_from([n for n in _LONG if low <= n <= most]) | st.integers(low, most)


@cache
def messages(kind: Descriptor, depth: int = 0) -> st.SearchStrategy[Any]:
    """Messages of a type with any of their fields set."""
    make = GetMessageClass(kind)

    @st.composite
    def build(draw: st.DrawFn) -> Any:
        message = make()
        chosen = draw(st.sets(st.sampled_from([*kind.fields]), max_size=6)) if kind.fields else ()
        for field in sorted(chosen, key=lambda one: one.number):
            if field.message_type and field.message_type.GetOptions().map_entry:
                continue
            if field.message_type is None:
                value = draw(st.lists(scalar(field), max_size=3) if field.is_repeated else scalar(field))
                if field.is_repeated:
                    getattr(message, field.name).extend(value)
                else:
                    setattr(message, field.name, value)
            elif depth < 4:
                inner = messages(field.message_type, depth + 1)
                if field.is_repeated:
                    getattr(message, field.name).extend(draw(st.lists(inner, max_size=3)))
                else:
                    getattr(message, field.name).CopyFrom(draw(inner))
        return message

    return build()


def tame(method: str, message: Any) -> None:
    """Have it ask for little, and change no deployment."""
    names = {field.name for field in message.DESCRIPTOR.fields}
    if method in ("UnloadLocalModel", "ScaleLocalModel") and message.model_id == "fake":
        message.model_id = "nope"
    if "dry_run" in names:
        message.dry_run = True
    if method == "CreateJob" and (kind := message.WhichOneof("request")):
        return tame("", getattr(message, kind))
    if {"max_tokens", "exact"} <= names:
        message.max_tokens = MAX_TOKENS
        if message.HasField("exact") and message.exact.max_tokens > MAX_TOKENS:
            message.exact.max_tokens = MAX_TOKENS
    if "max_completion_tokens" in names and message.HasField("max_completion_tokens"):
        message.ClearField("max_completion_tokens")
    return None


def code_of(rpc: Client, method: Any, raw: bytes, metadata: tuple[tuple[str, str], ...]) -> grpc.StatusCode:
    """How a call of these bytes ends."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    make = rpc.channel.unary_stream if method.server_streaming else rpc.channel.unary_unary
    try:
        answer = make(path)(raw, metadata=(*rpc.metadata, *metadata), timeout=HANGS_S)
        if method.server_streaming:
            for _ in answer:
                pass
    except grpc.RpcError as error:
        if error.code() not in EXPECTED:
            raise AssertionError(f"{error.code()}: {error.details()} {details(error)}") from error
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


EXPECTED = {
    *(grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED),
    *(grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE),
}
METADATA = st.dictionaries(
    st.sampled_from(["idempotency-key", "x-request-id", "x-odd", "last-event-id"]),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=300),
    max_size=2,
).map(lambda pairs: tuple((name, value.strip()) for name, value in pairs.items()))


@budget(examples=60)
@given(data=st.data())
def test_no_message_of_grpc_breaks_anything(
    stack: Stack, rest: httpx.Client, rpc: Client, processes: list[psutil.Process], data: st.DataObject
) -> None:
    method = METHODS[data.draw(st.sampled_from(sorted(METHODS)))]
    message = data.draw(messages(method.input_type))
    if "model_id" in {field.name for field in method.input_type.fields} and data.draw(st.booleans()):
        message.model_id = "fake"
    tame(method.name, message)
    code_of(rpc, method, message.SerializeToString(), data.draw(METADATA))
    assert rpc.call("CreateChatCompletion", chat_request(max_tokens=1), timeout=HANGS_S).choices
    still_well(stack, rest, processes)


@budget(examples=60)
@given(data=st.data(), raw=st.binary(max_size=200), at=st.integers(0, 200))
def test_no_bytes_as_a_message_break_anything(
    stack: Stack,
    rest: httpx.Client,
    rpc: Client,
    processes: list[psutil.Process],
    data: st.DataObject,
    raw: bytes,
    at: int,
) -> None:
    reads = [name for name in sorted(METHODS) if "Local" not in name and "Create" not in name]
    method = METHODS[data.draw(st.sampled_from(reads))]
    good = chat_request(max_tokens=1).SerializeToString()
    for one in (raw, good[: at % len(good)] + raw):
        code_of(rpc, method, one, ())
    assert rpc.call("CreateChatCompletion", chat_request(max_tokens=1), timeout=HANGS_S).choices
    still_well(stack, rest, processes)
