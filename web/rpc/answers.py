"""Whole answers as messages, by the kind of their job."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

from web.rpc.messages import M, build, build_answer, build_text, delimited, message_of
from web.rpc.stubs import model_pb2 as pb

#: Number of the field `embedding` of Embedding.
_VECTOR = 2


def answer(kind: str, data: Mapping[str, Any]) -> Message:
    """The answer of a job of that kind, as a message."""
    if kind == "embedding":
        return embeddings(data)
    message = message_of(pb.Job, kind)
    if kind == "completion":
        return build_text(message, data)
    return planned(message, data) if kind == "deployment" else build_answer(message, data)


def planned(kind: type[M], data: Mapping[str, Any]) -> M:
    """A message with memory plans. A plan that is not known yet is empty, since a map holds no null."""
    plans = {device: plan or {} for device, plan in data.get("memory_plan", {}).items()}
    return build(kind, {**data, "memory_plan": plans})


def embeddings(data: Mapping[str, Any]) -> pb.EmbeddingsResponse:
    """The vectors as packed floats. Their bytes are those of the wire already, so they are copied as they are."""
    message = build(pb.EmbeddingsResponse, {**data, "data": []})
    for entry in data["data"]:
        vector = entry["embedding"]
        packed = base64.b64decode(vector) if isinstance(vector, str) else vector.tobytes()
        added = message.data.add(object=entry["object"], index=entry["index"])
        added.MergeFromString(delimited(_VECTOR, packed))
    return message
