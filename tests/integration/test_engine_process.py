"""A model worker and an engine process that misbehave to each other."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from workers.engines.base import EngineConfig, Sampling, SequenceOutput, SequenceRequest
from workers.engines.fake import fake_token, fake_word
from workers.engines.fakes.faults import GARBAGE
from workers.engines.flush_interval import IMMEDIATE
from workers.engines.frames import MAX_FRAME_BYTES, FrameSocket
from workers.engines.steps import IMPOSSIBLE, StepFrame
from workers.replica.engine_client import EngineDied, EngineProcess, EngineStartFailed

BAD, GOOD = [fake_word("bad")], [fake_word("good")]


@contextmanager
def started(**options: Any) -> Iterator[EngineProcess]:
    config = EngineConfig("fake", "", "cpu0", 4, 1024, options=options)
    with closing(EngineProcess.start(config, IMMEDIATE)) as engine:
        engine.wait_ready(30)
        yield engine


def request(sequence_id: int, prompt: list[int], *, max_tokens: int = 5) -> SequenceRequest:
    return SequenceRequest(sequence_id, prompt, Sampling(max_tokens), key=f"job/{sequence_id}")


def until_all_end(engine: EngineProcess, *ids: int) -> dict[int, list[SequenceOutput]]:
    """What it makes for these, until the last of them has ended. Raises: EngineDied."""
    outputs: dict[int, list[SequenceOutput]] = {i: [] for i in ids}
    deadline = time.monotonic() + 20
    while not all(parts and parts[-1].finish_reason for parts in outputs.values()):
        assert time.monotonic() < deadline, outputs
        frame = engine.read(1.0)
        for output in frame.outputs if frame else ():
            outputs[output.sequence_id].append(output)
    return outputs


def tokens(outputs: list[SequenceOutput]) -> list[int]:
    return [i for output in outputs for i in output.token_ids]


def test_a_request_at_which_the_engine_raises_is_refused_and_the_others_go_on() -> None:
    with started(refuse_word="bad") as engine:
        engine.submit([request(1, GOOD), request(2, BAD), request(3, GOOD)])
        outputs = until_all_end(engine, 1, 2, 3)
        (refusal,) = outputs[2]
        assert refusal.finish_reason == "error"
        assert refusal.error is not None
        assert "refuse_word" in refusal.error
        for i in (1, 3):
            assert tokens(outputs[i]) == [fake_token(f"job/{i}", n) for n in range(5)]


def test_a_step_that_raises_for_one_sequence_ends_that_one() -> None:
    with started(raise_word="bad", raise_at=2) as engine:
        engine.submit([request(1, BAD)])
        failed = until_all_end(engine, 1)[1][-1]
        assert failed.finish_reason == "failed"
        assert failed.error is not None
        assert "raise_word" in failed.error
        engine.submit([request(2, GOOD)])
        assert tokens(until_all_end(engine, 2)[2]) == [fake_token("job/2", n) for n in range(5)]


def test_a_step_that_raises_for_nobody_knows_whom_is_the_end_of_the_engine() -> None:
    with started(raise_word="bad", raise_at=2) as engine:
        engine.submit([request(1, BAD), request(2, GOOD)])
        with pytest.raises(EngineDied, match="ended with status 1"):
            until_all_end(engine, 1, 2)


def test_an_engine_that_is_not_sound_behind_a_step_that_raised_ends() -> None:
    with started(raise_word="bad", raise_at=2, broken_by="raise") as engine:
        engine.submit([request(1, BAD)])
        with pytest.raises(EngineDied, match="ended with status 1"):
            until_all_end(engine, 1)


@pytest.mark.parametrize("form", GARBAGE)
def test_an_output_that_makes_no_sense_is_the_end_of_the_engine(form: str) -> None:
    with started(garbage_word="bad", garbage_at=2, garbage=form) as engine:
        engine.submit([request(1, BAD)])
        with pytest.raises(EngineDied, match="was ended: it sent"):
            until_all_end(engine, 1)


def test_a_long_prompt_takes_steps_without_tokens_while_others_go_on() -> None:
    with started(prefill_s=0.2, step_s=0.02) as engine:
        engine.submit([request(1, GOOD, max_tokens=100)])
        steps = made = 0
        while not made:
            frame = engine.read(5)
            assert frame is not None
            steps += frame.steps
            made += sum(len(output.token_ids) for output in frame.outputs)
        assert steps >= 10
        engine.submit([request(2, GOOD, max_tokens=1)])
        outputs = until_all_end(engine, 1, 2)
        assert tokens(outputs[2]) == [fake_token("job/2", 0)]
        assert len(tokens(outputs[1])) == 99


def test_a_short_prompt_passes_a_long_one_while_an_answer_goes_on() -> None:
    with started(prefill_tokens_per_s=1000, step_s=0.01) as engine:
        engine.submit([request(1, GOOD, max_tokens=1000)])
        first: list[int] = []
        made = 0
        while len(first) < 3:
            frame = engine.read(5)
            assert frame is not None
            for output in frame.outputs:
                if output.sequence_id not in first:
                    first.append(output.sequence_id)
                    if output.sequence_id == 1:
                        engine.submit([request(2, GOOD * 1000), request(3, GOOD * 30, max_tokens=1)])
                made += len(output.token_ids) * (output.sequence_id == 1)
        assert first == [1, 3, 2]
        assert made >= 5, "the answer has gone on meanwhile"
        engine.cancel([1, 2])


def test_an_engine_reads_on_behind_a_frame_that_it_does_not_understand() -> None:
    with started() as engine:
        for body in (b"garbage{{{", b"null", b'{"op":"dance"}', b'{"op":"add","requests":[7,{}]}', b'{"op":"add"}'):
            engine._frames.socket.sendall(struct.pack(">I", len(body)) + body)
        engine.submit([request(1, GOOD)])
        assert len(tokens(until_all_end(engine, 1)[1])) == 5
        wrong = {"sequence_id": 2, "prompt_ids": GOOD, "sampling": {"warmth": 1}}
        engine._open.add(2)
        engine._frames.send({"op": "add", "requests": [wrong]})
        assert until_all_end(engine, 2)[2][0].finish_reason == "error"


@contextmanager
def liar() -> Iterator[tuple[EngineProcess, socket.socket]]:
    """An engine process that says nothing by itself, and the socket on which a test speaks for it."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with theirs, closing(EngineProcess(process, FrameSocket(ours))) as engine:
        yield engine, theirs


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def step(*outputs: Any, **changes: Any) -> bytes:
    frame = {
        "op": "step",
        "out": outputs,
        "sequences": 1,
        "steps": 1,
        "times": [0.0, 0.0, 0.0],
        "kv_used": 0,
        **changes,
    }
    return framed(json.dumps(frame).encode())


