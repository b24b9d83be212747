"""Services and messages of `proto/model.proto`, with its comments, as protoc itself reads them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc_tools
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

from docs.site.markdown import code, table

PROTO = Path(__file__).parents[2] / "proto" / "model.proto"
#: protobuf's own messages.
GOOGLE = Path(grpc_tools.__file__).parent / "_proto"
#: Numbers of fields in descriptors, which paths to comments are made of: messages and services of a file, fields,
#: nested messages and methods.
MESSAGES, SERVICES, FIELDS, METHODS = 4, 6, 2, 2

Comments = dict[tuple[int, ...], str]


def text() -> str:
    """A table for each service, and one for each message."""
    file = described()
    comments = {tuple(place.path): _comment(place) for place in file.source_code_info.location}
    return "\n".join([*_services(file, comments), *_messages(file, comments)])


def described() -> FileDescriptorProto:
    """The file as protoc understands it."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "set"
        options = ["--include_source_info", f"--descriptor_set_out={target}", f"-I{PROTO.parent}", f"-I{GOOGLE}"]
        if protoc.main(["protoc", *options, PROTO.name]):
            raise ValueError(f"protoc can't read {PROTO}.")
        return FileDescriptorSet.FromString(target.read_bytes()).file[0]


def _services(file: FileDescriptorProto, comments: Comments) -> Iterator[str]:
    for number, service in enumerate(file.service):
        yield f"## `{file.package}.{service.name}`\n"
        yield comments.get((SERVICES, number), "") + "\n"
        yield table(
            ("method", "takes", "answers", "what it does"),
            (
                (
                    code(method.name),
                    _message(method.input_type),
                    ("a stream of " if method.server_streaming else "") + _message(method.output_type),
                    comments.get((SERVICES, number, METHODS, place), ""),
                )
                for place, method in enumerate(service.method)
            ),
        )


def _messages(file: FileDescriptorProto, comments: Comments) -> Iterator[str]:
    yield "## Messages\n"
    for number, message in enumerate(file.message_type):
        yield f"### {message.name}\n"
        yield comments.get((MESSAGES, number), "") + "\n"
        rows = (
            (code(field.name), _type(message, field), comments.get((MESSAGES, number, FIELDS, place), ""))
            for place, field in enumerate(message.field)
        )
        yield table(("field", "type", "meaning"), rows) or "It has no fields.\n"


def _type(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    if entry := maps.get(field.type_name.rpartition(".")[2]):
        return f"map of {_type(message, entry.field[0])} to {_type(message, entry.field[1])}"
    name = _message(field.type_name) if field.type_name else FieldDescriptorProto.Type.Name(field.type)[5:].lower()
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"list of {name}"
    return f"{name}, or not set" if field.proto3_optional else name


def _message(full_name: str) -> str:
    name = full_name.rpartition(".")[2]
    return code(full_name[1:]) if full_name.startswith(".google.") else f"[{name}](#{name.lower()})"


def _comment(place: object) -> str:
    return " ".join(f"{place.leading_comments}{place.trailing_comments}".split())  # type: ignore[attr-defined]
