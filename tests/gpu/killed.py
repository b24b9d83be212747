"""`kill -9` of an engine in the middle of streams, on a device: all are whole, and its memory is free again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import psutil

from tests.stack import Stack, Stream, chat, eventually
from workers.host.devices import describe_device

STREAMS, TOKENS = 8, 200
#: Its weights are loaded anew meanwhile.
PATIENCE_S = 140.0
LOOK_S = 0.005
#: Bytes by which what is used of a device's memory may differ afterwards.
TOLERANCE = 1 << 30


def killed_in_mid_stream(stack: Stack, model: str, device: str) -> dict[str, Any]:
    """How long nothing came, and how many streams were whole. Raises: AssertionError if one was not."""
    engine, before = stack.replica(model).engine_pid, used_bytes(device)
    streams = [chat(stack, model=model, max_tokens=TOKENS, temperature=0) for _ in range(STREAMS)]
    eventually(lambda: all(len(stream.ids) > 2 for stream in streams), "all run")
    psutil.Process(engine).kill()
    said = [stream.text for stream in streams]
    gap_s = longest_pause(streams)
    for stream, text in zip(streams, said, strict=True):
        stream.join()
        assert (stream.error, stream.finish_reason) == (None, "length"), stream
        assert stream.text.startswith(text), "what was said has changed"
        with stack.client() as client:
            job = client.get(f"/jobs/{stream.job_id}").json()["data"]
        assert job["usage"]["completion_tokens"] == TOKENS
    assert stack.replica(model).engine_pid != engine
    eventually(lambda: used_bytes(device) <= before + TOLERANCE, "what the first engine took is free")
    return {"streams": STREAMS, "whole": len(streams), "gap_s": gap_s}


def longest_pause(streams: Sequence[Stream]) -> float:
    """Wait until all have ended. Returns for how many seconds nothing came from any of them."""
    begun = came_at = time.monotonic()
    longest_s, seen = 0.0, 0
    while not all(stream.ended for stream in streams) and time.monotonic() < begun + PATIENCE_S:
        time.sleep(LOOK_S)
        if (count := sum(len(stream.ids) for stream in streams)) > seen:
            longest_s, came_at, seen = max(longest_s, time.monotonic() - came_at), time.monotonic(), count
    return longest_s


def used_bytes(device: str) -> int:
    """Of the device's own memory, by whomever; that of the host is others', too."""
    if device.startswith("cpu"):
        return 0
    facts = describe_device(device)
    return facts.memory_total - facts.memory_free