@pytest.mark.parametrize(
    "said",
    [
        framed(b"garbage{{{"),
        framed(b""),
        framed(b"null"),
        framed(b"[1]"),
        framed(b"[" * 5000),
        framed(b'{"op":"step"}'),
        framed(b'{"op":"ready","info":{}}'),
        struct.pack(">I", MAX_FRAME_BYTES + 1),
        b"HTTP/1.1 200 OK",
        step(7),
        step([1, [5], None, None, None]),
        step(["1", [5], None, None, None, None]),
        step([1, "ab", None, None, None, None]),
        step([1, [-1], None, None, None, None]),
        step([1, [1.5], None, None, None, None]),
        step([1, [5], ["x"], None, None, None]),
        step([1, [5], None, "bored", None, None]),
        step([1, [5], None, None, 7, None]),
        step([1, [5], None, None, None, "a"]),
        step([99, [5], None, None, None, None]),
        step(sequences="many"),
        step(steps=None),
    ],
)
def test_whatever_an_engine_says_its_reader_only_takes_it_for_dead(said: bytes) -> None:
    with liar() as (engine, mouth):
        engine.submit([request(1, GOOD)])
        mouth.sendall(said)
        with pytest.raises(EngineDied):
            engine.read(5)
        assert engine._process.poll() is not None


def test_half_a_frame_keeps_nobody_waiting() -> None:
    with liar() as (engine, mouth):
        engine.submit([request(1, GOOD)])
        whole = step([1, [5], None, "stop", None, None])
        mouth.sendall(whole[:20])
        assert engine.read(0.05) is None
        assert engine.read(0) is None
        mouth.sendall(whole[20:])
        frame = engine.read(5)
        assert frame is not None
        assert frame.outputs[0].token_ids == [5]
        mouth.sendall(whole)
        with pytest.raises(EngineDied, match="sequence 1, which nobody has asked for"):
            engine.read(5)


def test_an_engine_that_speaks_in_tongues_while_it_loads_has_failed_to_start() -> None:
    for said in (
        b'{"op":"failed","reason":"BORED","message":""}',
        b'{"op":"ready","info":{"x":1}}',
        b"[]",
        b"7",
        b"{}",
    ):
        with liar() as (engine, mouth):
            mouth.sendall(framed(said))
            with pytest.raises(EngineStartFailed):
                engine.wait_ready(1.0)


def test_a_probability_of_nothing_crosses_the_wire() -> None:
    output = SequenceOutput(1, [5], [float("-inf")])
    frame = StepFrame.parse(json.loads(json.dumps(StepFrame([output], 1, 1, 0.5, 0.25).pack())))
    assert (frame.base_s, frame.each_s) == (0.5, 0.25)
    assert frame.outputs[0].logprobs == [IMPOSSIBLE]


def test_an_engine_says_what_a_step_takes_by_how_many_sequences_it_holds() -> None:
    with started(step_s=0.02) as engine:
        engine.submit([request(1, GOOD, max_tokens=20), request(2, GOOD, max_tokens=40)])
        frame = None
        while frame is None or frame.sequences:
            frame = engine.read(5)
            assert frame is not None
        assert frame.base_s + 2 * frame.each_s >= 0.02


def test_an_engine_has_no_secret_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "HEADRACE_BOOTSTRAP_KEY", "HEADRACE_REDIS_URL"):
        monkeypatch.setenv(name, "a-secret-of-ours")
    with started() as engine:
        assert "a-secret-of-ours" not in Path(f"/proc/{engine.pid}/environ").read_text()
        engine.submit([request(1, GOOD)])
        assert len(tokens(until_all_end(engine, 1)[1])) == 5
