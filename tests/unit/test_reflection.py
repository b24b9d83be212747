"""The descriptors of gRPC's reflection v1, which the library does not have."""

from __future__ import annotations

from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection_pb2

from web.rpc import reflection


def test_v1_is_v1alpha_under_another_name() -> None:
    reflection.describe()
    reflection.describe()
    old = reflection_pb2.DESCRIPTOR
    new = descriptor_pool.Default().FindFileContainingSymbol(reflection.V1)
    assert (old.package, new.package) == ("grpc.reflection.v1alpha", "grpc.reflection.v1")
    assert set(new.message_types_by_name) == set(old.message_types_by_name)
    method = new.services_by_name["ServerReflection"].methods_by_name["ServerReflectionInfo"]
    assert method.input_type.full_name == "grpc.reflection.v1.ServerReflectionRequest"
    assert {f.name: f.number for f in method.input_type.fields} == {
        f.name: f.number for f in reflection_pb2.ServerReflectionRequest.DESCRIPTOR.fields
    }
