"""Hostile forms cost their senders only: streams of the same web process go on meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.schemas_300 import HOSTILE
from tests.stack import Stack, chat, eventually

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
#: What takes most, each time another one, so that no verdict is known.
BOMBS: list[dict[str, Any]] = [
    *({"structured_outputs": {"json": {**HOSTILE["pat3"], "title": str(number)}}} for number in range(4)),
    *({"structured_outputs": {"json": {**HOSTILE["dep"], "title": str(number)}}} for number in range(4)),
    {"structured_outputs": {"regex": "(a|b)*a(a|b){20}" * 20 + "(?!.*(a.{12}b)).*"}},
    {"structured_outputs": {"grammar": "root ::= (" + " | ".join(f'"x{i}" root' for i in range(2000)) + ")?"}},
]


def test_streams_go_on_while_hostile_forms_are_refused(client: httpx.Client, stack: Stack) -> None:
    # Given a stream
    stream = chat(stack, max_tokens=1_500)
    eventually(lambda: len(stream.ids) > 3, "the stream begins")
    # When hostile forms come all at once
    begun = len(stream.ids)
    with ThreadPoolExecutor(len(BOMBS)) as threads:
        answers = list(threads.map(lambda form: client.post("/models/fake/chat/completions", json=ASK | form), BOMBS))
    # Then each is refused, the stream has gone on meanwhile, and other forms are still taken
    assert [answer.status_code for answer in answers] == [422] * len(BOMBS), [answer.text for answer in answers]
    assert len(stream.ids) > begun + len(BOMBS)
    form = {"structured_outputs": {"json": {"type": "object", "properties": {"a": {"type": "boolean"}}}}}
    taken = client.post("/models/fake/chat/completions", json=ASK | form)
    assert taken.status_code == 200, taken.text
    client.delete(f"/jobs/{stream.job_id}")
    stream.join()
    assert stream.seqs == sorted(set(stream.seqs))
