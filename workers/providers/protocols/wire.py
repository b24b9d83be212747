"""What providers send, read leniently: the events of a stream, and JSON. Knows no SDK and no protocol.

Bytes that are no UTF-8 stay in the texts as halves of surrogate pairs (`surrogateescape`), as JSON may have such halves
itself: `Halves` joins what belongs together, since some servers cut a character between two events.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass
from typing import Any

from workers.providers.failures import Malformed

#: Bytes of one answer; more is no answer.
MAX_BYTES = 64 * 1024 * 1024
#: Digits of a whole number; a longer one is read as a float.
MAX_DIGITS = 18
#: The last event of OpenAI's protocol.
DONE = "[DONE]"
#: Name of the event that a server has sent which answers with JSON in place of a stream.
WHOLE = "whole"

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BLANK = b"\xef\xbb\xbf \t\r\n"
#: Halves that no byte stands for.
_LONE = re.compile("[\ud800-\udc7f\udd00-\udfff]")


@dataclass(frozen=True)
class Event:
    """One server-sent event. One without data is a sign of life."""

    name: str = ""
    data: str = ""


async def events(chunks: AsyncIterable[bytes]) -> AsyncGenerator[Event]:
    """The events of an answer. An event that lacks its end counts if it is whole.

    Raises: Malformed if there are more than `MAX_BYTES`.
    """
    reader = _Reader()
    async for chunk in chunks:
        for event in reader.feed(chunk):
            yield event
    for event in reader.end():
        yield event


class _Reader:
    """Makes events of bytes, wherever these are cut."""

    def __init__(self) -> None:
        self._size = 0
        #: The beginning of what is not complete: a line, or all of a JSON answer.
        self._open = bytearray()
        self._is_json: bool | None = None
        self._after_cr = False
        self._name, self._data = "", list[str]()

    def feed(self, chunk: bytes) -> list[Event]:
        self._size += len(chunk)
        if self._size > MAX_BYTES:
            raise Malformed(f"more than {MAX_BYTES >> 20} MiB")
        if self._is_json is None:
            chunk = (bytes(self._open) + chunk).lstrip(_BLANK)
            self._open.clear()
            if not chunk:
                return []
            self._is_json = chunk[:1] in (b"{", b"[")
        if self._is_json:
            self._open += chunk
            return []
        return [event for line in self._lines(chunk) for event in self._line(line)]

    def end(self) -> list[Event]:
        if self._is_json:
            return [Event(WHOLE, _text(self._open))]
        found = self._line(bytes(self._open)) if self._open else []
        last = Event(self._name, "\n".join(self._data))
        return [*found, last] if last.data == DONE or _is_json(last.data) else found

    def _lines(self, chunk: bytes) -> list[bytes]:
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._after_cr = chunk.endswith(b"\r")
        *lines, rest = _LINE_END.split(chunk)
        if lines:
            lines[0] = bytes(self._open) + lines[0]
            self._open.clear()
        self._open += rest
        return lines

    def _line(self, line: bytes) -> list[Event]:
        if not line:
            found = [Event(self._name, "\n".join(self._data))] if self._name or self._data else []
            self._name, self._data = "", []
            return found
        name, _, value = _text(line).partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
        return [] if name in ("event", "data") else [Event()]


def read(text: str) -> Any:
    """The value of a JSON text. Raises: Malformed."""
    try:
        return json.loads(text, parse_int=_whole_number)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"what is not JSON ({type(error).__name__})") from error


async def read_whole(chunks: AsyncIterable[bytes]) -> Any:
    """The value of an answer that is one JSON text. Raises: Malformed."""
    found = [event async for event in events(chunks)]
    if [event.name for event in found] != [WHOLE]:
        raise Malformed("what is not JSON")
    return read(found[0].data)


class Halves:
    """A text that comes in pieces, which may be cut within a character: joined, else each half is U+FFFD."""

    def __init__(self) -> None:
        self._half = ""
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def join(self, text: str, *, final: bool = False) -> str:
        """What can be said by now; the last half waits for its other one, unless it is `final`."""
        if not text and not final:
            return ""
        text, self._half = self._half + text, ""
        if not final and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        return self._bytes.decode(_LONE.sub("\ufffd", text).encode(errors="surrogateescape"), final)


def _text(data: bytes | bytearray) -> str:
    return data.decode(errors="surrogateescape")


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_DIGITS else float(digits)


def _is_json(text: str) -> bool:
    try:
        read(text)
    except Malformed:
        return False
    return True
