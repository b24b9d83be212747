"""Extreme requests at engines of both libraries: each is served or refused, and the process serves the next one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from tests.engines import DEVICE
from tests.tiny_models import save_tiny_gguf, save_tiny_llama
from workers.engines.base import EngineConfig, Sampling, SequenceOutput, SequenceRequest
from workers.engines.flush_interval import IMMEDIATE
from workers.replica.engine_client import EngineProcess

GREEDY = Sampling(max_tokens=4, temperature=0.0)
DRAWN = Sampling(max_tokens=4)
LARGE, TINY = 3.4e38, 1.4e-45
#: Each alone; an engine that can't do it says so.
EXTREMES = {
    "top_p 0": replace(DRAWN, top_p=0.0),
    "top_p 0 and top_k": replace(DRAWN, top_p=0.0, top_k=7),
    "tiny top_p": replace(DRAWN, top_p=TINY),
    "top_p of more than all": replace(DRAWN, top_p=2.0),
    "negative top_p": replace(DRAWN, top_p=-1.0),
    "tiny temperature": replace(DRAWN, temperature=TINY),
    "small temperature": replace(DRAWN, temperature=1e-38),
    "huge temperature": replace(DRAWN, temperature=LARGE),
    "temperature beyond 32 bits": replace(DRAWN, temperature=1e300),
    "negative temperature": replace(DRAWN, temperature=-1.0),
    "no number": replace(DRAWN, temperature=float("nan")),
    "top_k of one": replace(DRAWN, top_k=1),
    "top_k beyond the vocabulary": replace(DRAWN, top_k=2**31 - 1),
    "top_k beyond 64 bits": replace(DRAWN, top_k=2**64),
    "negative top_k": replace(DRAWN, top_k=-1),
    "the largest seed": replace(DRAWN, seed=2**32 - 1),
    "a seed of 64 bits": replace(DRAWN, seed=2**63),
    "a negative seed": replace(DRAWN, seed=-1),
    "penalties at their limits": replace(DRAWN, presence_penalty=2.0, frequency_penalty=-2.0, repetition_penalty=0.1),
    "penalties beyond": replace(DRAWN, presence_penalty=LARGE, frequency_penalty=-LARGE, repetition_penalty=LARGE),
    "no repetition penalty": replace(DRAWN, repetition_penalty=0.0),
    "log probabilities": replace(GREEDY, logprobs=True),
    "more tokens than there is room for": replace(GREEDY, max_tokens=2**31 - 1),
    "no token": replace(GREEDY, max_tokens=0),
    "fewer than none": replace(GREEDY, max_tokens=-1),
}
PROMPTS = {"empty": [], "beyond the vocabulary": [1, 2**31 - 1], "beyond 64 bits": [2**64], "negative": [-1]}


@pytest.fixture(scope="module", params=["openvino", "transformers"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    folder = tmp_path_factory.mktemp("model")
    if request.param == "openvino":
        path = save_tiny_gguf(folder / "tiny.gguf")
    else:
        path = save_tiny_llama(folder, max_position_embeddings=512)
    config = EngineConfig(request.param, str(path), DEVICE, 8, 512)
    with closing(EngineProcess.start(config, IMMEDIATE)) as process:
        process.wait_ready(120)
        yield process


def ends(engine: EngineProcess, request: SequenceRequest) -> SequenceOutput:
    """Its last output. One that goes on for long is cancelled."""
    engine.submit([request])
    made = 0
    while True:
        frame = engine.read(30)
        assert frame is not None, "the engine says nothing"
        for output in frame.outputs:
            made += len(output.token_ids)
            if output.finish_reason is not None:
                return output
        if made > 20:
            engine.cancel([request.sequence_id])


def require_same_process_serves(engine: EngineProcess, pid: int) -> None:
    output = ends(engine, SequenceRequest(2, [1, 2, 3], GREEDY))
    assert (output.finish_reason, engine.pid) == ("length", pid)


@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_sampling_is_done_or_refused(engine: EngineProcess, name: str) -> None:
    pid = engine.pid
    output = ends(engine, SequenceRequest(1, [1, 2, 3], EXTREMES[name]))
    assert output.finish_reason in ("length", "stop", "cancelled", "error"), output
    assert output.finish_reason != "error" or output.error
    require_same_process_serves(engine, pid)


@pytest.mark.parametrize("name", PROMPTS)
def test_odd_prompts_are_refused(engine: EngineProcess, name: str) -> None:
    pid = engine.pid
    output = ends(engine, SequenceRequest(1, PROMPTS[name], GREEDY))
    assert output.finish_reason == "error"
    require_same_process_serves(engine, pid)


def test_a_top_p_of_nothing_is_the_likeliest_token(engine: EngineProcess) -> None:
    engine.submit([SequenceRequest(1, [1, 2, 3], GREEDY), SequenceRequest(2, [1, 2, 3], replace(DRAWN, top_p=0.0))])
    made: dict[int, list[int]] = {1: [], 2: []}
    over = 0
    while over < 2:
        frame = engine.read(30)
        assert frame is not None
        for output in frame.outputs:
            made[output.sequence_id] += output.token_ids
            over += output.finish_reason is not None
    assert made[1] == made[2]
    assert len(made[1]) == 4
