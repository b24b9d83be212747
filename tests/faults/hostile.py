"""What a hostile key may send: each input by a name, as a function that sends it and says what came back.

`python -m tests.faults.hostile KEY SECONDS` sends them to the installation of its environment, and prints the outcomes.

An outcome is the status of the answer, or of the job that was made; `hangs` if there was none in time.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import random
import socket
import ssl
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx

from gateway.settings import Settings
from tests.faults.hostile_upstream import ERRORS, STREAMS, VECTORS
from tests.rpc import Client
from tests.rpc import client as rpc_client
from web.rpc.stubs import model_pb2 as pb

#: Every answer must be there within so long.
PATIENCE_S = 30.0
HANGS = "hangs"
TOOLS = [{"type": "function", "function": {"name": "a", "parameters": {"type": "object"}}}]
NONCHARACTERS = "".join(map(chr, range(0xFDD0, 0xFDF0)))
FAKE, REAL, ENCODER = "fake", "smollm2-135m", "all-minilm-l6-v2"

Outcome = str
Input = Callable[["Attacker"], Outcome]


@dataclass(frozen=True)
class Target:
    """An installation on this machine."""

    settings: Settings

    @property
    def url(self) -> str:
        """Of its HTTP API."""
        return f"http://127.0.0.1:{self.settings.http_port}"


@dataclass
class Attacker:
    """Somebody with an ordinary key, on both faces."""

    target: Target
    key: str
    rpc: Client
    http: httpx.Client
    silent: list[socket.socket] = field(default_factory=list)

    # -- what inputs are made of

    def send(self, path: str, content: bytes | str | None = None, **body: Any) -> Outcome:
        """A POST with a body; a text may hold any escapes."""
        raw = content if content is not None else json.dumps(body)
        try:
            data = raw.encode() if isinstance(raw, str) else raw
            response = self.http.post(path, content=data, headers={"Content-Type": "application/json"})
        except httpx.TimeoutException:
            return HANGS
        except httpx.TransportError:
            return "cut"
        # Why, if it is not the sender's fault.
        return (
            f"{response.status_code} {response.text[:160]}" if response.is_server_error else str(response.status_code)
        )

    def chat(self, model: str, said: Any = "hi", **body: Any) -> Outcome:
        """A chat, whole or as a stream."""
        messages = said if isinstance(said, list) else [{"role": "user", "content": said}]
        return self.send("/v1/chat/completions", model=model, messages=messages, **{"max_tokens": 4, **body})

    def raw(self, data: Iterator[bytes], *, port: int | None = None) -> Outcome:
        """Bytes over a connection of their own, as fast as they are taken."""
        try:
            with socket.create_connection(("127.0.0.1", port or urlsplit(self.target.url).port), PATIENCE_S) as line:
                with contextlib.suppress(ConnectionError):
                    for part in data:
                        line.sendall(part)
                line.shutdown(socket.SHUT_WR)
                first = line.recv(64)
        except TimeoutError:
            return HANGS
        except OSError:
            return "cut"
        return first.split()[1].decode(errors="replace") if first.startswith(b"HTTP/1.1 ") else "cut"

    def call(self, method: str, request: Any) -> Outcome:
        """A gRPC call; of a stream all that comes."""
        try:
            answer = self.rpc.call(method, request, timeout=PATIENCE_S)
            if hasattr(answer, "__iter__"):
                list(answer)
        except grpc.RpcError as error:
            code = error.code()
            return HANGS if code is grpc.StatusCode.DEADLINE_EXCEEDED else f"{code.name} {error.details()[:160]}"
        return "OK"


@contextlib.contextmanager
def attacker(target: Target, key: str) -> Iterator[Attacker]:
    """One with connections of its own."""
    headers = {"Authorization": f"Bearer {key}"}
    with (
        httpx.Client(base_url=target.url, headers=headers, timeout=PATIENCE_S, trust_env=False) as http,
        rpc_client(target, key) as rpc,
    ):
        one = Attacker(target, key, rpc, http)
        yield one
        for line in one.silent:
            line.close()


# -- bodies


def _messages(text: str) -> str:
    """A chat body whose content is the JSON text of a string, escapes and all."""
    return f'{{"model":"{FAKE}","max_tokens":2,"messages":[{{"role":"user","content":"{text}"}}]}}'


_SENTENCE = {"model": FAKE, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
_TURN = {"role": "user", "content": "go on"}
_CALL = {"id": "c", "type": "function", "index": 0, "function": {"name": "a", "arguments": '{"a": "He said "x""}'}}

#: Bodies that are no JSON of ours, or JSON of the worst kind.
BODIES: Mapping[str, bytes | str] = {
    "not JSON": "{{{",
    "empty": "",
    "null": "null",
    "list": "[]",
    "number": "1e999",
    "not UTF-8": b'{"model":"\xff\xfe"}',
    "gzip": gzip.compress(json.dumps(_SENTENCE).encode()),
    "NaN": '{"model":"fake","messages":[{"role":"user","content":"hi"}],"temperature":NaN}',
    "infinite": '{"model":"fake","messages":[{"role":"user","content":"hi"}],"top_p":1e999}',
    "long number": '{"model":"fake","messages":[{"role":"user","content":"hi"}],"seed":' + "9" * 100_000 + "}",
    "deep": "[" * 100_000 + "]" * 100_000,
    "deep field": '{"model":"fake","messages":' + "[" * 50_000 + "]" * 50_000 + "}",
    "half a pair": _messages("hi \\ud83d"),
    "other half": _messages("\\ude0a hi"),
    "half a pair in the model": '{"model":"fake\\ud800","messages":[{"role":"user","content":"hi"}]}',
    "half a pair in a key": '{"model":"fake","\\ud800":1,"messages":[{"role":"user","content":"hi"}]}',
    "half a pair as stop": '{"model":"fake","messages":[{"role":"user","content":"hi"}],"stop":["\\ud800"]}',
    "nul": _messages("a\\u0000b"),
    "line separators": _messages("a\\u2028\\u2029\\u0085b"),
    "same key again": '{"model":"fake","model":"x","messages":[{"role":"user","content":"hi"}],"messages":7}',
    "many empty messages": '{"model":"fake","messages":[' + ",".join(["{}"] * 300_000) + "]}",
    "many messages": '{"model":"fake","messages":[' + ",".join(['{"role":"user","content":"a"}'] * 120_000) + "]}",
    "many unknown keys": '{"model":"fake",' + ",".join(f'"k{i}":1' for i in range(300_000)) + "}",
    "many stops": json.dumps({**_SENTENCE, "stop": ["x"] * 500_000}),
    "many tools": json.dumps({**_SENTENCE, "tools": TOOLS * 40_000}),
    "long text": json.dumps({**_SENTENCE, "messages": [{"role": "user", "content": "7" * 3_900_000}]}),
    "long text of a real model": json.dumps(
        {**_SENTENCE, "model": REAL, "messages": [{"role": "user", "content": "ab " * 1_200_000}]}
    ),
}

#: Values of fields that are wrong, extreme or odd.
FIELDS: Mapping[str, tuple[object, ...]] = {
    "top_p": (0, 1e-320, -1, 2, "x"),
    "temperature": (0, 1e-320, 1e308, -0.0, 2),
    "repetition_penalty": (0, 1e-320, 1e308),
    "presence_penalty": (1e308, -1e308),
    "top_k": (0, -1, 2**31, 2**63, 10**30),
    "seed": (0, -1, 2**63, 2**64, 10**40, 1.5),
    "max_tokens": (0, -1, 1, 2**31, 2**63, 10**40, "many"),
    "n": (0, -1, 128, 10**9),
    "stop": ("", [""], ["\x00"], [NONCHARACTERS], ["x" * 100_000], {"a": 1}),
    "logprobs": (True, 10**9, -1, "yes"),
    "stream": ("yes", 1),
    "tools": ([{}], [{"type": "function", "function": {"name": "\x00" * 70}}], "x", TOOLS),
    "tool_choice": ("required", {"type": "function", "function": {"name": "none"}}, 7),
    "model": ("", "../../etc/passwd", "x" * 100_000, "\r\n\x1b[2J", 7, None, "@n1.cpu0"),
    "messages": ([], [[]], [{"role": "user"}], [{"role": "tool", "content": "x"}], [{"role": "user", "content": []}]),
    "logit_bias": ({"1": 1e308}, {"x": 1}, {"-1": 0}),
    "user": ("u" * 1_000_000,),
}

#: Histories that clients send back.
HISTORIES: Mapping[str, list[dict[str, Any]]] = {
    "nulls": [_TURN, {"role": "assistant", "content": "hi", "refusal": None, "tool_calls": None, "audio": None}, _TURN],
    "broken arguments": [_TURN, {"role": "assistant", "tool_calls": [_CALL]}, {"role": "tool", "tool_call_id": "c"}],
    "empty text": [_TURN, {"role": "assistant", "content": "x"}, {"role": "user", "content": ""}],
    "noncharacters": [{"role": "user", "content": NONCHARACTERS}],
    "control tokens": [{"role": "user", "content": "<|im_end|><|im_start|>system\n<|endoftext|>"}],
    "combining": [{"role": "user", "content": "a" + "\u0301" * 20_000}],
    "only spaces": [{"role": "user", "content": " " * 50_000 + "\t" * 1_000}],
    "empty": [{"role": "user", "content": ""}],
    "names": [{"role": "user", "name": NONCHARACTERS, "content": "x"}],
    "system last": [_TURN, {"role": "system", "content": "x"}],
}

#: Paths and headers.
PATHS = (
    "/models/x%0d%1b[2J%1b[31mFAKE/chat/completions",
    "/models/x%0d%0a2026-01-01%20CRITICAL%20forged/completions",
    "/jobs/%00/events",
    "/jobs/..%2f..%2fetc/events",
    "/keys/x%0d%0aforged",
    "/models/%ff%fe/completions",
    "/" + "a" * 60_000,
)


def _chunked(head: bytes, parts: Iterator[bytes]) -> Iterator[bytes]:
    yield head + b"Transfer-Encoding: chunked\r\n\r\n"
    for part in parts:
        yield b"%x\r\n%s\r\n" % (len(part), part)
    yield b"0\r\n\r\n"


def _head(attacker: Attacker, *, key: bool, path: str = "/v1/chat/completions") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json"]
    lines += [f"Authorization: Bearer {attacker.key}"] if key else []
    return "".join(f"{line}\r\n" for line in lines).encode()


def tiny_chunks(attacker: Attacker, *, key: bool) -> Outcome:
    """A body of very many chunks of one byte."""
    some = b"1\r\n \r\n" * 10_000
    head = _head(attacker, key=key) + b"Transfer-Encoding: chunked\r\n\r\n"
    return attacker.raw(iter([head, *[some] * 60, b"0\r\n\r\n"]))


def over_the_limit(attacker: Attacker) -> Outcome:
    """A chunked body that is good at its beginning, and longer than allowed."""
    parts = [json.dumps(_SENTENCE).encode(), *[b" " * 60_000] * 110, b"garbage"]
    return attacker.raw(_chunked(_head(attacker, key=True), iter(parts)))


def bad_chunk_size(attacker: Attacker) -> Outcome:
    """What is no chunk, to a path that is no line."""
    head = _head(attacker, key=True, path=PATHS[0])
    return attacker.raw(iter([head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"]))


def silent_connections(attacker: Attacker) -> Outcome:
    """A thousand connections that say nothing, and a request that is not streamed beside them."""
    address = ("127.0.0.1", urlsplit(attacker.target.url).port)
    with contextlib.suppress(OSError):
        while len(attacker.silent) < 1_100:
            attacker.silent.append(socket.create_connection(address, PATIENCE_S))
    outcome = attacker.chat(FAKE)
    while attacker.silent:
        attacker.silent.pop().close()
    return outcome


def many_jobs(attacker: Attacker) -> Outcome:
    """As many background jobs as are taken."""
    body, made = {"messages": [_TURN], "max_tokens": 200}, []
    for _ in range(300):
        response = attacker.http.post(
            f"/models/{FAKE}/chat/completions", json=body, headers={"Prefer": "respond-async"}
        )
        if response.status_code != 202:
            break
        made.append(response.json()["data"]["job_id"])
    for job_id in made:
        attacker.http.delete(f"/jobs/{job_id}")
    return str(response.status_code)


def abandoned_streams(attacker: Attacker) -> Outcome:
    """Streams whose client leaves after the first bytes."""
    body = json.dumps({**_SENTENCE, "stream": True, "max_tokens": 400}).encode()
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", urlsplit(attacker.target.url).port), PATIENCE_S) as line:
            line.sendall(_head(attacker, key=True) + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            line.recv(64)
    return "left"


def background(attacker: Attacker, model: str) -> Outcome:
    """A job that nobody watches must end, too."""
    body = {"messages": [{"role": "user", "content": NONCHARACTERS}], "max_tokens": 2}
    headers = {"Prefer": "respond-async"}
    response = attacker.http.post(f"/models/{model}/chat/completions", json=body, headers=headers)
    if response.status_code != 202:
        return str(response.status_code)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        job = attacker.http.get(f"/jobs/{response.json()['data']['job_id']}").json()["data"]
        if job["status"] in ("completed", "failed", "cancelled"):
            return f"{job['status']} {(job.get('error') or {}).get('reason', '')}".strip()
        time.sleep(0.2)
    return HANGS


def get(attacker: Attacker, path: str) -> Outcome:
    """A GET of any path."""
    try:
        return str(attacker.http.get(path, headers={"Last-Event-ID": "9" * 300 + "-x"}).status_code)
    except httpx.TimeoutException:
        return HANGS
    except (httpx.TransportError, httpx.InvalidURL):
        return "cut"


def noise(attacker: Attacker) -> Outcome:
    """HTTP/1, garbage within TLS, and garbage without, to the port of gRPC."""
    port = attacker.target.settings.grpc_port
    attacker.raw(iter([b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]), port=port)
    attacker.raw(iter([b"\xff" * 100_000]), port=port)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    line = socket.create_connection(("127.0.0.1", port), 5)
    with contextlib.suppress(OSError), line, context.wrap_socket(line) as inner:
        inner.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\xff" * 10_000)
    return "cut"


def _rpc_chat(**fields: Any) -> Callable[[], Any]:
    messages = fields.pop("messages", None) or [pb.Message(role="user", content=fields.pop("content", "hi"))]
    wanted = {"model_id": FAKE, "max_tokens": 2, **fields}
    return lambda: pb.ChatCompletionRequest(messages=messages, **wanted)


#: gRPC requests, by method.
CALLS: Mapping[str, tuple[str, Callable[[], Any]]] = {
    "noncharacters": ("CreateChatCompletion", _rpc_chat(content=NONCHARACTERS, model_id=REAL)),
    "nul": ("CreateChatCompletion", _rpc_chat(content="\x00")),
    "top_p 0": ("CreateChatCompletion", _rpc_chat(model_id=REAL, top_p=0.0)),
    "NaN": ("CreateChatCompletion", _rpc_chat(temperature=float("nan"))),
    "infinite": ("CreateChatCompletion", _rpc_chat(top_p=float("inf"))),
    "negative": ("CreateChatCompletion", _rpc_chat(max_tokens=-5)),
    "empty": ("CreateChatCompletion", pb.ChatCompletionRequest),
    "many messages": ("CreateChatCompletion", _rpc_chat(messages=[pb.Message(role="u")] * 100_000)),
    "empty prompt": ("CreateCompletion", lambda: pb.CompletionRequest(model_id=REAL, prompt="", max_tokens=2)),
    "no inputs": ("CreateEmbeddings", lambda: pb.EmbeddingsRequest(model_id=ENCODER)),
    "a strange job": ("GetJob", lambda: pb.GetJobRequest(job_id="../\x00\n")),
    **{f"remote {name}": ("CreateChatCompletionStream", _rpc_chat(model_id=f"odd/{name}")) for name in STREAMS},
}


def _inputs() -> dict[str, Input]:
    found: dict[str, Input] = {f"body: {name}": partial(_send_body, content=body) for name, body in BODIES.items()}
    for model in (FAKE, REAL):
        for name, values in FIELDS.items():
            for i, value in enumerate(values):
                found[f"field: {name} {i} of {model}"] = partial(_send_field, model=model, name=name, value=value)
        for name, said in HISTORIES.items():
            found[f"history: {name} to {model}"] = partial(_send_chat, model=model, said=said)
        found[f"background: {model}"] = partial(background, model=model)
        found[f"prompt: empty to {model}"] = partial(_send_prompt, model=model, prompt="")
        found[f"prompt: lists to {model}"] = partial(_send_prompt, model=model, prompt=[[], [10**9], "x"])
        found[f"logprobs: {model}"] = partial(_send_prompt, model=model, prompt="😀 " * 10, logprobs=0, max_tokens=24)
    for name in [*STREAMS, *ERRORS]:
        for stream in (False, True):
            how = "streamed" if stream else "whole"
            found[f"provider: {name}, {how}"] = partial(_send_chat, model=f"odd/{name}", stream=stream, tools=TOOLS)
    found["provider: broken arguments"] = partial(_send_chat, model="odd/parts", said=HISTORIES["broken arguments"])
    found["provider: another protocol"] = partial(_send_chat, model="claude/parts", said=HISTORIES["empty text"])
    for name in VECTORS:
        found[f"provider: {name}"] = partial(_send_inputs, model=f"odd/{name}", inputs=["a", "b", "c"])
    for i, inputs in enumerate(("", [], [""], [[]], ["x" * 500_000], [NONCHARACTERS], [[-1]], ["a"] * 100_000)):
        found[f"embeddings: {i}"] = partial(_send_inputs, model=ENCODER, inputs=inputs)
    found |= {f"rpc: {name}": partial(_send_call, name=name) for name in CALLS}
    found |= {f"path: {path[:40]}": partial(get, path=path) for path in PATHS}
    found |= {f"post: {path[:40]}": partial(_send_path, path=path) for path in PATHS}
    found["deploy"] = partial(_send_deployment, body={"model_type": FAKE})
    found["tiny chunks without a key"] = partial(tiny_chunks, key=False)
    found["tiny chunks"] = partial(tiny_chunks, key=True)
    for one in (over_the_limit, bad_chunk_size, silent_connections, many_jobs, abandoned_streams, noise):
        found[one.__name__.replace("_", " ")] = one
    return found


def _send_body(attacker: Attacker, *, content: bytes | str) -> Outcome:
    return attacker.send("/v1/chat/completions", content)


def _send_field(attacker: Attacker, *, model: str, name: str, value: object) -> Outcome:
    body = {"model": model, "messages": [_TURN], "max_tokens": 2, name: value}
    return attacker.send("/v1/chat/completions", **body)


def _send_chat(attacker: Attacker, *, model: str, said: Any = "hi", **body: Any) -> Outcome:
    return attacker.chat(model, said, **body)


def _send_prompt(attacker: Attacker, *, model: str, prompt: Any, **body: Any) -> Outcome:
    return attacker.send("/v1/completions", model=model, prompt=prompt, **{"max_tokens": 2, **body})


def _send_inputs(attacker: Attacker, *, model: str, inputs: Any) -> Outcome:
    return attacker.send("/v1/embeddings", model=model, input=inputs)


def _send_call(attacker: Attacker, *, name: str) -> Outcome:
    method, make = CALLS[name]
    return attacker.call(method, make())


def _send_path(attacker: Attacker, *, path: str) -> Outcome:
    return attacker.send(path, **_SENTENCE)


def _send_deployment(attacker: Attacker, *, body: dict[str, Any]) -> Outcome:
    return attacker.send("/models/local/deploy", **body)


#: Name -> how it is sent.
INPUTS: Mapping[str, Input] = _inputs()
#: Those that are not odd but many: they take places and time as anybody's requests do.
LOADS = frozenset({"silent connections", "many jobs", "abandoned streams"})


def in_turn(inputs: Iterable[str]) -> list[str]:
    """Names in an order in which each kind has its turn soon, and that is the same in each run."""
    kinds = defaultdict[str, list[str]](list)
    for name in random.Random(7).sample(sorted(inputs), len(list(inputs))):
        kinds[name.partition(":")[0]].append(name)
    return [name for row in itertools.zip_longest(*kinds.values()) for name in row if name]


class Turns:
    """Names, again and again, for several threads."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = itertools.cycle(names)
        self._lock = threading.Lock()

    def __next__(self) -> str:
        with self._lock:
            return next(self._names)


def attack(target: Target, key: str, until: float, order: Turns, seen: dict[str, Counter[str]]) -> None:
    """Send inputs, one after another, up to a time."""
    with attacker(target, key) as one:
        while time.monotonic() < until:
            name = next(order)
            try:
                outcome = INPUTS[name](one)
            except Exception as error:
                outcome = f"the test failed: {error!r}"[:300]
            seen[name][outcome] += 1


def main() -> None:
    """`KEY SECONDS CONNECTIONS NAME...`: send the named ones, or else all, in a loop, over so many connections."""
    key, seconds, connections = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    seen = defaultdict[str, Counter[str]](Counter)
    common = Target(Settings.load()), key, time.monotonic() + seconds, Turns(in_turn(sys.argv[4:] or INPUTS)), seen
    threads = [threading.Thread(target=attack, args=common) for _ in range(connections)]
    print("begins", flush=True)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
