"""Tokens of a grammar's text, with their lines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from gateway.grammars.fuel import Refused

#: Most tokens of one grammar.
MAX_TOKENS = 20_000
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "0": "\0"}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)


class Token(NamedTuple):
    """A piece of text."""

    kind: str
    text: str
    line: int


def tokens(text: str, kinds: Mapping[str, str]) -> list[Token]:
    """Split a text by patterns; those of the kind `skip` are left out. Raises: Refused."""
    pattern = re.compile("|".join(f"(?P<{kind}>{each})" for kind, each in kinds.items()), re.DOTALL)
    found: list[Token] = []
    at, line = 0, 1
    while at < len(text):
        match = pattern.match(text, at)
        if match is None or match.end() == at:
            raise Refused(f"{text[at : at + 20]!r} can't be read.", place=f"line {line}")
        if match.lastgroup != "skip":
            found.append(Token(match.lastgroup or "", match.group(), line))
        if len(found) > MAX_TOKENS:
            raise Refused(f"Has more than {MAX_TOKENS} tokens, which is the limit.")
        line += match.group().count("\n")
        at = match.end()
    return [*found, Token("end", "", line)]


def unescaped(text: str, line: int) -> str:
    """The text that one with backslashes stands for. Raises: Refused."""

    def one(match: re.Match[str]) -> str:
        code = match[1] or match[2] or match[3]
        if code:
            number = int(code, 16)
            if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
                raise Refused(f"{match.group()} is no character.", place=f"line {line}")
            return chr(number)
        return _ESCAPES.get(match[4], match[4])

    return _ESCAPE.sub(one, text)


class Cursor:
    """Reads tokens one after the other."""

    def __init__(self, found: list[Token]) -> None:
        self._tokens, self._at = found, 0

    def peek(self, ahead: int = 0) -> Token:
        """The next token, or one behind it."""
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def take(self) -> Token:
        """The next token."""
        token = self.peek()
        self._at += 1
        return token

    def took(self, text: str) -> bool:
        """Take the next token if it is this one."""
        if self.peek().kind == "sign" and self.peek().text == text:
            self._at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        """Raises: Refused if the next token is another."""
        if not self.took(text):
            raise self.unexpected(f"expected {text!r}")

    def unexpected(self, hint: str) -> Refused:
        """The error for the next token."""
        token = self.peek()
        return Refused(f"Got {token.text[:20] or 'the end'!r}; {hint}.", place=f"line {token.line}")
