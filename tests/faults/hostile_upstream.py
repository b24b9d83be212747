"""A provider whose answers are as odd as real ones: what it says depends on the model that it is asked for."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Words of the well-behaved model's stream, and the pause between two.
WORDS, PACE_S = 40, 0.03


def chunk(delta: Any = None, finish: str | None = None, **fields: Any) -> str:
    """One chunk of a stream."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    whole = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **fields}
    return json.dumps(whole)


def called(**fields: Any) -> str:
    """A chunk with a piece of a tool call."""
    return chunk({"tool_calls": [fields]})


def once(arguments: Any, **fields: Any) -> list[str]:
    """A whole call with arguments of any kind."""
    function = {"name": "a", "arguments": arguments}
    return [called(index=0, id="c1", type="function", function=function, **fields), TOOL_END]


END, TOOL_END = chunk({}, "stop"), chunk({}, "tool_calls")

#: Model -> the chunks of its stream.
STREAMS: Mapping[str, Sequence[str]] = {
    "half_in_arguments": [*once('{"t": "\ud83d')[:1], called(index=0, function={"arguments": '\ude0a"}'}), TOOL_END],
    "half_in_text": [chunk({"content": "hi \ud83d"}), chunk({"content": "\ude0a there"}), END],
    "half_alone": [chunk({"content": "hi \ud83d there"}), END],
    "half_in_id": [called(index=0, id="\udc00", type="function", function={"name": "a", "arguments": "{}"}), TOOL_END],
    "half_in_name": [called(index=0, id="c", function={"name": "\ud800", "arguments": "{}"}), TOOL_END],
    "noncharacters": [chunk({"content": "".join(map(chr, range(0xFDD0, 0xFDF0))) + "\x00\ufffe"}), END],
    "object_arguments": once({"command": "ls"}),
    "list_arguments": once([1, {"a": None}]),
    "number_arguments": once(7),
    "null_arguments": once(None),
    "huge_number_arguments": once({"n": 10**400}),
    "empty_id": [
        called(index=0, id="call_a1", type="function", function={"name": "get_weather", "arguments": ""}),
        called(index=0, id="", type="function", function={"name": "", "arguments": '{"city": "Oslo"}'}),
        TOOL_END,
    ],
    "same_index": [*once('{"x":1}')[:1], called(index=0, id="c2", function={"name": "b", "arguments": "{}"}), TOOL_END],
    "odd_index": [called(index="zero", id=5, function={"name": ["a"], "arguments": "{}"}), TOOL_END],
    "huge_index": [called(index=10**12, id="c", function={"name": "a", "arguments": "{}"}), TOOL_END],
    "signature": once("{}", extra_content={"google": {"thought_signature": "AbC="}}),
    "reasoning": [chunk({"reasoning_content": "hm \udfff"}), chunk({"content": "fine"}), END],
    "no_choices": [chunk({"content": "one"}), chunk(choices=None), chunk({"content": " two"}), END],
    "null": [chunk({"content": "one"}), "null", chunk({"content": " two"}), END],
    "parts": [chunk({"content": [{"type": "text", "text": "Four."}]}), END],
    "odd_content": [chunk({"content": {"a": 1}}), chunk({"content": 5}), chunk([]), chunk({"role": 7}), END],
    "no_finish": [chunk({"content": "Paris."}), chunk(usage={"prompt_tokens": 7, "completion_tokens": 3})],
    "odd_finish": [chunk({"content": "x"}), json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": 3}]})],
    "odd_usage": [chunk({"content": "x"}), chunk({}, "stop", usage={"prompt_tokens": "many", "completion_tokens": -1})],
    "huge_usage": [chunk({"content": "x"}), chunk({}, "stop", usage={"prompt_tokens": 10**30, "completion_tokens": 1})],
    "not_finite": ['{"choices":[{"index":0,"delta":{"content":"x"},"logprobs":{"content":[{"logprob":NaN}]}}]}', END],
    "infinite": ['{"choices":[{"index":Infinity,"delta":{"content":"x"},"finish_reason":"stop"}]}'],
    "deep": ["[" * 50_000, chunk({"content": "x"}), END],
    "long_line": [chunk({"content": "x" * 3_000_000}), END],
    "no_json": ["{{{", "\x00\x01", chunk({"content": "x"}), END],
    "nothing": [],
    "other_choices": [json.dumps({"choices": [{"index": 99, "delta": {"content": "x"}, "finish_reason": "stop"}]})],
}
#: Model -> the body of an error.
ERRORS: Mapping[str, Any] = {
    "array_error": [{"error": {"code": 400, "message": "missing a thought_signature"}}],
    "text_error": {"error": "max context is 4096"},
    "detail_error": {"detail": "max context is 4096"},
    "odd_error": {"error": {"message": {"a": "\ud800"}, "code": [1]}},
}
#: Model -> what it says of each of n inputs.
VECTORS: Mapping[str, Any] = {
    "all_zero": lambda n: [{"index": 0, "embedding": [1.0, 0.5]} for _ in range(n)],
    "not_finite_vector": lambda n: [{"index": i, "embedding": [float("nan"), float("inf")]} for i in range(n)],
    "odd_vector": lambda n: [{"index": i, "embedding": "abc"} for i in range(n)],
    "ragged_vectors": lambda n: [{"index": i, "embedding": [0.5] * (i + 1)} for i in range(n)],
    "too_few_vectors": lambda n: [{"index": i, "embedding": [0.5]} for i in range(n - 1)],
}
#: The model that streams well.
GOOD = "good"


class HostileUpstream:
    """The server."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer by the model's name."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = body["model"]
        if name in ERRORS:
            self._whole(400, json.dumps(ERRORS[name]), "application/json")
        elif name in VECTORS:
            inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
            answer = {"object": "list", "data": VECTORS[name](len(inputs)), "usage": {"prompt_tokens": 1}}
            self._whole(200, json.dumps(answer), "application/json")
        elif name == GOOD:
            self._stream_well()
        elif not body.get("stream"):
            self._whole(200, json.dumps({"choices": [{"message": {"content": "\ud83d"}}]}), "application/json")
        else:
            events = "".join(f"data: {one}\n\n" for one in [*STREAMS[name], "[DONE]"])
            self._whole(200, events, "text/event-stream")

    def _stream_well(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for number in range(WORDS):
            self.wfile.write(f"data: {chunk({'content': f' w{number}'})}\n\n".encode())
            self.wfile.flush()
            time.sleep(PACE_S)
        self.wfile.write(f"data: {END}\n\ndata: [DONE]\n\n".encode())
        self.close_connection = True

    def _whole(self, status: int, text: str, kind: str) -> None:
        data = text.encode(errors="surrogatepass")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""
