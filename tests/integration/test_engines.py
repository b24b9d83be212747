"""One contract for all engines, in this process: what `workers/engines/base.py` promises."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy
import pytest

from gateway.settings import Settings
from tests.apart import VLLM_SHAPE
from tests.engines import DEVICE, config_of, loaded_engine
from tests.tiny_models import save_tiny_ir, save_tiny_llama
from workers.engines.base import Engine, EngineConfig, EngineRequestError, Sampling, SequenceOutput, SequenceRequest
from workers.engines.flush_interval import IMMEDIATE
from workers.engines.process import Outbox
from workers.engines.steps import StepFrame

#: A model for each engine.
MODELS = {"fake": "fake", "openvino": "smollm2-135m", "embedding": "all-minilm-l6-v2"}
#: Options of engines whose models are made here.
VARIANTS: dict[str, dict[str, Any]] = {
    "openvino-int8": {"quantization": "int8"},
    "openvino-int4": {"quantization": "int4"},
    "transformers": {},
    "transformers-int8": {"quantization": "int8"},
    "transformers-int4": {"quantization": "int4"},
    "transformers-2-ranks": {"tensor_parallel_size": 2},
}
#: Of those: others show in short what is special about each, below and in test_compression, test_tensor_parallel.
COSTLY = [name for name in VARIANTS if name != "transformers"]
NAMES = {"fake", "openvino", "embedding", "transformers", "vllm"}
#: Engines that only another interpreter has: test_vllm.py runs this file under it.
APART = ["vllm"] if find_spec("vllm") else []
#: Of the models above, as their files say.
VOCABULARIES = {"fake": 50_256, "openvino": 49_152, "embedding": 30_522, "transformers": 512, "vllm": 512}
PROMPTS = [[100 + i] * (3 + i) for i in range(5)]
#: Places of the batch, fewer than there are prompts.
SLOTS = 3


@dataclass(frozen=True)
class Case:
    """An engine, and whether it makes vectors."""

    engine: Engine
    embeds: bool

    def request(self, sequence_id: int, *, max_tokens: int = 4) -> SequenceRequest:
        """A request that the engine can take."""
        sampling = None if self.embeds else Sampling(max_tokens, temperature=0.0)
        return SequenceRequest(sequence_id, PROMPTS[sequence_id % 5], sampling, key=f"job/{sequence_id}")

    def wrong(self, sequence_id: int) -> SequenceRequest:
        """A request for what the engine can't do."""
        return SequenceRequest(sequence_id, PROMPTS[0], Sampling(4, 0.0) if self.embeds else None)


Loader = Callable[[str], Case]

#: What makes a tiny model for an engine, and options that let it load sooner. See `tests/apart.py`.
SAVES = {"openvino": save_tiny_ir, "vllm": partial(save_tiny_llama, **VLLM_SHAPE)}
OPTIONS = {"vllm": {"eager": True}}


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loader]:
    """Loads an engine by its name, once, and closes all at the end."""

    @cache
    def made(engine: str) -> EngineConfig:
        folder = tmp_path_factory.mktemp(engine)
        save = SAVES.get(engine, save_tiny_llama)
        return EngineConfig(engine, str(save(folder)), DEVICE, SLOTS, 256, OPTIONS.get(engine, {}))

    @cache
    def loaded(name: str) -> Case:
        if name in (*VARIANTS, *APART):
            config = replace(made(name.partition("-")[0]), **VARIANTS.get(name, {}))
        else:
            config = config_of(MODELS[name], Settings(max_batch_size=SLOTS))
        case = Case(loaded_engine(config), name == "embedding")
        closing.callback(case.engine.close)
        return case

    with ExitStack() as closing:
        yield loaded


@pytest.fixture(
    params=[*MODELS, "transformers", *APART, *(pytest.param(name, marks=pytest.mark.slow) for name in COSTLY)]
)
def case(request: pytest.FixtureRequest, load: Loader) -> Iterator[Case]:
    case = load(request.param)
    yield case
    assert not case.engine.has_work()
    assert case.engine.num_sequences() == 0


