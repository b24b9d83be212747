"""One answer of a provider as pieces that can be written, whatever it consists of on the wire. Knows no protocol."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.jobs.answer import extras
from gateway.jobs.answer.tool_calls import TEXTS, Calls, called_by
from gateway.jobs.journal import Logprob
from gateway.store.codec import writable
from workers.providers.base import UpstreamDelta
from workers.providers.protocols.wire import Halves
from workers.tokenizers.detokenizer import Offsets


class Token(NamedTuple):
    """A token, its log probability, and the likeliest ones at its place."""

    text: str
    logprob: float
    raw: bytes
    likely: Sequence[Token] = ()

    @property
    def hex(self) -> str:
        """Its bytes, if they are not those of its text."""
        return "" if self.text.encode() == self.raw else self.raw.hex()


class Answer:
    """Joins what was cut within a character, numbers the calls, and says whose the extras are."""

    def __init__(self, index: int, provider: str, *, before: str = "") -> None:
        """`before`: the text from which it goes on."""
        self.index = index
        #: Something of it has come, and its end has.
        self.begun = self.ended = False
        self._provider = provider
        self._named = False
        self._offsets = Offsets(len(before))
        self._calls = Calls(new_id=lambda: f"call_{secrets.token_hex(12)}")
        #: The type of each call.
        self._kinds: dict[int, str] = {}
        #: Of an extra by its name, of a call's arguments by its number, of the text by None.
        self._halves: dict[str | int | None, Halves] = defaultdict(Halves)

    def piece(
        self,
        *,
        text: str = "",
        calls: Iterable[Any] = (),
        extra: Mapping[str, Any] | None = None,
        logprobs: Iterable[Token] = (),
        finish: str | None = None,
    ) -> UpstreamDelta:
        """What has come. With `finish` it is over, and nothing waits for its other half any more."""
        self.begun = True
        self.ended = self.ended or finish is not None
        fragments = [self._joined(fragment) for call in calls if (fragment := self._calls.take(call))]
        more = {
            name: self._halves[name].join(value) if isinstance(value, str) else value for name, value in _raw(extra)
        }
        text = self._halves[None].join(text)
        if finish is not None:
            text, more, fragments = self._last(text, more, fragments)
        more = {name: value for name, value in more.items() if value != ""}
        if not self._named and (more or any(_has_extras(fragment) for fragment in fragments)):
            self._named = True
            more[extras.PROVIDER] = self._provider
        entries = [self._entry(token) for token in logprobs]
        return UpstreamDelta(self.index, text, fragments, entries, finish, writable(more))

    def end(self) -> UpstreamDelta:
        """Its end, where the provider has said nothing of it."""
        return self.piece(finish="tool_calls" if self._calls.calls else "stop")

    def _entry(self, token: Token) -> Logprob:
        entry = (token.text, token.logprob, self._offsets.push(token.raw))
        if not token.likely:
            return (*entry, token.hex) if token.hex else entry
        likely = [[one.text, one.logprob, *([one.hex] if one.hex else [])] for one in token.likely]
        return (*entry, token.hex, likely)

    def _joined(self, fragment: dict[str, Any]) -> dict[str, Any]:
        kind, called = called_by(fragment)
        if not called or not called.get(TEXTS[kind]):
            return fragment
        self._kinds[fragment["index"]] = kind
        text = self._halves[fragment["index"]].join(called[TEXTS[kind]])
        return {**fragment, kind: {**called, TEXTS[kind]: text}}

    def _last(
        self, text: str, more: dict[str, Any], fragments: list[dict[str, Any]]
    ) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
        """With what was still waited for."""
        rests = {name: halves.join("", final=True) for name, halves in self._halves.items()}
        text += rests.pop(None, "")
        for name, rest in rests.items():
            if rest and isinstance(name, int):
                kind = self._kinds[name]
                fragments = [*fragments, {"index": name, kind: {TEXTS[kind]: rest}}]
            elif rest:
                more = {**more, str(name): str(more.get(str(name), "")) + rest}
        return text, more, fragments


def _raw(extra: Mapping[str, Any] | None) -> Iterable[tuple[str, Any]]:
    """Texts as they came, since their halves may be joined, and all else in a form that can be written."""
    for name, value in (extra or {}).items():
        if name == extras.PROVIDER:
            continue  # that is for us to say
        if isinstance(value, str):
            yield writable(name), value
        else:
            yield from extras.of({name: value}, ()).items()


def _has_extras(fragment: Mapping[str, Any]) -> bool:
    kind, called = called_by(fragment)
    return bool(fragment.keys() - {"index", "id", "type", kind} or (called or {}).keys() - {"name", TEXTS[kind]})
