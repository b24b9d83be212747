"""One gRPC call: who asks, under which request id, and whether the client is still there.

`handlers` turns functions `(call, request) -> message` into a service: it authenticates, reads the request, and makes a
status of whatever is raised. Knows nothing of models or jobs.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from gateway.context import Gateway
from gateway.credentials import KeyRecord
from gateway.errors import Unavailable
from web.bearer import bearer
from web.failures import client_error
from web.rpc.messages import parse
from web.rpc.status import to_status

#: A client that takes no message for so long is cut off.
SEND_TIMEOUT_S = 30.0
#: Request ids that a client may choose.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

Behaviour = Callable[["Call", Any], Any]


class Face:
    """What all calls of this process share."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        #: Calls end themselves now, with a hint where to go on.
        self.closing = threading.Event()
        self._calls: set[Call] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._cut_off, name="rpc-cut-off", daemon=True).start()

    def open_calls(self) -> int:
        """How many calls are open now."""
        return len(self._calls)

    def enter(self, call: Call) -> None:
        """Count a call as open."""
        with self._lock:
            self._calls.add(call)

    def leave(self, call: Call) -> None:
        """It is over."""
        with self._lock:
            self._calls.discard(call)

    def _cut_off(self) -> None:
        """End calls whose client takes nothing, since each holds a thread."""
        while True:
            time.sleep(SEND_TIMEOUT_S / 6)
            with self._lock:
                stuck = [call for call in self._calls if call.sending_since < time.monotonic() - SEND_TIMEOUT_S]
            for call in stuck:
                call.context.cancel()


class Call:
    """What a behaviour gets besides its request."""

    def __init__(self, face: Face, context: grpc.ServicerContext) -> None:
        self.face = face
        self.gateway = face.gateway
        self.context = context
        self.job_id = ""
        self.key: KeyRecord
        #: When the message that is being sent was handed over; infinite while none is.
        self.sending_since = float("inf")
        self._metadata = {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}
        wanted = self._metadata.get("x-request-id", "")
        self.request_id = wanted if _REQUEST_ID.fullmatch(wanted) else secrets.token_hex(16)
        self._deadline = time.monotonic() + left if (left := context.time_remaining()) is not None else float("inf")
        self._answered = False

    def authenticate(self) -> None:
        """Find the key, or the one that calls without a token act as. Raises: Unauthenticated."""
        secret = bearer(self.header("authorization") or "")
        assumed = self.gateway.settings.grpc_default_key
        if assumed and not secret:
            self.key = self.gateway.credentials.assume(assumed)
        else:
            self.key = self.gateway.credentials.authenticate(secret)

    def header(self, name: str) -> str | None:
        """A value of the client's metadata."""
        return self._metadata.get(name)

    def answer(self, headers: Mapping[str, str]) -> None:
        """Send the initial metadata, once: the request id and these."""
        if not self._answered:
            self._answered = True
            self.context.send_initial_metadata((("x-request-id", self.request_id), *headers.items()))

    @property
    def gone(self) -> bool:
        """Whether nobody waits for this call any more."""
        return not self.context.is_active()

    @property
    def late(self) -> bool:
        """Whether the client's deadline has passed."""
        return time.monotonic() >= self._deadline

    def on_end(self, callback: Callable[[], None]) -> None:
        """Run it when the call ends for any reason, which may be now."""
        if not self.context.add_callback(callback):
            callback()

    def require_running(self) -> None:
        """Raises: Unavailable when this process is to end, saying where the client can go on."""
        if self.face.closing.is_set():
            where = f" Job {self.job_id} goes on: follow it with WatchJob." if self.job_id else ""
            raise Unavailable(f"This server restarts.{where}", reason="restarting", retry_after_s=0.2)

    def fail(self, error: Exception, doing: str) -> None:
        """End the call with the status of an error. Raises, as grpc wants it."""
        found = client_error(error, doing)
        self.answer({})
        self.context.abort_with_status(to_status(found, request_id=self.request_id, job_id=self.job_id))


def handlers(service: ServiceDescriptor, behaviours: Mapping[str, Behaviour], face: Face) -> grpc.GenericRpcHandler:
    """The service, with a behaviour for each of its methods."""
    table: dict[str, Any] = {}
    for method in service.methods:
        request = GetMessageClass(method.input_type)
        if method.server_streaming:
            run: Any = _streaming(behaviours[method.name], request, face, method.full_name)
            table[method.name] = grpc.unary_stream_rpc_method_handler(run, response_serializer=_encode)
        else:
            run = _plain(behaviours[method.name], request, face, method.full_name)
            table[method.name] = grpc.unary_unary_rpc_method_handler(run, response_serializer=_encode)
    return grpc.method_handlers_generic_handler(service.full_name, table)


def _plain(behaviour: Behaviour, request: type[Message], face: Face, name: str) -> Callable[[bytes, Any], Any]:
    def run(raw: bytes, context: grpc.ServicerContext) -> Any:
        call = Call(face, context)
        face.enter(call)
        try:
            call.authenticate()
            result = behaviour(call, parse(request, raw))
            call.answer({})
            return result
        except grpc.RpcError:
            raise  # the client has left; grpc knows
        except Exception as error:  # noqa: BLE001 - the edge of the process: each becomes a status
            return call.fail(error, name)
        finally:
            face.leave(call)

    return run


def _streaming(behaviour: Behaviour, request: type[Message], face: Face, name: str) -> Callable[[bytes, Any], Any]:
    def run(raw: bytes, context: grpc.ServicerContext) -> Iterator[Any]:
        call = Call(face, context)
        face.enter(call)
        try:
            call.authenticate()
            for message in behaviour(call, parse(request, raw)):
                call.sending_since = time.monotonic()
                yield message
                call.sending_since = float("inf")
        except grpc.RpcError:
            raise  # the client has left; grpc knows
        except Exception as error:  # noqa: BLE001 - the edge of the process: each becomes a status
            call.fail(error, name)
        finally:
            face.leave(call)

    return run


def _encode(message: Message | bytes) -> bytes:
    """Chunks of a stream are encoded already."""
    return message if isinstance(message, bytes) else message.SerializeToString()
