"""The mixed load of a row, and the request that says whether the system serves again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tests.faults.matrix.grpc_load import GrpcBackground, GrpcStream
from tests.faults.matrix.load import (
    Background,
    Client,
    Deployment,
    Embedding,
    Plain,
    RestStream,
    V1Plain,
    V1Stream,
    remote_words,
    tokens_for,
)
from tests.faults.matrix.rig import STEP_S, World
from tests.stack import eventually

#: Tokens of what is not streamed.
SHORT = 80


@dataclass
class Load:
    """Everything that one row sends, with a key of its own."""

    world: World
    key_id: str
    key: str
    clients: list[Client] = field(default_factory=list)

    @classmethod
    def with_key(cls, world: World) -> Load:
        return cls(world, *world.new_key())

    def add(self, *clients: Client) -> list[Client]:
        """Send more."""
        for client in clients:
            self.clients.append(client.start())
        return list(clients)

    def mixed(self, *, fault_s: float, full: bool, step_s: float = STEP_S, words: int = 0) -> None:
        """Streams, background jobs, plain answers, remote models, embeddings and a deployment, over all faces.

        They last a little longer than the fault. `words` of a remote answer: those that the servers are set to.
        """
        world, key, times = self.world, self.key, 2 if full else 1
        tokens = tokens_for(fault_s, step_s)
        if not words:
            words = world.openai.words = world.anthropic.words = remote_words(fault_s)
        for i in range(3 * times):
            self.add(RestStream(world, key, tokens=tokens, marked=i % 2 == 0, n=2 if i == 0 else 1))
        for _ in range(2 * times):
            self.add(V1Stream(world, key, tokens=tokens), GrpcStream(world, key, tokens=tokens))
            self.add(Background(world, key, tokens=SHORT), GrpcBackground(world, key, tokens=SHORT))
        for model in ("oa", "an") * times:
            self.add(RestStream(world, key, model=model, tokens=words))
        for _ in range(times):
            self.add(Plain(world, key, tokens=SHORT), V1Plain(world, key, tokens=SHORT))
            self.add(Background(world, key, tokens=SHORT), Background(world, key, tokens=SHORT))
        if full:
            self.add(Embedding(world, key), Embedding(world, key, count=40), Deployment(world))

    def await_middle(self) -> None:
        """Return when all streams run, and all jobs are accepted."""
        eventually(lambda: all(client.begun for client in self.clients), "all streams run", 60)

    @property
    def streams(self) -> list[Client]:
        return [client for client in self.clients if client.streams]

    def join(self, timeout_s: float) -> None:
        """Wait for all ends; then nobody tries any more."""
        until = time.monotonic() + timeout_s
        for client in self.clients:
            client.thread.join(max(0.0, until - time.monotonic()))
        for client in self.clients:
            client.leave()
