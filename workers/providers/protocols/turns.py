"""OpenAI's turns by Anthropic's rules, which the API insists on.

The user speaks first; no text is blank; no turn ends with a thought; each call of a tool is answered in the next turn,
before any text, under an id that is unique; a last turn of the assistant does not end with white space. Whoever speaks
twice in a row has one turn.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gateway.jobs.answer import extras
from gateway.jobs.answer.tool_calls import as_object
from gateway.models.protocols.anthropic import PLAIN, data_of

#: Stands where the API needs a turn and there is none.
NOTHING = "."
#: The result of a call that has none.
NO_RESULT = "(no result)"
#: What an id or a name of a tool may not hold, and how long a name may be.
_REFUSED = re.compile("[^a-zA-Z0-9_-]")
MAX_NAME = 64


def system(turns: Iterable[Mapping[str, Any]]) -> str:
    """The instructions, which are no turns there."""
    texts = (text_of(turn["content"]) for turn in turns if turn["role"] == "system")
    return "\n\n".join(text for text in texts if text.strip())


def messages(turns: Iterable[Mapping[str, Any]], *, provider: str, named: bool) -> list[dict[str, Any]]:
    """All other turns; see `extras.belong` for `provider` and `named`."""
    talk = _Talk()
    for turn in turns:
        if turn["role"] == "assistant":
            thoughts = list(_thoughts(turn)) if extras.belong(turn, provider, named=named) else []
            text = text_of(turn["content"]) or str(turn.get("refusal") or "")
            talk.assistant(thoughts, text, turn.get("tool_calls") or ())
        elif turn["role"] == "tool":
            talk.result(turn["tool_call_id"], list(blocks_of(turn["content"])))
        elif turn["role"] != "system":
            talk.add("user", blocks_of(turn["content"]))
    return talk.end()


def called(call: Mapping[str, Any]) -> tuple[str, str]:
    """The name of the tool that a call is of, and its arguments: what a free one is given is no JSON."""
    if isinstance(custom := call.get("custom"), Mapping):
        return str(custom.get("name") or ""), str(custom.get("input") or "")
    function = call["function"]
    return function["name"], function.get("arguments") or ""


def tool_name(name: str) -> str:
    """A name that the API takes."""
    return _REFUSED.sub("_", name)[:MAX_NAME] or "_"


class _Talk:
    """Puts turns together."""

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []
        #: The results of calls, by the ids that the client knows: the last call of an id counts.
        self._results: dict[str, dict[str, Any]] = {}
        self._ids: set[str] = set()

    def add(self, role: str, blocks: Iterable[dict[str, Any]]) -> None:
        """Let somebody say something, if it is anything."""
        kept = [block for block in blocks if _says(block)]
        if kept and self._messages and self._messages[-1]["role"] == role:
            self._messages[-1]["content"] += kept
        elif kept:
            self._messages.append({"role": role, "content": kept})

    def assistant(self, thoughts: list[dict[str, Any]], text: str, calls: Iterable[Mapping[str, Any]]) -> None:
        """A turn of the assistant, and a place for the result of each call right behind it."""
        uses, results = [], []
        for call in calls:
            use_id, (name, arguments) = self._unique(call["id"]), called(call)
            uses.append({"type": "tool_use", "id": use_id, "name": tool_name(name), "input": as_object(arguments)})
            result = {"type": "tool_result", "tool_use_id": use_id, "content": NO_RESULT, "is_error": True}
            results.append(result)
            self._results[call["id"]] = result
        self.add("assistant", [*(thoughts if text.strip() or uses else ()), _text(text), *uses])
        self.add("user", results)

    def result(self, call_id: str, blocks: list[dict[str, Any]]) -> None:
        """The result of a call; that of an unknown one is something that the user says."""
        result = self._results.get(call_id)
        if result is None:
            self.add("user", blocks)
            return
        result.pop("is_error", None)
        result["content"] = _short(blocks)
        if not any(_says(block) for block in blocks):
            del result["content"]

    def end(self) -> list[dict[str, Any]]:
        """The turns."""
        if self._messages and self._messages[-1]["role"] == "assistant":
            self._strip(self._messages[-1]["content"])
            if not self._messages[-1]["content"]:
                self._messages.pop()
        if not self._messages or self._messages[0]["role"] == "assistant":
            self._messages.insert(0, {"role": "user", "content": [_text(NOTHING)]})
        return [{**message, "content": _short(message["content"])} for message in self._messages]

    @staticmethod
    def _strip(blocks: list[dict[str, Any]]) -> None:
        last = blocks[-1]
        if last["type"] == "text":
            blocks[-1] = {**last, "text": last["text"].rstrip()}

    def _unique(self, call_id: str) -> str:
        """An id that the API takes, and that no other call has."""
        plain = found = _REFUSED.sub("_", call_id) or "_"
        number = 1
        while found in self._ids:
            number += 1
            found = f"{plain}_{number}"
        self._ids.add(found)
        return found


def text_of(content: Any) -> str:
    """The text in a content: that, or the texts among its parts."""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text") or part.get("refusal") or "") for part in content)


def blocks_of(content: Any) -> Iterator[dict[str, Any]]:
    """A content as blocks. Of what the API takes: see `gateway/models/protocols/anthropic.py`."""
    if isinstance(content, str):
        yield _text(content)
        return
    for part in content:
        if part["type"] == "image_url":
            image = part["image_url"]
            yield {"type": "image", "source": _source(image["url"] if isinstance(image, Mapping) else image)}
        elif part["type"] == "file":
            yield _document(part["file"])
        elif text := text_of([part]):
            yield _text(text)


def _document(file: Mapping[str, Any]) -> dict[str, Any]:
    source = _source(file["file_data"])
    if source.get("media_type") == PLAIN:
        text = base64.b64decode(source["data"]).decode(errors="replace")
        source = {"type": "text", "media_type": PLAIN, "data": text}
    return {"type": "document", "source": source, **({"title": name} if (name := file.get("filename")) else {})}


def _source(url: str) -> dict[str, Any]:
    """Where an image or a document is: in a data URL, or elsewhere."""
    kind, data = data_of(url)
    return {"type": "base64", "media_type": kind, "data": data} if kind else {"type": "url", "url": url}


def _says(block: Mapping[str, Any]) -> bool:
    return block["type"] != "text" or bool(block["text"].strip())


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _short(blocks: list[dict[str, Any]]) -> Any:
    """A text alone needs no block."""
    return blocks[0]["text"] if len(blocks) == 1 and blocks[0]["type"] == "text" else blocks


def _thoughts(turn: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The thoughts of an earlier answer, as the API has signed them; without its signature it takes none."""
    blocks = turn.get("thinking_blocks")
    for block in blocks if isinstance(blocks, list) else ():
        if not isinstance(block, Mapping):
            continue
        for kind, names in (("thinking", ("thinking", "signature")), ("redacted_thinking", ("data",))):
            if block.get("type") == kind and all(isinstance(block.get(name), str) for name in names):
                yield {"type": kind, **{name: block[name] for name in names}}
