"""`make bench ARGS="--only grammars"`: what a form costs those who ask for it, and those who do not.

Each figure compares within one run: JSON mode with plain chat in turns, plain streams beside hostile forms (that are
refused, and that are taken) with the same streams alone and beside as many plain requests, and this checkout with
another one.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.bench.checkout import checkouts
from tests.bench.load import run
from tests.bench.server import Server
from tests.bench.workload import MODEL, Sample, percentile, prompts, summary
from tests.schemas_300 import HOSTILE as SCHEMAS

STREAMS, TOKENS = 32, 96
#: Plain streams beside hostile ones.
VICTIMS = 8
HOSTILE = 20
#: How long hostile requests are there before the streams begin.
HEAD_START_S = 2.0
#: Answers that are longer than all tokens that are asked for, so that both kinds make as many.
ENDLESS = {
    "type": "object",
    "properties": {
        "people": {
            "type": "array",
            "minItems": 200,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "age": {"type": "integer"},
                    "kind": {"enum": ["a", "b", "c"]},
                },
                "required": ["name", "age", "kind"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["people"],
    "additionalProperties": False,
}


def json_mode(schema: Any) -> dict[str, Any]:
    """The field that asks for a schema."""
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}}


#: Schemas that are refused, after the most time that a check takes.
BOMBS = ("hugeenum", "pat3", "pat5", "refs2", "names", "pp", "oneof")


def bombs(number: int) -> Iterator[dict[str, Any]]:
    """Schemas that are refused, without end, no two of them equal."""
    for turn in itertools.count():
        yield json_mode(SCHEMAS[BOMBS[(number + turn) % len(BOMBS)]] | {"title": f"{number} {turn}"})


def hostile(number: int) -> dict[str, Any]:
    """A form that is taken, takes an engine long to compile, and of which there is no second."""
    texts = {f"f{number}_{i}": {"type": "string", "maxLength": 150 + 10 * i + number} for i in range(1 + number % 3)}
    return {"type": "object", "properties": texts, "required": list(texts), "additionalProperties": False}


def measure(server: Server, *, against: Path | None, quick: bool) -> dict[str, Any]:
    """All figures, the medians of rounds."""
    rounds = 1 if quick else 5
    found = asyncio.run(_measure(server, rounds, TOKENS // 3 if quick else TOKENS))
    if against:
        found["plain_ratio"] = plain_ratio(against, rounds=2 if quick else 5)
    print(f"grammars: {found}", flush=True)
    return found


async def _measure(server: Server, rounds: int, tokens: int) -> dict[str, Any]:
    pairs, gaps = [], []
    await _ask(server, 1, 8, 0, json_mode(ENDLESS))  # the first form starts the process that tries them
    for turn in range(rounds + 1):
        kinds: Mapping[str, dict[str, Any]] = {"plain": {}, "json": json_mode(ENDLESS)}
        order = list(kinds) if turn % 2 else list(kinds)[::-1]
        measured = {
            kind: summary(await _ask(server, STREAMS if turn else 4, tokens, turn * 10 + (kind == "json"), kinds[kind]))
            for kind in order
        }
        pairs += [measured] if turn else []  # the first turn warms up
        print(f"JSON mode: {measured}", flush=True)
    for turn in range(rounds):
        alone = _gap_p99_ms(await _ask(server, VICTIMS, 2 * tokens, 500 + turn))
        attackers = [turn * HOSTILE + number for number in range(HOSTILE)]
        refused, count = await _beside(server, 550 + turn, 2 * tokens, [bombs(number) for number in attackers])
        plain, _ = await _beside(server, 600 + turn, 2 * tokens, [iter([{}]) for _ in attackers])
        forms = [iter([json_mode(hostile(number))]) for number in attackers]
        taken, _ = await _beside(server, 650 + turn, 2 * tokens, forms)
        gaps.append({"alone_ms": alone, "refused_ms": refused, "plain_ms": plain, "taken_ms": taken, "refused": count})
        print(f"p99 of gaps, alone and beside others: {gaps[-1]}", flush=True)
    return {
        **{f"{kind}_tokens_per_s": statistics.median(pair[kind]["tokens_per_s"] for pair in pairs) for kind in kinds},
        "json_ratio": statistics.median(pair["json"]["tokens_per_s"] / pair["plain"]["tokens_per_s"] for pair in pairs),
        "json_wall_ratio": statistics.median(pair["plain"]["seconds"] / pair["json"]["seconds"] for pair in pairs),
        **{f"gap_p99_{name}": statistics.median(gap[name] for gap in gaps) for name in gaps[0]},
        "refused_ratio": statistics.median(gap["refused_ms"] / gap["alone_ms"] for gap in gaps),
        "taken_ratio": statistics.median(gap["taken_ms"] / gap["plain_ms"] for gap in gaps),
    }


async def _ask(server: Server, count: int, tokens: int, salt: int, more: Mapping[str, Any] = {}) -> list[Sample]:
    bodies = [
        {
            "messages": [{"role": "user", "content": text}],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **more,
        }
        for text in prompts(count, salt=50_000 + salt)
    ]
    return await run("127.0.0.1", server.port, server.path, dict(server.headers), bodies)


async def _beside(
    server: Server, salt: int, tokens: int, others: Sequence[Iterator[Mapping[str, Any]]]
) -> tuple[float, int]:
    """The gaps of plain streams beside clients that each send requests in turn, in ms, and how many were refused."""
    ended: list[httpx.Response] = []

    async def attack(client: httpx.AsyncClient, number: int) -> None:
        for more in others[number]:
            body = {"messages": [{"role": "user", "content": f"{salt} {number}"}], "max_tokens": 64, **more}
            ended.append(await client.post(server.path, json=body))

    url, headers = f"http://127.0.0.1:{server.port}", dict(server.headers)
    limits = httpx.Limits(max_connections=HOSTILE)
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=None, limits=limits) as client:
        attacks = [asyncio.create_task(attack(client, number)) for number in range(len(others))]
        await asyncio.sleep(HEAD_START_S)
        gap = _gap_p99_ms(await _ask(server, VICTIMS, tokens, salt))
        for one in attacks:  # whose clients leave: their jobs are cancelled
            one.cancel()
        await asyncio.gather(*attacks, return_exceptions=True)
    return gap, sum(response.status_code != 200 for response in ended)


def _gap_p99_ms(samples: Sequence[Sample]) -> float:
    gaps = [b - a for sample in samples for a, b in zip(sample.arrivals, sample.arrivals[1:], strict=False)]
    return 1000 * percentile(gaps, 0.99)


def plain_ratio(against: Path, *, rounds: int) -> float:
    """Plain chat of this checkout by that of another, in turns: tokens a second."""
    rates: dict[str, list[float]] = {"this": [], "other": []}
    with checkouts(against, MODEL, log_level="warning") as servers:
        for turn in range(rounds + 1):
            for name, one in list(servers.items())[:: 1 if turn % 2 else -1]:
                there = Server(
                    name, one.port, f"/models/{MODEL}/chat/completions", {"Authorization": f"Bearer {one.key}"}, {}, {}
                )
                rate = summary(asyncio.run(_ask(there, STREAMS, TOKENS, 800 + turn)))["tokens_per_s"]
                rates[name] += [rate] if turn else []
    return statistics.median(ours / theirs for ours, theirs in zip(rates["this"], rates["other"], strict=True))
