"""Answers in a form: every engine that has a language of grammars keeps to one, alone and among others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from gateway.models.engines import spec_of
from gateway.settings import Settings
from tests.apart import VLLM_SHAPE
from tests.engines import DEVICE, config_of, loaded_engine
from tests.tiny_models import save_tiny_gguf, save_tiny_llama
from tests.tokenizers import qwen2, save_folder
from workers.engines.base import Engine, EngineConfig, EngineRequestError, Sampling, SequenceOutput, SequenceRequest
from workers.engines.grammars.fake_form import FIRST_BYTE
from workers.engines.grammars.trial import Trial
from workers.tokenizers.load import Tokenizer, load_tokenizer

#: The same grammars in both languages, and what fits them. Random weights must come to an end, too.
PERSON = {
    "lark": r"""start: "{\"name\":\"" NAME "\",\"age\":" AGE "}"
NAME: /[A-Za-zäöü€ ]{1,12}/
AGE: /[1-9][0-9]{0,2}/""",
    "ebnf": r"""root ::= "{\"name\":\"" [A-Za-zäöü€ ]{1,12} "\",\"age\":" [1-9] [0-9]{0,2} "}" """,
}
COLOUR = {"lark": 'start: "red" | "green" | "grün"', "ebnf": 'root ::= "red" | "green" | "grün"'}
NESTED = {
    "lark": 'start: list\nlist: "[" (list ("," list){0,1})? "]" | "1"',
    "ebnf": 'root ::= list\nlist ::= "[" (list ("," list){0,1})? "]" | "1"',
}
#: What no engine can compile.
BROKEN = {"lark": "start: nowhere", "ebnf": "root ::= nowhere"}
#: It takes a second or two to compile, and minutes.
LARGE, BOMB = 'root ::= "x" [^x]{0,60} "x"', 'root ::= [^x]{5,50000} "x"'
PROMPTS = [[100 + i] * (3 + i) for i in range(8)]


@dataclass(frozen=True)
class Case:
    """An engine, the tokenizer of its model, and the language of its grammars."""

    engine: Engine
    tokenizer: Tokenizer
    language: str

    def request(
        self, sequence_id: int, grammar: str = "", *, max_tokens: int = 60, **sampling: float
    ) -> SequenceRequest:
        """In which the key differs by the id, so that answers do, too."""
        asked = Sampling(max_tokens, **{"temperature": 1.0, **sampling}, grammar=grammar)
        eos_ids = list(self.tokenizer.eos_ids)
        return SequenceRequest(sequence_id, PROMPTS[sequence_id % 8], asked, eos_ids, key=f"job/{sequence_id}")

    def text(self, outputs: Sequence[SequenceOutput]) -> str:
        """What a client would read."""
        ids = [i for output in outputs for i in output.token_ids]
        return b"".join(map(self.tokenizer.token_bytes, ids)).decode()


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Case]]:
    """Loads an engine by its name, once, and closes all at the end."""

    @cache
    def loaded(name: str) -> Case:
        engine, _, ranks = name.partition("-")
        config = config_of("fake", Settings()) if engine == "fake" else made(engine)
        config = replace(config, tensor_parallel_size=int(ranks or 1))
        case = Case(loaded_engine(config), load_tokenizer(config.model_path, engine), spec_of(engine).grammar_language)
        stack.callback(case.engine.close)
        return case

    def made(engine: str) -> EngineConfig:
        folder = tmp_path_factory.mktemp(engine)
        if engine == "openvino":
            return EngineConfig(engine, str(save_tiny_gguf(folder / "tiny.gguf")), "CPU", 4, 256)
        shape = VLLM_SHAPE if engine == "vllm" else {}
        save_folder(save_tiny_llama(folder, vocab_size=1216, eos_token_id=1, **shape), qwen2())
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 1}))
        return EngineConfig(engine, str(folder), DEVICE, 4, 256, {"eager": True} if engine == "vllm" else {})

    with ExitStack() as stack:
        yield loaded


#: vLLM has an interpreter of its own: test_vllm.py runs this file under it.
APART = ["vllm"] if find_spec("vllm") else []
ENGINES = ["fake", "openvino", "transformers", pytest.param("transformers-2", marks=pytest.mark.slow), *APART]


@pytest.fixture(params=ENGINES)
def case(request: pytest.FixtureRequest, load: Callable[[str], Case]) -> Iterator[Case]:
    case = load(request.param)
    yield case
    assert not case.engine.has_work()


def run(engine: Engine) -> dict[int, list[SequenceOutput]]:
    """Step until nothing is left to do."""
    outputs: dict[int, list[SequenceOutput]] = {}
    while engine.has_work():
        for output in engine.step():
            outputs.setdefault(output.sequence_id, []).append(output)
    return outputs


def is_person(text: str) -> bool:
    return re.fullmatch(r'\{"name":"[A-Za-zäöü€ ]{1,12}","age":[1-9][0-9]{0,2}\}', text) is not None


def test_each_answer_is_of_its_own_form_and_others_are_free(case: Case) -> None:
    forms = [PERSON, COLOUR, NESTED, None]
    for i in range(8):
        form = forms[i % 4]
        case.engine.add(case.request(i, form[case.language] if form else "", temperature=i % 3 * 1.0))
    outputs = run(case.engine)
    texts = {i: case.text(parts) if i % 4 != 3 else "" for i, parts in outputs.items()}
    ended = {i: parts[-1].finish_reason for i, parts in outputs.items()}
    assert all(is_person(texts[i]) for i in (0, 4))
    assert all(texts[i] in ("red", "green", "grün") for i in (1, 5))
    assert all(json.loads(texts[i]) is not None for i in (2, 6) if ended[i] == "stop")
    assert {ended[i] for i in (0, 1, 4, 5)} == {"stop"}
    assert all(ended[i] in ("stop", "length") for i in (2, 3, 6, 7))


def test_what_cannot_be_compiled_ends_its_request_alone(case: Case) -> None:
    case.engine.add(case.request(0, PERSON[case.language]))
    why = ""
    try:
        case.engine.add(case.request(1, BROKEN[case.language]))
    except EngineRequestError as error:
        why = str(error)
    case.engine.add(case.request(2, COLOUR[case.language]))
    outputs = run(case.engine)
    refused = outputs.pop(1, [SequenceOutput(1, [], None, "error", why)])
    assert [(part.finish_reason, bool(part.error)) for part in refused] == [("error", True)]
    assert "nowhere" in str(refused[0].error)
    assert is_person(case.text(outputs[0]))
    assert case.text(outputs[2]) in ("red", "green", "grün")


def test_one_that_is_cancelled_while_it_is_compiled_leaves(case: Case) -> None:
    case.engine.add(case.request(0, PERSON[case.language] + "\n"))
    case.engine.cancel(0)
    case.engine.add(case.request(1, COLOUR[case.language]))
    outputs = run(case.engine)
    assert [part.finish_reason for part in outputs[0]] == ["cancelled"]
    assert case.text(outputs[1]) in ("red", "green", "grün")


def test_length_cuts_it(case: Case) -> None:
    case.engine.add(case.request(0, PERSON[case.language], max_tokens=3))
    parts = run(case.engine)[0]
    assert sum(len(part.token_ids) for part in parts) == 3
    assert parts[-1].finish_reason == "length"


def test_the_fake_engine_goes_on_behind_a_beginning_as_if_nobody_had_disturbed_it(load: Callable[[str], Case]) -> None:
    """The grammar of what may still follow stands for the beginning."""
    case = load("fake")
    case.engine.add(case.request(0, PERSON["lark"]))
    whole = [i for part in run(case.engine)[0] for i in part.token_ids]
    assert all(i >= FIRST_BYTE for i in whole)
    begun = len('{"name":"')
    rest = PERSON["lark"].replace(r"{\"name\":\"", "", 1)
    case.engine.add(replace(case.request(0, rest), prompt_ids=[100, *whole[:begun]], generated=begun))
    assert [i for part in run(case.engine)[0] for i in part.token_ids] == whole[begun:]


@pytest.mark.slow
def test_a_grammar_that_takes_too_much_is_tried_where_it_harms_nobody(tmp_path: Path) -> None:
    """The process that tries it is ended, and another tries the next one."""
    with closing(Trial(str(save_tiny_gguf(tmp_path / "tiny.gguf")), 49_152, 2, cpu_s=1)) as trial:
        for _ in range(2):
            with pytest.raises(EngineRequestError, match="more time or memory"):
                trial.require(BOMB)
        assert trial.ended == 1, "its verdict is remembered"
        trial.require(COLOUR["ebnf"])
        assert trial._process
        trial._process.kill()
        trial._process.wait()
        with pytest.raises(EngineRequestError, match='Rule "nowhere" is not defined'):
            trial.require(BROKEN["ebnf"])


def test_others_go_on_while_a_grammar_is_compiled(load: Callable[[str], Case]) -> None:
    """And what the pipeline has forgotten is compiled anew."""
    case = load("openvino")
    case.engine.add(case.request(0, max_tokens=200))
    case.engine.add(case.request(1, LARGE))
    outputs = run(case.engine)
    kinds = [output.sequence_id for output in outputs[0] + outputs[1]]
    assert {len(outputs[0]) > 1, outputs[1][-1].finish_reason} == {True, "stop"}, kinds
    assert case.text(outputs[1]).startswith("x")


def test_a_model_without_a_tokenizer_refuses(tmp_path_factory: pytest.TempPathFactory) -> None:
    engine = loaded_engine(
        EngineConfig("transformers", str(save_tiny_llama(tmp_path_factory.mktemp("bare"))), "CPU", 2, 64)
    )
    with pytest.raises(EngineRequestError, match="no tokenizer"):
        engine.add(SequenceRequest(0, [100], Sampling(4, grammar=COLOUR["lark"]), [2]))
    assert not engine.has_work()
    engine.close()
