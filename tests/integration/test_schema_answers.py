"""Answers of real engines to many schemas: each is valid, or its schema is refused before anything is asked.

Random weights: they choose among all that the grammar allows, as no trained model would.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import jsonschema
import pytest

from gateway.errors import InvalidRequest
from gateway.grammars.ebnf import to_ebnf
from gateway.grammars.forms import Form, grammar_of
from gateway.grammars.lark import to_lark
from gateway.grammars.quotient import rest
from tests.engines import loaded_engine
from tests.schemas_300 import SCHEMAS
from tests.tiny_models import save_tiny_gguf, save_tiny_llama
from tests.tokenizers import qwen2, save_folder
from workers.engines.base import Engine, EngineConfig, Sampling, SequenceRequest
from workers.tokenizers.load import Tokenizer, load_tokenizer

#: Schemas of `make test`.
FEW = 12
MAX_TOKENS = 120
WRITTEN = {"openvino": to_ebnf, "transformers": to_lark}
Loaded = Callable[[str], tuple[Engine, Tokenizer]]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    engines = []

    @cache
    def loaded(name: str) -> tuple[Engine, Tokenizer]:
        folder = tmp_path_factory.mktemp(name)
        if name == "openvino":
            path = save_tiny_gguf(folder / "tiny.gguf")
        else:
            path = save_tiny_llama(folder, vocab_size=1216, eos_token_id=1)
            save_folder(path, qwen2())
            (path / "generation_config.json").write_text('{"eos_token_id": 1}')
        engines.append(loaded_engine(EngineConfig(name, str(path), "CPU", 4, 512)))
        return engines[-1], load_tokenizer(str(path), name)

    yield loaded
    for engine in engines:
        engine.close()


def answers(engine: Engine, tokenizer: Tokenizer, grammar: str, count: int) -> list[tuple[str, str, str]]:
    """Text, reason of the end, and error of each."""
    for i in range(count):
        sampling = Sampling(MAX_TOKENS, temperature=1.0, grammar=grammar)
        engine.add(SequenceRequest(i, [100 + i], sampling, list(tokenizer.eos_ids), key=f"job/{i}"))
    ids: dict[int, list[int]] = {i: [] for i in range(count)}
    ends: dict[int, tuple[str, str]] = {}
    while engine.has_work():
        for output in engine.step():
            ids[output.sequence_id] += output.token_ids
            if output.finish_reason:
                ends[output.sequence_id] = (output.finish_reason, output.error or "")
    return [(tokenizer.decode(ids[i]), *ends[i]) for i in range(count)]


def judged(load: Loaded, engine: str, schema: Any) -> list[str]:
    """How two answers have ended, each of which was found valid as far as it goes; or `refused`."""
    try:
        grammar = grammar_of(Form("json", schema, "response_format"))
    except InvalidRequest:
        return ["refused"]
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    found = answers(*load(engine), WRITTEN[engine](grammar), 2)
    for text, reason, error in found:
        if reason == "length":  # it may end within a character
            assert rest(grammar, text.rstrip("\ufffd")) is not None, text
        elif reason == "error":
            assert (engine == "openvino" and "too" in error) or "more time" in error, error
        else:
            assert reason == "stop"
            assert not list(validator.iter_errors(json.loads(text))), text
    return [reason for _, reason, _ in found]


ENGINES = pytest.mark.parametrize("engine", ["openvino", "transformers"])


@ENGINES
@pytest.mark.parametrize("number", range(FEW))
def test_an_answer_is_valid_or_its_schema_is_refused(load: Loaded, engine: str, number: int) -> None:
    judged(load, engine, SCHEMAS[number])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@ENGINES
def test_answers_to_300_schemas_are_valid_or_refused(load: Loaded, engine: str) -> None:
    ends, wrong = Counter[str](), {}
    for number, schema in enumerate(SCHEMAS):
        try:
            ends.update(judged(load, engine, schema))
        except AssertionError as error:
            wrong[number] = str(error)[:500]
    print(f"{engine}: {dict(ends)}")
    assert len(SCHEMAS) == 300
    assert not wrong
    assert ends["stop"] > len(SCHEMAS)
