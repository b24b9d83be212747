"""canitoolcall's probe on a local model: one that is taught the answers to its questions by heart, reasons, and calls.

So it tells what the server makes of them: template, parser, streams.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from canitoolcall.probe import BUILTIN_SCENARIOS, probe

from tests.stack import KEY, Stack, running
from tests.taught_models import save_taught


def call(name: str, **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n</tool_call>"


PEOPLE = [{"name": "Ana", "email": "ana@example.com"}, {"name": "Bo", "email": "bo@example.com"}]
ANSWERS = {
    "single-call": call("get_weather", city="Paris"),
    "parallel-calls": f"{call('get_weather', city='Paris')}\n{call('get_weather', city='Tokyo')}",
    "no-call": "42",
    "nested-args": call(
        "create_event", title="Design review", attendees=PEOPLE, location={"city": "Berlin", "room": "4.12"}
    ),
    "unicode-args": call("save_note", title="Grüße aus Zürich", body="Café ☕ in 東京 — naïve résumé 🚀"),
    "empty-args": call("get_server_time"),
    "forced-tool-choice": call("get_weather", city="Lisbon"),
    "tool-result-followup": "It is 18 degrees and clear in Paris.",
    "reasoning-then-call": call("record_answer", answer="9.9"),
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    lessons = [
        (scenario.request_body("taught", stream=False), f"\nI know this.\n</think>\n\n{ANSWERS[scenario.id]}")
        for scenario in BUILTIN_SCENARIOS
    ]
    folder: Path = save_taught(tmp_path_factory.mktemp("taught"), lessons)
    catalog = f"""
[models.taught]
capabilities = ["chat", "tool_use"]
engine = "transformers"
source = "{folder}"
context_length = 2048
max_tokens = 512
"""
    with running(tmp_path_factory.mktemp("p"), {"taught": {}}, catalog=catalog) as stack:
        yield stack


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_local_model_with_tools_passes_the_probe(stack: Stack) -> None:
    report = probe(f"{stack.url}/v1", "taught", api_key=KEY, timeout_s=120, concurrency=2)
    assert report.summary()["pass"] >= 24, report.render_text()
