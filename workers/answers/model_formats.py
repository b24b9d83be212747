"""The formats of one model: found in its chat template, or named by the catalog, and how its vocabulary spells them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from workers.answers.channels import MARKERS as CHANNEL_MARKERS
from workers.answers.described import has_place
from workers.answers.formats import CALL_FORMATS, CallFormat, ReasoningFormat, call_format, reasoning_format
from workers.answers.parser import CONTROL
from workers.tokenizers.load import Tokenizer

#: The format in which `workers/answers/described.py` asks for calls.
DESCRIBED = "hermes"
#: Tokens at the end of a prompt that are looked at: the template may begin the answer there.
_TAIL = 32


class ModelFormats:
    """How a model writes calls and reasoning. `tools` and `reasoning` name formats; empty: as its template shows."""

    def __init__(self, tokenizer: Tokenizer, *, tools: str = "", reasoning: str = "") -> None:
        self._tokenizer = tokenizer
        homeless = not has_place(tokenizer.template_texts)
        self.calls: CallFormat | None = call_format(tokenizer.template_texts, tools or (DESCRIBED if homeless else ""))
        #: Tools must be described in the conversation.
        self.describes = homeless and self.calls is CALL_FORMATS[DESCRIBED]
        self.reasoning: ReasoningFormat | None = reasoning_format(tokenizer.template_texts, reasoning)
        markers = {*_markers(self.calls), *_thought_markers(self.reasoning)}
        self._control = frozenset(markers & tokenizer.control.keys())
        self._by_id = {tokenizer.control[name]: name for name in self._control}

    def ids(self, parts: Sequence[str]) -> list[int]:
        """Texts, and control tokens by their marked names, as tokens."""
        found: list[int] = []
        for part in parts:
            name = part.removeprefix(CONTROL)
            found += self._tokenizer.encode(part) if name == part else [self._tokenizer.control[name]]
        return found

    def is_control(self, marker: str) -> bool:
        """Whether a marker is a control token of this vocabulary."""
        return marker in self._tokenizer.control

    def begins(self, form: CallFormat) -> tuple[str, ...]:
        """The control tokens with which a call begins, if it does; for the prompt."""
        if not form.opens or form.bare or not self.is_control(form.opens[0]):
            return ()
        around = form.around[:1] if form.around and self.is_control(form.around[0]) else ()
        return tuple(CONTROL + marker for marker in (*around, form.opens[0]))

    def shut(self, prompt: Sequence[int]) -> tuple[str, ...]:
        """What ends the reasoning that the prompt has begun, if it has."""
        if self.reasoning is None or not self.opens_reasoning(prompt):
            return ()
        close = self.reasoning.close
        return (CONTROL + close if self.is_control(close) else close,)

    def closes_reasoning(self, prompt: Sequence[int]) -> bool:
        """Whether the prompt says that the answer has no reasoning."""
        return self.reasoning is not None and self._end_of(prompt).rstrip().endswith(self.reasoning.close)

    def opens_reasoning(self, prompt: Sequence[int]) -> bool:
        """Whether the template has begun the reasoning at the end of the prompt."""
        return self.reasoning is not None and self._end_of(prompt).rstrip().endswith(self.reasoning.open)

    def _spelled(self, marker: str) -> list[int]:
        known = self._tokenizer.control.get(marker)
        return self._tokenizer.encode(marker) if known is None else [known]

    def _end_of(self, prompt: Sequence[int]) -> str:
        text = b"".join(
            self._names[token_id].encode() if token_id in self._names else self._tokenizer.token_bytes(token_id)
            for token_id in prompt[-_TAIL:]
        )
        return text.decode("utf-8", "replace")

    @cached_property
    def _names(self) -> dict[int, str]:
        return {token_id: name for name, token_id in self._tokenizer.control.items()}


def _markers(form: CallFormat | None) -> Sequence[str]:
    if form is None:
        return ()
    if form.style == "channels":
        return CHANNEL_MARKERS
    return (*form.opens, *form.around, *form.separators, form.close)


def _thought_markers(form: ReasoningFormat | None) -> Sequence[str]:
    return (form.open, form.close) if form else ()
