"""Answers of many models, with what they mean: the corpus of canitoolcall, read in one piece and letter by letter."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from canitoolcall.fixtures import default_fixtures_dir

from gateway.jobs.answer import tool_calls
from workers.answers.channels import Channels
from workers.answers.formats import CALL_FORMATS, REASONING_FORMATS
from workers.answers.parser import Parser, Reading
from workers.answers.pieces import Pieces

#: Formats of a family's models: of calls, and of reasoning.
FAMILIES = {
    "qwen3-hermes": ("hermes", "think"),
    "qwen3-xml": ("qwen-xml", "think"),
    "glm": ("glm", "think"),
    "kimi": ("kimi", "think"),
    "gpt-oss": ("gpt-oss", ""),
    "llama": ("llama", ""),
    "mistral": ("mistral", "mistral"),
    "deepseek": ("deepseek-dsml", "think"),
}
#: Models that differ from their family, by a part of their name.
MODELS = {
    "Llama-4": ("pythonic", ""),
    "Magistral-Small-2506": ("mistral", "think"),
    "DeepSeek-V3-": ("deepseek", "think"),
    r"DeepSeek-V3(\.1)?$": ("deepseek", "think"),
    "DeepSeek-R1": ("deepseek", "think"),
}
#: What is read otherwise, and why.
OTHERWISE = {
    # The beginning of a call that was cut is told as it was streamed.
    "deepseek/v32-truncated-second-parallel-call",
    "deepseek/v4-truncated-second-parallel-call",
    "deepseek/v41-truncated-second-parallel-call",
    "qwen3-hermes/truncated-second-parallel-call",
    "glm/glm47-missing-last-close-arg-value",
    # Markers stand there as text, which are control tokens of the model.
    "gpt-oss/harmony-marker-in-arguments",
    "gpt-oss/harmony-marker-in-reasoning",
    # A tool that nobody has offered is no call, and nothing is lost.
    "gpt-oss/llamacpp-builtin-python-recipient",
    # Calls within reasoning are reasoning: models draft them there.
    "qwen3-xml/llamacpp-q35-call-inside-think",
    "kimi/k2i-vllm-noise-between-markers",
    # Space beside calls is left out.
    "kimi/k2i-vllm-content-after-tool-section",
}


def cases() -> list[dict[str, Any]]:
    files = sorted(default_fixtures_dir().glob("*/*.jsonl"))
    found = [
        json.loads(line) for path in files if path.parent.name in FAMILIES for line in path.read_text().splitlines()
    ]
    return [case for case in found if "Kimi-K3" not in case["models"][0]]


def read(case: dict[str, Any], step: int) -> Pieces:
    calls, reasoning = next(
        (form for part, form in MODELS.items() if re.search(part, case["models"][0])), FAMILIES[case["family"]]
    )
    answer, thought = case["raw_output"], REASONING_FORMATS.get(reasoning)
    # The corpus does not have all prompts.
    closes = thought is not None and thought.close in answer and thought.open not in answer
    cut = "truncated-in-reasoning" in case["id"]
    reading = Reading(
        calls=CALL_FORMATS[calls],
        reasoning=thought,
        opened=closes or cut or bool(thought and (case.get("generation_prompt") or "").rstrip().endswith(thought.open)),
        tools={tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in case["tools"]},
    )
    parser = (Channels if calls == "gpt-oss" else Parser)(reading, lambda number: f"call_{number}")
    whole = Pieces()
    for at in range(0, len(answer), step):
        whole.add(parser.feed(answer[at : at + step]))
    whole.add(parser.feed("", final=True))
    return whole


def meaning(pieces: Pieces) -> tuple[str | None, str | None, list[tuple[str, Any]]]:
    calls = []
    for call in tool_calls.merge(pieces.calls):
        arguments = call["function"]["arguments"]
        try:
            calls.append((call["function"]["name"], json.loads(arguments)))
        except ValueError:
            calls.append((call["function"]["name"], arguments))
    return pieces.text.strip() or None, pieces.reasoning.strip() or None, calls


def test_answers_of_models_are_read() -> None:
    wrong = {}
    for case in cases():
        expected = case.get("expected")
        if expected is None:
            continue
        calls = [(call["name"], call["arguments"]) for call in expected["tool_calls"]]
        wanted = tuple((expected[name] or "").strip() or None for name in ("content", "reasoning_content"))
        found = meaning(read(case, len(case["raw_output"]) or 1))
        if found != (*wanted, calls):
            wrong[case["id"]] = found
    assert set(wrong) <= OTHERWISE, {name: found for name, found in wrong.items() if name not in OTHERWISE}
    assert len(cases()) > 350


@pytest.mark.parametrize("step", [1, 5])
def test_they_mean_the_same_however_they_are_cut(step: int) -> None:
    for case in cases():
        whole, cut = read(case, len(case["raw_output"]) or 1), read(case, step)
        assert meaning(whole) == meaning(cut), case["id"]
