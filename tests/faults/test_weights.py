"""Replicas of one model with other weights: a begun answer goes to one that has its own, as long as there is one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.cluster.registry import Replica
from tests.stack import Stack, Stream, chat, eventually, running
from workers.engines.fake import fake_token

TOKENS = 200


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Two devices whose replicas have the weights `old`, and one whose replica has `new`."""
    with running(tmp_path / "w", {"fake": {"step_s": 0.02, "digest": "old"}}, grace_s=20.0) as stack:
        for device, digest in (("cpu1", "old"), ("cpu2", "new")):
            there = replace(stack.settings, device=device)
            stack.put("fake", {"step_s": 0.02, "digest": digest}, there)
            stack.start(f"agent-{device}", settings=there)
        stack.wait_active(3)
        yield stack


def by_weights(stack: Stack, weights: str) -> list[Replica]:
    return [replica for replica in stack.registry.replicas("fake") if replica.weights == weights]


def begun_on(stack: Stack, weights: str, **asked: Any) -> tuple[Stream, Replica]:
    """A stream that runs on such weights, and the replica that it runs on."""
    for _ in range(20):
        stream = chat(stack, max_tokens=TOKENS, **asked)
        eventually(lambda stream=stream: len(stream.ids) > 5, "it runs")
        first = stack.journal(stream.job_id)[0].body
        if first["weights"] == weights:
            return stream, next(r for r in stack.registry.replicas() if r.replica_id == first["replica"])
    raise AssertionError(f"no stream came to the weights {weights}")


def kill_worker(replica: Replica) -> None:
    psutil.Process(replica.pid).kill()
    if psutil.pid_exists(replica.engine_pid):
        os.kill(replica.engine_pid, signal.SIGKILL)


def check(stream: Stream) -> None:
    stream.join()
    assert stream.text == "".join(f" w{fake_token(f'{stream.job_id}/0', i)}" for i in range(TOKENS))


def test_an_answer_goes_on_where_its_weights_are_then_anywhere_and_says_so(stack: Stack) -> None:
    assert sorted(r.weights for r in stack.registry.replicas()) == ["new", "old", "old"]
    stream, replica = begun_on(stack, "old")
    kill_worker(replica)
    check(stream)
    journal = stack.journal(stream.job_id)
    resumed = [event.body for event in journal if event.type.value == "resumed"]
    assert resumed
    assert {body["weights"] for body in resumed} == {"old"}
    assert "weights_changed" not in journal[-1].body

    # With no equal replica left, another one goes on at once; but not with what must go on exactly.
    stack.wait_active(3)
    stream, replica = begun_on(stack, "old")
    exact, _ = begun_on(stack, "old", seed=1, require_exact_resume=True)
    for name in ("agent", "agent-cpu1"):
        stack.kill(name)
    for old in by_weights(stack, "old"):
        kill_worker(old)
        stack.registry.deregister(old.incarnation)
    check(stream)
    journal = stack.journal(stream.job_id)
    resumed = [event.body for event in journal if event.type.value == "resumed"]
    assert [(body["weights"], body.get("weights_changed")) for body in resumed] == [("new", True)]
    assert journal[-1].body["weights_changed"] is True
    assert (exact.join().error or {})["data"]["reason"] == "resume_not_exact"
    assert "its weights changed" in (exact.error or {})["message"]
    tokens = [f" w{fake_token(f'{exact.job_id}/0', i)}" for i in range(TOKENS)]
    assert "".join(tokens).startswith(exact.text)
