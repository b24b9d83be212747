"""Makes services from functions `(call, request) -> message or Stream`: authenticates, parses the request, and turns
any error into a status. Knows nothing of models or jobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from web.rpc import stream
from web.rpc.call import Call
from web.rpc.messages import parse
from web.rpc.runtime import RpcRuntime

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Call, Any], Any]
T = TypeVar("T")


def handlers(
    service: ServiceDescriptor, behaviours: Mapping[str, Behaviour], face: RpcRuntime
) -> grpc.GenericRpcHandler:
    """The service, with a behaviour for each of its methods."""
    table = {method.name: _handler(method, behaviours[method.name], face) for method in service.methods}
    return grpc.method_handlers_generic_handler(service.full_name, table)


def _handler(method: MethodDescriptor, behaviour: Behaviour, face: RpcRuntime) -> Any:
    kind, name = GetMessageClass(method.input_type), method.full_name

    def behave(call: Call, raw: bytes) -> Any:
        call.authenticate()
        return behaviour(call, parse(kind, raw))

    async def plain(raw: bytes, context: Context) -> Message:
        async def run(call: Call) -> Message:
            answer: Message = await call.in_thread(lambda: behave(call, raw), short=False)
            return answer

        return await _run(Call(face, context), run, name)

    async def streaming(raw: bytes, context: Context) -> None:
        async def run(call: Call) -> None:
            opened: stream.Stream = await call.in_thread(lambda: behave(call, raw), short=False)
            await call.head()
            await stream.send(call, opened)

        await _run(Call(face, context), run, name)

    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(streaming)
    return grpc.unary_unary_rpc_method_handler(plain, response_serializer=_encode)


async def _run(call: Call, run: Callable[[Call], Awaitable[T]], doing: str) -> T:
    """Run a call. It is always closed, and its client gets a status."""
    call.begin_span(doing)
    try:
        try:
            with call.face.admit(call):
                try:
                    result = await run(call)
                    await call.head()
                    call.log_end(doing, "ok")
                    return result
                except (asyncio.CancelledError, grpc.aio.InternalError):
                    call.leave()
                    call.log_end(doing, "its client has left", code="CANCELLED")
                    raise
                finally:
                    await call.close()
        except grpc.aio.BaseError:
            raise
        except Exception as error:  # noqa: BLE001 - the edge of the process: each becomes a status
            return await call.fail(error, doing)
    except grpc.aio.InternalError as error:
        # The client has just left; grpc would log it.
        raise asyncio.CancelledError from error


def _encode(message: Message) -> bytes:
    return message.SerializeToString()
