"""Requests of OpenAI's clients: what is put aside, what has another name, and what is still refused."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import ValidationError

from schemas.lenient.known_fields import ignored, require_known
from schemas.lenient.openai import Asked, OpenAIChatSchema, OpenAICompletionSchema, OpenAIEmbeddingSchema
from web.client_errors import client_error

TURN = {"role": "user", "content": "hi"}
FUNCTION = {"name": "f", "parameters": {"type": "object"}}


def chat(**fields: Any) -> Asked[Any]:
    found: Asked[Any] = OpenAIChatSchema().load({"model": "m", "messages": [TURN], **fields})
    return found


def wrong(**fields: Any) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as caught:
        chat(**fields)
    return client_error(caught.value, "").errors


def test_what_nobody_reads_is_put_aside() -> None:
    others = {
        "metadata": {"a": "b"},
        "verbosity": "low",
        "think": False,
        "num_ctx": 4096,
        "prediction": {"content": "x"},
    }
    assert chat(**others, service_tier=None).request.passed_on == others
    assert chat().request.passed_on is None
    assert "passed_on" not in chat().request.given()


def test_a_client_can_not_set_what_is_put_aside_itself() -> None:
    assert chat(passed_on={"a": 1}).request.passed_on == {"passed_on": {"a": 1}}


@pytest.mark.parametrize(("seed", "folded"), [(-1, 2**32 - 1), (2**63 - 1, 2**32 - 1), (-(2**63), 0), (7, 7)])
def test_a_seed_is_any_integer_of_64_bits(seed: int, folded: int) -> None:
    assert chat(seed=seed).request.seed == folded


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"seed": 2**63}, "seed"),
        ({"seed": "7"}, "seed"),
        ({"n": 129}, "n"),
        ({"temperature": "hot"}, "temperature"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"functions": [{"name": "has spaces"}]}, "functions[0].function.name"),
        ({"functions": "f"}, "functions"),
        ({"functions": [FUNCTION], "function_call": {"name": "g"}}, "function_call"),
        ({f"x{i}": 1 for i in range(101)}, "body"),
    ],
)
def test_what_is_read_must_still_be_right(fields: dict[str, Any], name: str) -> None:
    assert list(wrong(**fields)) == [name]


def test_what_is_put_aside_is_not_too_deep() -> None:
    deep: Any = 1
    for _ in range(70):
        deep = [deep]
    assert list(wrong(metadata=deep)) == ["metadata"]


def test_the_newer_limit_wins() -> None:
    assert chat(max_tokens=10, max_completion_tokens=5).request.max_tokens == 5
    assert chat(max_tokens=10, max_completion_tokens=None).request.max_tokens == 10


def test_functions_are_tools_by_their_older_name() -> None:
    asked = chat(functions=[FUNCTION], function_call={"name": "f"})
    assert asked.old_calls
    assert asked.request.tools == [{"type": "function", "function": FUNCTION}]
    assert asked.request.tool_choice == {"type": "function", "function": {"name": "f"}}
    assert asked.request.parallel_tool_calls is False
    assert not chat(tools=[{"type": "function", "function": FUNCTION}]).old_calls
    assert chat(functions=[], tools=[], tool_choice="auto").request.given() == chat().request.given()


def test_inner_fields_that_nobody_reads_are_named() -> None:
    tool = {"type": "function", "function": {**FUNCTION, "x": 1}, "cache_control": {"type": "ephemeral"}}
    asked = chat(
        tools=[tool],
        messages=[{**TURN, "id": "m-1", "name": None}],
        stream_options={"include_usage": True, "include_obfuscation": False},
    )
    assert asked.dropped == (
        "stream_options.include_obfuscation",
        "messages.id",
        "tools.cache_control",
        "tools.function.x",
    )
    assert asked.request.messages == [TURN]
    assert asked.request.tools == [{"type": "function", "function": FUNCTION}]


def test_other_paths_put_aside_too() -> None:
    text = OpenAICompletionSchema().load({"model": "m", "prompt": "a", "best_of": 1, "suffix": "b", "n": 128})
    assert text.request.passed_on == {"best_of": 1, "suffix": "b"}
    vectors = OpenAIEmbeddingSchema().load({"model": "m", "input": "a", "encoding_format": None, "x": 1})
    assert vectors.request.passed_on == {"x": 1}
    assert vectors.request.encoding_format == "float"


def test_all_prompts_together_have_a_bound() -> None:
    with pytest.raises(ValidationError, match="128 for each of 5 prompts"):
        OpenAICompletionSchema().load({"model": "m", "prompt": ["a"] * 5, "n": 128})


def test_only_what_would_change_something_is_ignored() -> None:
    assert ignored({"b": 1, "a": None, "modalities": ["text"], "best_of": 1}) == ["a", "b"]
    assert ignored({"modalities": ["text", "audio"], "best_of": 2}) == ["best_of", "modalities"]


def test_strangers_are_refused_where_that_is_set() -> None:
    require_known("chat", ["metadata", "verbosity"])
    with pytest.raises(ValidationError) as caught:
        require_known("chat", ["metadata", "think"])
    assert caught.value.messages.keys() == {"think"}  # type: ignore[union-attr]
