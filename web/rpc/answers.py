"""Whole answers as messages, by the kind of their job."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

from web.rpc.messages import build, delimited
from web.rpc.stubs import model_pb2 as pb

_KINDS: dict[str, type[Message]] = {"chat": pb.ChatCompletionResponse, "completion": pb.CompletionResponse}
#: Tag of the field `embedding` of Embedding.
_VECTOR = b"\x12"


def answer(kind: str, data: Mapping[str, Any]) -> Message:
    """What the domain answers a job of that kind with, as a message."""
    return embeddings(data) if kind == "embedding" else build(_KINDS[kind], data)


def embeddings(data: Mapping[str, Any]) -> pb.EmbeddingsResponse:
    """The vectors as packed floats. Their bytes are those of the wire already, so they are copied as they are."""
    message = build(pb.EmbeddingsResponse, {**data, "data": []})
    for entry in data["data"]:
        vector = entry["embedding"]
        packed = base64.b64decode(vector) if isinstance(vector, str) else vector.tobytes()
        added = message.data.add(object=entry["object"], index=entry["index"])
        added.MergeFromString(delimited(_VECTOR, packed))
    return message
