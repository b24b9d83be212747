"""Finds markers and the ends of JSON values in text that comes in pieces. Each character is looked at a few times."""

from __future__ import annotations

import re
from collections.abc import Sequence


class Markers:
    """Texts to look for; of two at the same place the longer one counts."""

    def __init__(self, markers: Sequence[str]) -> None:
        self.all = tuple(sorted({marker for marker in markers if marker}, key=len, reverse=True))
        self._pattern = re.compile("|".join(map(re.escape, self.all)) or "(?!)")
        self._longest = max(map(len, self.all), default=0)
        self._beginnings = {marker[:size] for marker in self.all for size in range(1, len(marker))}

    def split(self, text: str, *, final: bool = False) -> tuple[str, str, str]:
        """(text before the first marker, the marker, the rest). Without one the rest may be the beginning of one."""
        if found := self._pattern.search(text):
            return text[: found.start()], found[0], text[found.end() :]
        keep = 0 if final else self._overlap(text)
        return text[: len(text) - keep], "", text[len(text) - keep :]

    def _overlap(self, text: str) -> int:
        """Length of the longest end of the text that a marker begins with."""
        for size in range(min(len(text), self._longest - 1), 0, -1):
            if text[-size:] in self._beginnings:
                return size
        return 0


_STRING = re.compile(r'["\\]')
#: What matters outside of strings: brackets, quotes, and what JSON has not.
_OUTSIDE = re.compile(r'[{}\[\]"]|[^\s\w+\-.,:]')
_SCALAR_END = re.compile(r"[\s,}\]]|[^\w+\-.]")


class JsonString:
    """Finds the end of a string, from behind its first quote."""

    def __init__(self) -> None:
        self.done = False
        self._escaped = False

    def push(self, text: str, at: int) -> int:
        """Scan from `at`. Returns where the string ends (behind its quote), or the length of the text."""
        if self._escaped and at < len(text):
            at, self._escaped = at + 1, False
        while found := _STRING.search(text, at):
            if found[0] == '"':
                self.done = True
                return found.end()
            at = found.end() + 1
            if at > len(text):
                self._escaped = True
                break
        return len(text)


class JsonValue:
    """Finds the end of one value, from its first character, by its quotes and brackets."""

    def __init__(self, first: str) -> None:
        self.done = self.broken = False
        self._depth = 0
        self._string: JsonString | None = None
        self._scalar = first not in '{["'
        self._bare_string = first == '"'

    def push(self, text: str, at: int) -> int:
        """Scan from `at`. Returns where the value ends, or the length of the text."""
        if self._scalar:
            found = _SCALAR_END.search(text, at)
            self.done = found is not None
            return found.start() if found else len(text)
        while at < len(text):
            if self._string is not None:
                at = self._string.push(text, at)
                if self._string.done:
                    self._string = None
                    if self._bare_string:
                        self.done = True
                        return at
                continue
            found = _OUTSIDE.search(text, at)
            if found is None:
                return len(text)
            at = found.end()
            if found[0] == '"':
                self._string = JsonString()
            elif found[0] in "{[":
                self._depth += 1
            elif found[0] in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.done = True
                    return at
            else:
                self.broken = True
                return found.start()
        return len(text)