def run(engine: Engine) -> dict[int, list[SequenceOutput]]:
    """Step until nothing is left to do."""
    outputs: dict[int, list[SequenceOutput]] = {}
    for _ in range(1000):
        if not engine.has_work():
            return outputs
        for output in engine.step():
            outputs.setdefault(output.sequence_id, []).append(output)
    raise AssertionError("the engine does not end")


def test_what_a_step_takes_is_learned_from_what_it_makes(case: Case) -> None:
    engine, sent = case.engine, list[Any]()
    outbox = Outbox(sent.append, IMMEDIATE)
    for i in range(SLOTS):
        engine.add(case.request(i, max_tokens=20))
    while engine.has_work():
        begun = time.monotonic()
        outputs = engine.step()
        outbox.put(outputs, step_s=time.monotonic() - begun, sequences=engine.num_sequences(), streams=1)
    frame = StepFrame.parse(sent[-1])
    assert (frame.base_s + frame.each_s > 0) is not case.embeds, "whose sequences end with their only step"


def test_it_tells_what_its_sequences_take_of_its_cache(case: Case) -> None:
    idle = case.engine.kv_used_tokens()
    for i in range(SLOTS):
        case.engine.add(case.request(i, max_tokens=3))
    case.engine.step()
    busy = case.engine.kv_used_tokens()
    run(case.engine)
    if case.engine.info.effective.get("kv_capacity_tokens"):
        assert idle < busy <= case.engine.info.effective["kv_capacity_tokens"]
        assert case.engine.kv_used_tokens() <= busy
    else:
        assert (idle, busy) == (0, 0)


def test_it_says_what_it_is(case: Case) -> None:
    info = case.engine.info
    assert info.name in NAMES
    assert info.context_length > 0
    assert info.weights_digest


def test_every_sequence_finishes_once_however_many_there_are(case: Case) -> None:
    for i in range(5):
        case.engine.add(case.request(i))
    assert case.engine.has_work()
    assert case.engine.num_sequences() == 5
    outputs = run(case.engine)
    assert sorted(outputs) == list(range(5))
    for parts in outputs.values():
        assert [part.finish_reason for part in parts].count(None) == len(parts) - 1
        assert parts[-1].finish_reason in ("stop", "length")


def test_it_gives_what_was_asked_for(case: Case) -> None:
    case.engine.add(case.request(0, max_tokens=4))
    parts = run(case.engine)[0]
    if case.embeds:
        assert [len(part.vector or b"") for part in parts] == [4 * 384]
        assert not parts[0].token_ids
    else:
        assert sum(len(part.token_ids) for part in parts) == 4
        assert parts[-1].finish_reason == "length"
        assert not any(part.vector for part in parts)


def test_a_sequence_is_the_same_alone_and_in_a_batch(case: Case) -> None:
    """Vectors to the last few bits: another batch is summed in another order."""
    case.engine.add(case.request(2))
    alone = run(case.engine)[2]
    for i in range(5):
        case.engine.add(case.request(i))
    together = run(case.engine)[2]
    if case.embeds:
        left, right = (numpy.frombuffer(parts[0].vector, "<f4") for parts in (alone, together))
        assert numpy.abs(left - right).max() < 1e-5
    else:
        assert [p.token_ids for p in alone] == [p.token_ids for p in together]


def test_a_cancelled_sequence_leaves_and_the_others_go_on(case: Case) -> None:
    for i in range(3):
        case.engine.add(case.request(i))
    case.engine.cancel(1)
    assert case.engine.num_sequences() == 2
    outputs = run(case.engine)
    assert outputs[1][-1].finish_reason == "cancelled"
    assert {outputs[i][-1].finish_reason for i in (0, 2)} <= {"stop", "length"}


def test_cancelling_what_is_not_there_does_nothing(case: Case) -> None:
    case.engine.cancel(4711)
    assert not case.engine.has_work()


def test_what_it_cannot_do_is_refused_and_harms_nobody(case: Case) -> None:
    case.engine.add(case.request(0))
    with pytest.raises(EngineRequestError):
        case.engine.add(case.wrong(1))
    assert case.engine.num_sequences() == 1
    assert sorted(run(case.engine)) == [0]


