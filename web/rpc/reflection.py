"""gRPC's reflection in both of its versions, v1 and v1alpha: the library has the older one only, in the same bytes."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection, reflection_pb2

_OLD, _NEW = "grpc.reflection.v1alpha", "grpc.reflection.v1"
#: The newer name of the service.
V1 = f"{_NEW}.ServerReflection"


def enable(services: Sequence[str], server: grpc.aio.Server) -> None:
    """Tell clients of these services, and of reflection itself."""
    describe()
    names = (*services, V1, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    servicer = reflection.aio.ReflectionServicer(names)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(V1, {"ServerReflectionInfo": method}),))


def describe() -> None:
    """Make the descriptors of v1 from those of v1alpha: only the package differs."""
    file = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name, file.package = "grpc/reflection/v1/reflection.proto", _NEW
    file.options.Clear()
    for message in file.message_type:
        for field in filter(lambda field: field.type_name, message.field):
            field.type_name = field.type_name.replace(_OLD, _NEW)
    for service in file.service:
        for rpc in service.method:
            rpc.input_type, rpc.output_type = (name.replace(_OLD, _NEW) for name in (rpc.input_type, rpc.output_type))
    descriptor_pool.Default().Add(file)
