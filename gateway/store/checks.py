"""Checks of a job's record and events: the types and bounds of all fields that are read somewhere.

Other fields come from another version and are ignored. Knows no Redis.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from gateway.store.codec import MAX_COUNT, is_integer, is_number, loads

Check = Callable[[Any], bool]
#: Answers, or inputs, of one job.
MAX_INDEXES = 4096
#: The last time that `datetime` can represent, in ms (year 9999).
MAX_MS = 253_402_300_799_999
#: What one token costs, in and out, then the currency; see `gateway/jobs/ledger.py`.
_PRICE = re.compile(r"\d{1,18} \d{1,18} .*", re.DOTALL)
_NUMBER = re.compile(r"-?\d{1,16}")
_HEX = re.compile(r"([0-9a-f]{2})*")
_TIMES = ("attended_until", "created_at", "queued_at", "started_at", "finished_at", "progress_at")


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _count(value: Any) -> bool:
    return is_integer(value, 0, MAX_COUNT)


def _index(value: Any) -> bool:
    return is_integer(value, 0, MAX_INDEXES - 1)


def is_time(value: Any) -> bool:
    """Whether it is a time in ms that `datetime` can represent."""
    return is_integer(value, 0, MAX_MS)


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _list(check: Check) -> Check:
    return lambda value: isinstance(value, list | tuple) and all(map(check, value))


def _texts(value: Any) -> bool:
    """An object whose values are texts."""
    return isinstance(value, dict) and all(map(_text, value.values()))


def _usage(value: Any) -> bool:
    """Tokens by kind, and details of some kinds."""
    return isinstance(value, dict) and all(_count(part) or (_object(part) and _usage(part)) for part in value.values())


def _ids(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(type(i) is int and i >= 0 for i in value)


def _logprob(value: Any) -> bool:
    """Token, log probability, and optionally its offset, its bytes in hex, and likely tokens at its place."""
    return (
        isinstance(value, list | tuple)
        and 2 <= len(value) <= 5
        and all(check(part) for check, part in zip(_OF_TOKEN, value, strict=False))
    )


def _likely(value: Any) -> bool:
    """Token, log probability, and perhaps its bytes in hex."""
    return (
        isinstance(value, list | tuple)
        and 2 <= len(value) <= 3
        and all(check(part) for check, part in zip((_text, is_number, _hex), value, strict=False))
    )


def _hex(value: Any) -> bool:
    return isinstance(value, str) and _HEX.fullmatch(value) is not None


def _maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


_OF_TOKEN: tuple[Check, ...] = (_text, _maybe(is_number), _count, _hex, _list(_likely))


def _delta(value: Any) -> bool:
    return isinstance(value, dict) and not _wrong(value, _DELTA)


_DELTA: Mapping[str, Check] = {
    "index": _index,
    "echo": _text,
    "text": _text,
    "ids": _ids,
    **dict.fromkeys(("lp", "prompt_lp"), _list(_logprob)),
    # These are read in any shape, see `gateway/jobs/answer/tool_calls.py` and `gateway/jobs/answer/extras.py`.
    "tool_calls": _list(_object),
    "extra": _list(_object),
    "finish": _text,
}
_FIELDS: Mapping[str, Check] = {
    **_DELTA,
    **dict.fromkeys(
        ("c", "model", "mode", "reason", "message", "next", "weights", "tokenizer", "prompt", "engine"), _text
    ),
    **dict.fromkeys(("replica", "stage", "status", "level", "end", "entry"), _text),
    **dict.fromkeys(("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens"), _count),
    "at": is_time,
    "progress": is_number,
    "usage": _usage,
    "error": _object,
    "facts": _object,
    "failure": _texts,
    "done": _list(_index),
    "choices": _list(_delta),
    "served_by": _list(_text),
}
#: Fields with another meaning in one type of event: `text` of `resumed` is by index of the choice.
_OTHERWISE: Mapping[str, Mapping[str, Check]] = {"resumed": {**_FIELDS, "text": _texts}}
_REQUIRED = {
    "snapshot": ("choices",),
    "vectors": ("done",),
    "failed": ("error",),
    "interrupted": ("model",),
    "stage": ("at", "replica", "stage", "status"),
    "log": ("at", "level", "message"),
    "facts": ("replica", "facts"),
}


def event(seq: Any, body: Mapping[str, Any]) -> str:
    """What is wrong with an event of a known type; empty if nothing is."""
    if not is_integer(seq, 0, MAX_COUNT):
        return "its number is none."
    missing = [name for name in _REQUIRED.get(body["type"], ()) if name not in body]
    if missing:
        return f"the field {missing[0]} is missing."
    if "end" in body and ("at" not in body or "failure" not in body):
        return "it says an end without a time and a reason."
    if "entry" in body and "replica" not in body:
        return "the field replica is missing."
    wrong = _wrong(body, _OTHERWISE.get(body["type"], _FIELDS))
    return f"the field {wrong} is {body[wrong]!r:.80}." if wrong else ""


def _wrong(body: Mapping[str, Any], fields: Mapping[str, Check]) -> str:
    """The first field that is not valid."""
    for name, value in body.items():
        check = fields.get(name)
        if check is not None and not check(value):
            return name
    return ""


def number(name: str, text: str) -> bool:
    """Whether a text is a valid whole number for this field of the record."""
    if not _NUMBER.fullmatch(text):
        return False
    low = -1 if name == "attended_until" else 0
    return low <= int(text) <= (MAX_MS if name in _TIMES else MAX_COUNT)


def record_object(name: str, text: str) -> bool:
    """Whether a text is a valid JSON object for this field of the record."""
    try:
        value = loads(text)
    except ValueError:
        return False
    return (_usage if name == "usage" else _object)(value)


def price(text: str) -> bool:
    """Whether it is a price as `gateway/jobs/ledger.py` writes it, or none."""
    return not text or _PRICE.fullmatch(text) is not None


def _prompt(value: Any) -> bool:
    """A text, or token ids."""
    return _text(value) or (bool(value) and _ids(value))


#: Fields of requests, of all kinds of jobs, that are read later without a check.
_REQUEST: Mapping[str, Check] = {
    "prompt": lambda value: _prompt(value) or (bool(value) and _list(_prompt)(value)),
    "n": _maybe(lambda value: is_integer(value, 0, MAX_INDEXES)),
    "stream_options": _maybe(_object),
    "messages": _list(_object),
    "warnings": _list(_text),
}
_WANTED = ("replica_id", "model", "node", "device")


def request(kind: str, value: Any) -> str:
    """What is wrong with the request of a job; empty if nothing is."""
    if not isinstance(value, dict):
        return "It is no object."
    if wrong := _wrong(value, _REQUEST):
        return f"The field {wrong} is {value[wrong]!r:.80}."
    prompts = value.get("prompt", "")
    several = isinstance(prompts, list) and not isinstance(prompts[0], int)
    if (value.get("n") or 1) * (len(prompts) if several else 1) > MAX_INDEXES:
        return f"It asks for more than {MAX_INDEXES} answers."
    for name in ("wanted", "replaced") if kind == "deployment" else ():
        replicas = value.get(name)
        if not isinstance(replicas, list) or not all(map(_replica, replicas)):
            return f"The field {name} is {replicas!r:.80}."
    return ""


def _replica(value: Any) -> bool:
    return isinstance(value, dict) and all(_text(value.get(name)) for name in _WANTED)
