"""Headrace's gRPC face as a contestant. Without TLS, as HTTP has none here either."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tests.bench.server import Helper, Server
from tests.bench.workload import MAX_TOKENS, MODEL
from tests.rpc import start_rpc
from tests.stack import KEY, Stack

PATH = "/model.ModelService/CreateChatCompletionStream"


@dataclass
class GrpcServer(Server):
    """Asks with a load generator of its own."""

    load: Helper | None = None
    model: str = MODEL

    def run(self, load: Helper, texts: list[str], max_tokens: int = MAX_TOKENS) -> dict[str, Any]:
        """One run: all prompts at once. `load` speaks HTTP/1.1, so it is not used."""
        assert self.load
        bodies = [
            {
                "model_id": self.model,
                "messages": [{"role": "user", "content": text}],
                "max_tokens": max_tokens,
                "exact": {"temperature": 0},
            }
            | self.extra
            for text in texts
        ]
        return self.ask(self.load, {"port": self.port, "path": self.path, "headers": self.headers, "bodies": bodies})


@contextlib.contextmanager
def grpc_face(stack: Stack, processes: dict[str, int], model: str = MODEL) -> Iterator[Server]:
    """A gRPC process over a running stack. `processes` are those of the stack that work for it too."""
    settings = replace(stack.settings, grpc_plaintext=True, log_level="info")
    start_rpc(stack, settings=settings)
    shared = {name: pid for name, pid in processes.items() if name != "web"}
    load = Helper("tests.bench.grpc_load")
    try:
        yield GrpcServer(
            "headrace, gRPC",
            settings.grpc_port,
            PATH,
            {"authorization": f"Bearer {KEY}"},
            {"stream_options": {"include_usage": True}},
            shared | {"rpc": stack.processes["rpc"].pid},
            load,
            model,
        )
    finally:
        load.close()
