"""A long prompt beside a running stream and short prompts, `python -m tests.bench.long_prompts`.

How long the stream's gaps become, how long short prompts wait, and how many long prompts a minute are computed when
they are alone.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from tests.bench.checkout import Checkout
from tests.bench.headrace import contestant, headrace
from tests.bench.load import run
from tests.bench.server import Server
from tests.bench.workload import MODEL, Sample, percentile, prompts

#: Sentences of a long prompt: 6,100 tokens of the demo model, with its chat template.
SENTENCES = 246
#: Seconds between short prompts.
SHORT_EACH_S = 1.0

#: Sends bodies at once, and waits for all streams.
Ask = Callable[[list[dict[str, Any]]], Coroutine[Any, Any, list[Sample]]]


def long_prompt(salt: int) -> str:
    """Prompts of which no two have the same beginning, so that a prefix cache helps nobody."""
    return f"{salt} " + " ".join(
        f"Day {i}: the miller of town {salt} opened the gate and counted the sacks." for i in range(SENTENCES)
    )


def beside_a_stream(server: Server, *, salt: int = 0, rounds: int = 1, longs: Sequence[int] = (1,)) -> dict[str, Any]:
    """Prompts a minute of those that are alone, and what it is like beside so many of them, in ms.

    `salt` differs from run to run, so that the prompts do.
    """
    ask = partial(run, "127.0.0.1", server.port, server.path, server.headers)
    return asyncio.run(_beside_a_stream(ask, salt, rounds, longs))


async def _beside_a_stream(ask: Ask, salt: int, rounds: int, longs: Sequence[int]) -> dict[str, Any]:
    await ask([_body(prompts(1, salt)[0], 32)])  # it warms up
    salts = itertools.count(1000 * salt)
    alone = [await _alone(ask, next(salts)) for _ in range(rounds)]
    report: dict[str, Any] = {"alone_per_min": statistics.median(alone)}
    for count in longs:
        report[f"beside_{count}"] = await _beside(ask, list(itertools.islice(salts, count)))
    return report


def alone_per_min(servers: Mapping[str, Checkout], path: str, *, rounds: int) -> dict[str, list[float]]:
    """Long prompts a minute of each, in turns; the first warms up."""
    rates: dict[str, list[float]] = {name: [] for name in servers}
    for turn in range(rounds + 1):
        for i, (name, server) in enumerate(list(servers.items())[:: 1 if turn % 2 else -1]):
            ask = partial(run, "127.0.0.1", server.port, path, {"Authorization": f"Bearer {server.key}"})
            rate = asyncio.run(_alone(ask, 10_000 + 10 * turn + i))
            rates[name] += [rate] if turn else []
    return rates


async def _alone(ask: Ask, salt: int) -> float:
    (sample,) = await ask([_body(long_prompt(salt), 1)])
    return 60 / (sample.arrivals[0] - sample.sent)


async def _beside(ask: Ask, salts: Sequence[int]) -> dict[str, Any]:
    """Long prompts beside a stream, and a short prompt each second until the first tokens of all of them are there."""
    streams: list[Sample] = []
    shorts: list[asyncio.Task[list[Sample]]] = []
    over = asyncio.Event()
    running = asyncio.create_task(_stream(ask, streams, salts[0], over))
    await asyncio.sleep(2 * SHORT_EACH_S)
    begun = time.perf_counter()
    long = asyncio.create_task(ask([_body(long_prompt(salt), 1) for salt in salts]))
    while not long.done():
        await asyncio.wait([long], timeout=SHORT_EACH_S)
        shorts.append(asyncio.create_task(ask([_body(f"{salts[0]}.{len(shorts)} What is a mill?", 1)])))
    ended = max(sample.arrivals[0] for sample in await long)
    waits = [sample.arrivals[0] - sample.sent for answers in await asyncio.gather(*shorts) for sample in answers]
    over.set()
    await running
    gaps = [
        after - before
        for sample in streams
        for before, after in zip(sample.arrivals, sample.arrivals[1:], strict=False)
        if after > begun and before < ended
    ]
    return {
        "long_ttft_ms": 1000 * (ended - begun),
        "gap_p50_ms": 1000 * percentile(gaps, 0.5),
        "gap_p99_ms": 1000 * percentile(gaps, 0.99),
        "short_ttft_p50_ms": 1000 * percentile(waits, 0.5),
        "short_ttft_max_ms": 1000 * max(waits),
    }


async def _stream(ask: Ask, samples: list[Sample], salt: int, over: asyncio.Event) -> None:
    """One stream behind the other."""
    while not over.is_set():
        samples += await ask([_body(prompts(1, 1000 * salt + len(samples))[0], 256)])


def _body(text: str, max_tokens: int) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": text}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def main() -> None:
    """Measure with a stack of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="of long prompts that are alone")
    parser.add_argument("--longs", type=int, nargs="*", default=[1], help="long prompts beside a stream")
    args = parser.parse_args()
    with headrace(MODEL) as stack:
        report = beside_a_stream(contestant(stack), rounds=args.rounds, longs=args.longs)
        print(json.dumps(report, indent=1), flush=True)


if __name__ == "__main__":
    main()
