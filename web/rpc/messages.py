"""Protobuf messages as the dicts that REST's schemas load, and results as messages, so that both faces agree."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, TypeVar

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct

from gateway.errors import BadRequest, InvalidRequest
from web.rpc.stubs import model_pb2 as pb

M = TypeVar("M", bound=Message)
#: The wire type of length-delimited fields.
_DELIMITED = 2


def parse(kind: type[M], raw: bytes) -> M:
    """The message in a request's bytes. Raises: BadRequest."""
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        name = kind.DESCRIPTOR.full_name
        raise BadRequest(f"The request is not a valid {name} message: {error}.", reason="invalid_message") from error


def require_few(message: Message, most: int) -> None:
    """Raises: InvalidRequest if it contains more than `most` messages. Cheaper than a conversion."""
    level, count = [message], 0
    while level:
        level = [inner for outer in level for inner in _inner(outer, most - count)]
        count += len(level)
        if count > most:
            raise InvalidRequest(f"The request holds more than {most} messages, which is the limit. Send fewer.")


def _inner(message: Message, most: int) -> list[Message]:
    """The direct submessages of a message; at most `most` + 1 of each field."""
    found: list[Message] = []
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            found += (one for one in islice(value.values(), most + 1) if isinstance(one, Message))
        else:
            found += islice(value, most + 1) if field.is_repeated else [value]
    return found


def build(kind: type[M], data: Mapping[str, Any]) -> M:
    """A result as a message, field by field. Fields that the message lacks are left out."""
    return ParseDict(dict(data), kind(), ignore_unknown_fields=True)


def build_text(kind: type[M], data: Mapping[str, Any]) -> M:
    """A completion's answer or chunk as a message: in its lists, which hold no nulls, is what stands for nothing."""
    if all(None not in (_logprobs(choice).get("token_logprobs") or ()) for choice in data["choices"]):
        return build(kind, data)
    return build(kind, {**data, "choices": [_without_nulls(choice) for choice in data["choices"]]})


def _logprobs(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    return choice.get("logprobs") or {}


def _without_nulls(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first token of an echoed prompt has no log probability, and no likely ones at its place."""
    shown = dict(_logprobs(choice))
    for name, nothing in (("token_logprobs", "NaN"), ("top_logprobs", {})):
        if shown.get(name):
            shown[name] = [nothing if value is None else value for value in shown[name]]
    return {**choice, "logprobs": shown} if shown else choice


def build_answer(kind: type[M], data: Mapping[str, Any]) -> M:
    """A chat's answer or chunk as a message: fields that its provider has added are in `extra`."""
    return build(kind, _gathered(data, kind.DESCRIPTOR))


def message_of(parent: type[Message], kind: str) -> type[Message]:
    """The type of the field that a message for all kinds of jobs has for one kind. Raises: KeyError."""
    found: Any = parent.DESCRIPTOR.fields_by_name[kind].message_type
    return GetMessageClass(found)


def to_dict(message: Message) -> dict[str, Any]:
    """The fields that are set, under their own names. A plain scalar that is zero is not set. Raises: BadRequest."""
    if isinstance(message, Struct):
        try:
            whole: dict[str, Any] = _whole_numbers(MessageToDict(message))
        except ValueError as error:
            raise BadRequest(f"A Struct has a value that JSON has not: {error}.", reason="invalid_message") from error
        return whole
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            found[field.name] = dict(value)
        elif field.message_type is None:
            found[field.name] = list(value) if field.is_repeated else value
        else:
            found[field.name] = [to_dict(item) for item in value] if field.is_repeated else to_dict(value)
    return found


def chat_body(request: pb.ChatCompletionRequest) -> dict[str, Any]:
    """The body that REST would have got."""
    body = _body(request)
    body["messages"] = [_turn(message) for message in request.messages]
    if name := body.pop("tool_choice_function", None):
        _instead(body, "tool_choice", "tool_choice_function", {"type": "function", "function": {"name": name}})
    if choice := body.pop("tool_choice_object", None):
        _instead(body, "tool_choice", "tool_choice_object", choice)
    return body


def completion_body(request: pb.CompletionRequest) -> dict[str, Any]:
    """The body that REST would have got."""
    body = _body(request)
    if prompts := body.pop("prompts", None):
        _instead(body, "prompt", "prompts", prompts)
    if body.pop("prompt_ids", None):
        _instead(body, "prompt", "prompt_ids", [list(one.ids) for one in request.prompt_ids])
    return {"prompt": "", **body}


def embedding_body(request: pb.EmbeddingsRequest) -> dict[str, Any]:
    """The body that REST would have got."""
    body = _body(request)
    if body.pop("input_ids", None):
        _instead(body, "input", "input_ids", [list(one.ids) for one in request.input_ids])
    return body


def _instead(body: dict[str, Any], name: str, other: str, value: Any) -> None:
    """Put what `other` says where REST has it, in `name`. Raises: InvalidRequest if something is there."""
    if name in body:
        raise InvalidRequest.of({other: [f"Give {name} or {other}, not both."]})
    body[name] = value


def delimited(number: int, content: bytes) -> bytes:
    """An encoded field of a message: tag, length, content. `number` is 15 at most."""
    length, size = bytearray(), len(content)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes((number << 3 | _DELIMITED, *length)) + content


def _body(request: Message) -> dict[str, Any]:
    """The body without the model, which REST has in the path, and with `exact` values over plain ones."""
    body = to_dict(request)
    exact = body.pop("exact", {})
    body.pop("model_id", None)
    return {**body, **exact}


def _turn(message: pb.Message) -> dict[str, Any]:
    """A turn. An empty content is a text, unless an assistant only calls tools."""
    turn = {"role": "", **_spread(to_dict(message))}
    if parts := turn.pop("parts", None):
        _instead(turn, "content", "parts", parts)
    return turn if message.tool_calls else {"content": "", **turn}


def _spread(data: Any) -> Any:
    """Move the fields of each `extra` up to the object itself, where REST has them."""
    if isinstance(data, list):
        return [_spread(entry) for entry in data]
    if not isinstance(data, dict):
        return data
    known = {name: _spread(value) for name, value in data.items() if name != "extra"}
    return {**data.get("extra", {}), **known}


def _gathered(data: Any, descriptor: Any) -> Any:
    """Move fields that the message lacks into its `extra`, if it has one. `descriptor` describes the message."""
    if isinstance(data, list):
        return [_gathered(entry, descriptor) for entry in data]
    if not isinstance(data, Mapping) or descriptor is None or descriptor.file is not pb.DESCRIPTOR:
        return data
    if descriptor.GetOptions().map_entry:
        return data
    fields = {name: field.message_type for name, field in descriptor.fields_by_name.items() if name != "extra"}
    known = {name: _gathered(value, fields[name]) for name, value in data.items() if name in fields}
    extra = {name: value for name, value in data.items() if name not in fields}
    return {**known, "extra": extra} if extra and "extra" in descriptor.fields_by_name else known


def _whole_numbers(value: Any) -> Any:
    """Turn whole doubles of a Struct into integers, which JSON schemas require for counts."""
    if isinstance(value, dict):
        return {name: _whole_numbers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
