"""A gRPC client for tests, over TLS with the stack's own CA."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from gateway.settings import Settings
from tests.stack import KEY, PATIENCE_S, Stack, eventually
from web.rpc.stubs import model_pb2 as pb
from web.rpc.stubs.model_pb2_grpc import JobServiceStub, KeyServiceStub, ModelServiceStub, NodeServiceStub

#: No message of an error may be cut on the way.
_OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0))


class Client:
    """All services with a key, one channel."""

    def __init__(self, stack: Stack, key: str = KEY, **options: int) -> None:
        ca = (stack.settings.data_dir / "tls" / "ca.pem").read_bytes()
        self.channel = grpc.secure_channel(
            f"localhost:{stack.settings.grpc_port}",
            grpc.ssl_channel_credentials(ca),
            options=[*_OPTIONS, *options.items()],
        )
        self._use(self.channel, key)

    @classmethod
    def over(cls, channel: grpc.Channel, key: str = KEY) -> Client:
        """The same over a channel that is there."""
        client = cls.__new__(cls)
        client._use(channel, key)
        return client

    def _use(self, channel: grpc.Channel, key: str) -> None:
        kinds = (ModelServiceStub, JobServiceStub, NodeServiceStub, KeyServiceStub)
        self.models, self.jobs, self.nodes, self.keys = (kind(channel) for kind in kinds)
        self.metadata: tuple[tuple[str, str], ...] = (("authorization", f"Bearer {key}"),) if key else ()

    def call(self, method: str, request: Any, **kwargs: Any) -> Any:
        """A method of any service, by name."""
        stub = next(
            getattr(one, method) for one in (self.models, self.jobs, self.nodes, self.keys) if hasattr(one, method)
        )
        metadata = (*self.metadata, *kwargs.pop("metadata", ()))
        return stub(request, metadata=metadata, **{"timeout": 2 * PATIENCE_S, **kwargs})


@contextmanager
def client(stack: Stack, key: str = KEY) -> Iterator[Client]:
    """A client whose channel is closed at the end."""
    found = Client(stack, key)
    try:
        yield found
    finally:
        found.channel.close()


def start_rpc(
    stack: Stack, name: str = "rpc", settings: Settings | None = None, command: list[str] | None = None
) -> None:
    """Start a gRPC process, and wait until it listens; its log may hold what one of the same name said before it."""
    log = stack.folder / "logs" / f"{name}.log"
    before = log.stat().st_size if log.exists() else 0
    stack.start(name, command, settings)
    eventually(
        lambda: b"gRPC on" in log.read_bytes()[before:] or stack.processes[name].poll() is not None, "gRPC listens"
    )
    assert stack.processes[name].poll() is None, log.read_text()


def chat_request(content: str = "hello", model: str = "fake", **fields: Any) -> pb.ChatCompletionRequest:
    """A chat of one message."""
    return pb.ChatCompletionRequest(
        model_id=model, messages=[pb.Message(role="user", content=content)], **{"max_tokens": 5, **fields}
    )


def text_of(chunks: Sequence[Any]) -> str:
    """What the chunks of a chat add up to."""
    return "".join(choice.delta.content for chunk in chunks for choice in chunk.choices)


def details(error: grpc.RpcError) -> dict[str, Any]:
    """The google.rpc details of an error, by the name of their type."""
    call: Any = error  # grpc's own are calls, too
    status: status_pb2.Status | None = rpc_status.from_call(call)
    found: dict[str, Any] = {}
    for packed in status.details if status else ():
        name = packed.TypeName().rsplit(".", 1)[-1]
        found[name] = getattr(error_details_pb2, name)()
        packed.Unpack(found[name])
    return found
