"""Engines that raise, talk nonsense or refuse in mid-batch: who did nothing wrong gets every token, each once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stack import Stack, chat, eventually, running
from workers.engines.fake import fake_token

TOKENS = 150


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    faults = {"refuse_word": "refuse", "raise_word": "raise", "raise_at": 5, "garbage_word": "lie", "garbage_at": 5}
    with running(tmp_path_factory.mktemp("e"), {"fake": {"step_s": 0.01, **faults}}, grace_s=10.0) as stack:
        yield stack


@pytest.mark.parametrize("word", ["refuse", "raise", "lie"])
def test_what_an_engine_does_to_one_request_is_not_done_to_the_others(stack: Stack, word: str) -> None:
    stack.wait_active(1)
    replica = stack.replica()
    streams = [chat(stack, max_tokens=TOKENS) for _ in range(3)]
    eventually(lambda: all(len(stream.ids) > 5 for stream in streams), "all streams run")
    guilty = chat(stack, f"please {word} me", max_tokens=TOKENS).join()
    assert guilty.error is not None
    reason = guilty.error["data"]["reason"] if "data" in guilty.error else guilty.error
    wanted = {"refuse": "invalid_request", "raise": "generation_failed", "lie": "engine_crashed"}
    assert reason == wanted[word], guilty.error
    for stream in streams:
        stream.join()
        assert stream.finish_reason == "length"
        assert stream.text == "".join(f" w{fake_token(f'{stream.job_id}/0', i)}" for i in range(TOKENS))
    stack.wait_active(1)
    after = stack.replica()
    assert after.pid == replica.pid
    assert (after.engine_pid == replica.engine_pid) == (word == "refuse")