def test_a_token_that_the_model_does_not_have_is_refused(case: Case) -> None:
    """The first behind its vocabulary is told, and the last one is taken."""
    unknown = replace(case.request(0), prompt_ids=[1, 10**6])
    with pytest.raises(EngineRequestError, match=r"token id 1000000; allowed: 0 to \d+\.") as refused:
        case.engine.add(unknown)
    last = int(str(refused.value).split()[-1].rstrip("."))
    with pytest.raises(EngineRequestError, match=f"token id {last + 1};"):
        case.engine.add(replace(unknown, prompt_ids=[last + 1]))
    assert last + 1 == VOCABULARIES[case.engine.info.name]
    case.engine.add(replace(unknown, prompt_ids=[last]))
    assert sorted(run(case.engine)) == [0]


def test_an_unknown_engine_is_named_with_those_that_exist() -> None:
    config = config_of("fake", Settings())
    with pytest.raises(ValueError, match="'steam'; supported: embedding, fake, openvino, transformers, vllm"):
        loaded_engine(type(config)(**{**vars(config), "engine": "steam"}))


def test_one_batch_samples_each_sequence_in_its_own_way(load: Loader) -> None:
    engine = load("transformers").engine
    engine.add(SequenceRequest(0, PROMPTS[0], Sampling(12, temperature=0.0)))
    greedy = [i for part in run(engine)[0] for i in part.token_ids]
    ways = [Sampling(12, temperature=0.0), Sampling(12, temperature=50.0), Sampling(12, temperature=50.0, top_k=1)]
    for i, way in enumerate(ways):
        engine.add(SequenceRequest(i, PROMPTS[0], way))
    outputs = run(engine)
    made = [[i for part in outputs[way] for i in part.token_ids] for way in range(3)]
    assert made[0] == made[2] == greedy
    assert made[1] != greedy


def test_an_end_token_ends_a_sequence_and_is_part_of_it(load: Loader) -> None:
    engine = load("transformers").engine
    engine.add(SequenceRequest(0, PROMPTS[3], Sampling(12, temperature=0.0)))
    whole = [i for part in run(engine)[0] for i in part.token_ids]
    end = whole[4]
    engine.add(SequenceRequest(1, PROMPTS[3], Sampling(12, temperature=0.0), eos_ids=[end]))
    parts = run(engine)[1]
    assert [i for part in parts for i in part.token_ids] == whole[: whole.index(end) + 1]
    assert parts[-1].finish_reason == "stop"


@pytest.mark.parametrize("quantization", ["int8", pytest.param("int4", marks=pytest.mark.slow)])
def test_quantized_weights_are_smaller_and_say_nearly_the_same(load: Loader, quantization: str) -> None:
    whole, small = (load(name).engine for name in ("transformers", f"transformers-{quantization}"))
    assert small.info.effective["quantization"] == quantization
    chosen = []
    for engine in (whole, small):
        for i, prompt in enumerate(PROMPTS):
            engine.add(SequenceRequest(i, prompt, Sampling(1, temperature=0.0)))
        chosen.append([parts[0].token_ids for _, parts in sorted(run(engine).items())])
    assert sum(a == b for a, b in zip(*chosen, strict=True)) >= 3


@pytest.mark.slow
def test_a_process_that_holds_an_engine_ends_when_its_main_thread_does(tmp_path: Path) -> None:
    code = (
        "import json, sys; from tests.engines import loaded_engine; from workers.engines.base import EngineConfig;"
        "engine = loaded_engine(EngineConfig(**json.loads(sys.argv[1])))"
    )
    config = json.dumps(vars(EngineConfig("transformers", str(save_tiny_llama(tmp_path)), DEVICE, SLOTS, 256)))
    subprocess.run([sys.executable, "-c", code, config], check=True, timeout=100)


def test_transformers_refuses_what_its_manager_could_not_hold(load: Loader) -> None:
    engine = load("transformers").engine
    with pytest.raises(EngineRequestError, match="token id 512"):
        engine.add(SequenceRequest(0, [512], Sampling(4, 0.0)))
    with pytest.raises(EngineRequestError, match="take 1005 tokens, and the KV cache of this engine has 768"):
        engine.add(SequenceRequest(0, [1] * 5, Sampling(1000, 0.0)))
    assert not engine.has_work()


def test_engines_say_how_long_a_step_took_when_they_were_warmed_up(case: Case) -> None:
    assert (case.engine.info.warm_up_step_s > 0) == (case.engine.info.name != "fake")
