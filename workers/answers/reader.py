"""Turns the token ids of one answer into pieces: through the detokenizer, and through a parser where one is needed.

What a push returns depends on the ids so far only, not on how they were cut. So a resume reads the ids of the journal
again, and has the same state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from workers.answers.parser import CONTROL
from workers.answers.pieces import CallWriter, Pieces
from workers.tokenizers.detokenizer import IncrementalDetokenizer


class AnswerParser(Protocol):
    """Reads certain text; see `workers/answers/parser.py`."""

    writer: CallWriter

    @property
    def reasons(self) -> bool:
        """Whether reasoning is open."""

    def feed(self, text: str, *, final: bool = False) -> Pieces:
        """Add text. Returns what became certain."""


class Reader:
    """One answer. Without a `parser` all text is content."""

    def __init__(
        self,
        detokenizer: IncrementalDetokenizer,
        parser: AnswerParser | None = None,
        *,
        markers: Mapping[int, str] | None = None,
        most_calls: int = 0,
        begun: str = "",
    ) -> None:
        self._detokenizer = detokenizer
        self._parser = parser
        #: Control tokens that the parser must see, by id.
        self._markers = markers or {}
        #: The answer ends behind this many calls; 0: it may have any number.
        self._most_calls = most_calls
        #: What the prompt has begun of the answer: it is told with the first push.
        self._begun = begun
        #: Tokens of reasoning, with those that open and close it.
        self.reasoning_tokens = 0

    @property
    def has_calls(self) -> bool:
        """Whether the answer has tool calls."""
        return self._parser is not None and self._parser.writer.begun

    def push(self, ids: Sequence[int], *, final: bool = False) -> tuple[Pieces, bool, int]:
        """Add ids; `final` releases what was held back.

        Returns the pieces that became certain, whether the answer ends here (a stop string has matched, or it has all
        the calls that it may have), and how many of the ids count.
        """
        if self._parser is None:
            text, stopped, kept = self._detokenizer.push(ids, final=final)
            return Pieces(text), stopped, kept
        pieces, self._begun = self._parser.feed(self._begun), ""
        for count, token_id in enumerate(ids, 1):
            if self._take(self._parser, token_id, pieces):
                pieces.add(self._parser.feed("", final=True))
                return pieces, True, count
        if final:
            text, stopped, _ = self._detokenizer.push([], final=True)
            pieces.add(self._parser.feed(text, final=True))
            return pieces, stopped, len(ids)
        return pieces, False, len(ids)

    def _take(self, parser: AnswerParser, token_id: int, pieces: Pieces) -> bool:
        """Read one token. Returns whether the answer ends behind it."""
        reasoned = parser.reasons
        marker = self._markers.get(token_id)
        if marker is None:
            text, stopped, _ = self._detokenizer.push([token_id])
        else:  # what was held back can't go on behind a control token
            text, stopped, _ = self._detokenizer.push([], final=True)
            text += "" if stopped else CONTROL + marker
        if text:
            pieces.add(parser.feed(text))
        if reasoned or parser.reasons:
            self.reasoning_tokens += 1
        return stopped or 0 < self._most_calls <= parser.writer.ended
