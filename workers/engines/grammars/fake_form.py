"""How the fake engine answers in a form: byte by byte, chosen among those that the grammar allows.

Which one is a function of (key, position) and of what may follow alone, so that an answer that was resumed is the one
that nobody disturbed. Behind `LONG` it ends as soon as it may.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.engines.grammars.token_masks import Grammars, Matcher

#: The bytes of formed answers are the tokens from here on.
FIRST_BYTE = 50_000
#: Bytes from which on an answer comes to its end.
LONG = 64
#: What brings an answer to its end, the best first, behind the end itself.
_CLOSING = b'"}]'


@cache
def _grammars() -> Grammars:
    from workers.engines.grammars.token_masks import (
        Grammars,
    )  # most systems with a fake engine have no llguidance to load

    return Grammars([bytes([i]) for i in range(256)], lambda text: list(text.encode()))


class FakeForm:
    """The rest of one answer."""

    def __init__(self, grammar: str) -> None:
        """Raises: EngineRequestError."""
        self._matcher: Matcher = _grammars().matcher(grammar)

    def next_token(self, key: str, position: int) -> int | None:
        """The token at a position, None at the end. Raises: EngineRequestError."""
        allowed = self._matcher.allowed()
        draw = zlib.crc32(f"{key}#{position}#form".encode())
        closing: list[int] = [byte for byte in (256, *_CLOSING) if allowed[byte]]
        if closing and (draw % 3 == 0 or (position >= LONG and position % 4)):
            byte = closing[0]
        else:
            choices = allowed.nonzero()[0].tolist()
            byte = choices[draw // 3 % len(choices)]
        if byte == 256:
            return None
        self._matcher.push([byte])
        return FIRST_BYTE + byte
