"""Answers in a given form, from the client's side."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.integration.conftest import CHAT_MODEL as MODEL

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}


@pytest.mark.parametrize(
    ("form", "field", "said"),
    [
        ({"guided_json": {"minProperties": 9, "type": "object"}}, "structured_outputs.json", "minProperties at #"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "Got 'xml'; allowed: text"),
        ({"guided_json": {}, "guided_choice": ["a"]}, "guided_choice", "give one of them"),
        ({"structured_outputs": {"json": {}, "regex": "a"}}, "structured_outputs", "Got json and regex"),
    ],
)
def test_what_can_not_be_done_is_refused_before_anybody_queues(
    client: httpx.Client, form: dict[str, Any], field: str, said: str
) -> None:
    answer = client.post(f"/models/{MODEL}/chat/completions", json={**ASK, **form})
    assert answer.status_code == 422, answer.text
    assert said in str(answer.json()["data"]["errors"][field]), answer.text
    assert "x-job-id" not in answer.headers
    below = client.post("/v1/chat/completions", json={"model": MODEL, **ASK, **form})
    assert below.status_code == 400, below.text
    assert below.json()["error"]["param"] == field
