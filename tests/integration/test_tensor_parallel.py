"""A model that two processes share: the same tokens as in one, one fate for both. Over gloo, on the CPU."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from gateway.deployments.reasons import FailureReason
from tests.tiny_models import save_tiny_llama
from workers.engines.base import EngineConfig, Sampling, SequenceRequest
from workers.engines.flush_interval import IMMEDIATE
from workers.replica.engine_client import EngineDied, EngineProcess, EngineStartFailed

WAIT_S = 200.0
#: Seconds in which nothing may be left of an engine that has lost a process.
GONE_S = 20.0
PROMPTS = [[100 + i] * (3 + 5 * i) for i in range(6)]
ANSWER = 24
#: Fewer than there are prompts.
SLOTS = 4


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> EngineConfig:
    folder = save_tiny_llama(tmp_path_factory.mktemp("llama"))
    options = {"threads": 1}
    return EngineConfig("transformers", str(folder), "CPU", SLOTS, 256, options, tensor_parallel_size=2)


@contextmanager
def started(config: EngineConfig) -> Iterator[EngineProcess]:
    engine = EngineProcess.start(config, IMMEDIATE)
    try:
        yield engine
    finally:
        engine.close()


def is_gone(process: psutil.Process) -> bool:
    """Wait until a process has ended; nobody may have reaped it."""
    deadline = time.monotonic() + GONE_S
    while time.monotonic() < deadline:
        try:
            process.wait(timeout=0.1)
        except psutil.TimeoutExpired:
            if process.status() != psutil.STATUS_ZOMBIE:
                continue
        return True
    return False


def request(i: int, max_tokens: int = ANSWER) -> SequenceRequest:
    """Every second one is drawn."""
    greedy, drawn = Sampling(max_tokens, temperature=0.0), Sampling(max_tokens, seed=i, top_p=0.9, presence_penalty=1.0)
    return SequenceRequest(i, PROMPTS[i], replace(drawn, logit_bias={"9": 2.0}) if i % 2 else greedy)


def answers(engine: EngineProcess, *, cancelled: int | None = None) -> list[list[int]]:
    """The continuation of each prompt, all in one batch; one may be cancelled at its first tokens."""
    tokens: list[list[int]] = [[] for _ in PROMPTS]
    open_ids = set(range(len(PROMPTS)))
    engine.submit([request(i) for i in open_ids])
    while open_ids:
        frame = engine.read(WAIT_S)
        assert frame is not None
        for output in frame.outputs:
            tokens[output.sequence_id] += output.token_ids
            if output.finish_reason:
                assert output.finish_reason == ("cancelled" if output.sequence_id == cancelled else "length")
                open_ids.remove(output.sequence_id)
            elif output.sequence_id == cancelled:
                engine.cancel([cancelled])
    return tokens


@pytest.mark.timeout(600)
def test_two_processes_give_the_tokens_of_one_and_end_together(shared: EngineConfig) -> None:
    with started(replace(shared, tensor_parallel_size=1)) as engine:
        engine.wait_ready(WAIT_S)
        alone = answers(engine)
    assert [len(tokens) for tokens in alone] == [ANSWER] * len(PROMPTS)
    with started(shared) as engine:
        assert engine.wait_ready(WAIT_S).effective["devices"] == ["cpu", "cpu"]
        assert answers(engine) == alone
        # Sequences that leave and join keep the processes in step.
        without = answers(engine, cancelled=2)
        assert [tokens for i, tokens in enumerate(without) if i != 2] == [t for i, t in enumerate(alone) if i != 2]
        (other,) = psutil.Process(engine.pid).children()
        engine.submit([request(0, max_tokens=200)])
        assert engine.read(WAIT_S) is not None
        other.kill()
        with pytest.raises(EngineDied):
            while True:
                engine.read(GONE_S)
        assert is_gone(other)


@pytest.mark.slow
def test_the_other_process_ends_with_the_engine(shared: EngineConfig) -> None:
    with started(shared) as engine:
        engine.wait_ready(WAIT_S)
        (other,) = psutil.Process(engine.pid).children()
        engine.kill()
        assert is_gone(other)


@pytest.mark.slow
def test_a_process_that_is_killed_while_the_model_loads_is_the_reason(shared: EngineConfig) -> None:
    with started(shared) as engine:

        def kill(stage: str, done: int, total: int) -> None:
            for other in psutil.Process(engine.pid).children():
                os.kill(other.pid, signal.SIGKILL)

        with pytest.raises(EngineStartFailed, match=r"rank 1: .* killed by SIGKILL") as caught:
            engine.wait_ready(WAIT_S, kill)
    assert caught.value.reason is FailureReason.ENGINE_CRASHED


def test_a_model_that_cannot_be_split_is_refused_with_the_reason(tmp_path: Path, shared: EngineConfig) -> None:
    folder = save_tiny_llama(tmp_path, num_attention_heads=2, num_key_value_heads=1)
    with started(replace(shared, model_path=str(folder))) as engine, pytest.raises(EngineStartFailed) as caught:
        engine.wait_ready(WAIT_S)
    assert caught.value.reason is FailureReason.UNSUPPORTED_OPTION
    assert "'num_key_value_heads': 1" in caught.value.message
