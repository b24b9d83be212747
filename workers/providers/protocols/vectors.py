"""The vectors in an answer to an embedding call: each input has one, all of one length, of finite numbers."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import numpy

from gateway.store.codec import as_count
from workers.providers.base import UpstreamDelta
from workers.providers.failures import Malformed


def vectors(answer: Any, num_inputs: int) -> list[UpstreamDelta]:
    """The count of tokens, and a vector for each input. Raises: Malformed."""
    usage = answer.get("usage") if isinstance(answer, Mapping) else None
    data = answer.get("data") if isinstance(answer, Mapping) else None
    if not isinstance(data, list) or len(data) != num_inputs or not all(isinstance(item, Mapping) for item in data):
        raise _odd(f"{len(data) if isinstance(data, list) else 'no'} vectors for {num_inputs} inputs")
    indexes = list(_indexes(data))
    if sorted(indexes) != list(range(num_inputs)):
        raise _odd(f"vectors whose indexes are not 0 to {num_inputs - 1}, each once")
    packed = [_packed(item.get("embedding")) for item in data]
    if len({len(vector) for vector in packed}) != 1 or not packed[0]:
        raise _odd("vectors that are not all of one size")
    tokens = as_count(usage.get("prompt_tokens")) if isinstance(usage, Mapping) else None
    return [
        UpstreamDelta(prompt_tokens=tokens),
        *(UpstreamDelta(index, vector=vector) for index, vector in zip(indexes, packed, strict=True)),
    ]


def _indexes(data: list[Mapping[str, Any]]) -> Iterator[int]:
    """Where no vector has an index, their order is meant."""
    numbered = any(item.get("index") is not None for item in data)
    for position, item in enumerate(data):
        number = as_count(item.get("index")) if numbered else position
        yield -1 if number is None else number


def _packed(vector: Any) -> bytes:
    """float32, little-endian: as base64, or as numbers from a server that ignores that base64 was asked for."""
    try:
        if isinstance(vector, str):
            elements = numpy.frombuffer(base64.b64decode(vector, validate=True), "<f4")
        else:
            with numpy.errstate(over="ignore"):
                elements = numpy.asarray(vector, "<f4")
    except (ValueError, TypeError, OverflowError) as error:
        raise _odd("a vector that is none") from error
    if not isinstance(vector, str | list) or elements.ndim != 1 or not numpy.isfinite(elements).all():
        raise _odd("a vector that is none, or has numbers that are not finite")
    return elements.tobytes()


def _odd(what: str) -> Malformed:
    """An answer that nobody can use; the provider is well, and other models of it are not at fault."""
    return Malformed(what, blame=False)
