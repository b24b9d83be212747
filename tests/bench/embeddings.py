"""Embeddings of the whole path against sentence-transformers' own `encode`, with the same texts and threads.

Part of `make bench`; `python -m tests.bench.run --only embeddings` runs it alone. Contestants take turns; ratios are
medians over rounds.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from tests.bench.server import Helper
from tests.stack import KEY, Stack

MODEL = "all-minilm-l6-v2"
#: Inputs of one large call; small calls of one input each, and how many of them are under way at once.
INPUTS, CALLS, CONCURRENT = 2048, 128, 32
LIBRARY, ONE_BY_ONE = "library", "library, calls of one in turn"
_WORDS = ("river", "mill", "valley", "canal", "turbine", "wheel", "spring", "dam", "gate", "weir", "power", "flow")


def sentences(count: int, salt: int) -> list[str]:
    """Texts of 3 to 48 words, most of them short, of which no two are equal."""
    chance = random.Random(salt)
    lengths = [min(48, 3 + int(chance.expovariate(1 / 6))) for _ in range(count)]
    return [f"{salt}.{i} " + " ".join(chance.choices(_WORDS, k=length)) for i, length in enumerate(lengths)]


async def call(stack: Stack, texts: list[list[str]], concurrent: int) -> float:
    """Seconds until all calls, one for each list of texts, have their answers."""
    waiting = iter(texts)
    started = time.perf_counter()
    await asyncio.gather(*(_connection(stack.settings.http_port, waiting) for _ in range(concurrent)))
    return time.perf_counter() - started


async def _connection(port: int, waiting: Any) -> None:
    """Send what waits, one call after another, on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for inputs in waiting:
            body = json.dumps({"input": inputs}).encode()
            head = (
                f"POST /models/{MODEL}/embeddings HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            content = await reader.readexactly(int(answer.split("content-length: ")[1].split("\r\n")[0]))
            if " 200 " not in answer.split("\r\n")[0] or content.count(b'"index"') != len(inputs):
                raise RuntimeError(f"a call has failed: {answer} {content[:500]!r}")
    finally:
        writer.close()


def compare(stack: Stack, rounds: int) -> dict[str, Any]:
    """Vectors a second of all, and the ratios to the library. The stack has the model."""
    library = Helper("tests.bench.library")
    library.read()
    try:
        runs: dict[str, list[float]] = {}
        for turn in range(rounds + 1):
            for name, vectors_per_s in one_round(stack, library, turn).items():
                if turn:  # the first turn warms up
                    runs.setdefault(name, []).append(vectors_per_s)
    finally:
        library.close()
    results = {}
    for name, rates in runs.items():
        peer = ONE_BY_ONE if "of one" in name else LIBRARY
        against = runs[peer]
        ratio = statistics.median(ours / theirs for ours, theirs in zip(rates, against, strict=True))
        rate = statistics.median(rates)
        results[name] = {"vectors_per_s": rate, "ratio": ratio, "against": peer}
        print(f"embeddings: {name:29} {rate:6.0f} vectors/s  x{ratio:.2f} of {peer}", flush=True)
    return {"model": MODEL, "threads": os.cpu_count(), "inputs": INPUTS, "results": results}


def one_round(stack: Stack, library: Helper, turn: int) -> dict[str, float]:
    """Vectors a second of each contestant, with texts of this round. The order turns round each time."""
    texts = sentences(INPUTS if turn else CALLS, turn)
    few = [[text] for text in texts[:CALLS]]
    contestants: dict[str, Callable[[], float]] = {
        LIBRARY: lambda: len(texts) / library.ask(texts)["seconds"],
        "one call": lambda: len(texts) / asyncio.run(call(stack, [texts], 1)),
        ONE_BY_ONE: lambda: CALLS / sum(library.ask(one)["seconds"] for one in few),
        f"{CONCURRENT} calls of one at once": lambda: CALLS / asyncio.run(call(stack, few, CONCURRENT)),
    }
    order = list(contestants) if turn % 2 else list(contestants)[::-1]
    rates = {}
    for name in order:
        rates[name] = contestants[name]()
        print(f"embeddings: round {turn}, {name:32} {rates[name]:6.0f} vectors/s", flush=True)
    return rates
