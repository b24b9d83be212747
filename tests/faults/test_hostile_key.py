"""One key sends everything that is known to hurt, again and again, while another key's streams run on the same models.

No stream breaks, no process ends, each input has its answer in bounded time, and none of them is `internal_error`. That
holds for all of it over several connections; what the streams feel is measured with odd values alone, one at a time,
since two cores are full with less than the rest.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil
import pytest

from gateway.access.api_keys import Credentials
from gateway.process.locks import lock_holders
from gateway.store.codec import dumps
from tests.faults.conftest import FULL, Ledger
from tests.faults.hostile import ENCODER, FAKE, HANGS, INPUTS, LOADS, PATIENCE_S, REAL
from tests.faults.hostile_upstream import ERRORS, GOOD, STREAMS, VECTORS, WORDS, HostileUpstream
from tests.rpc import start_rpc
from tests.stack import REPOSITORY, Stack, eventually, running
from workers.engines.fake import fake_token

#: How long it is quiet, and how long the hostile key sends odd values one by one, then all it has at once.
CALM_S, ODD_S, ALL_S = (60.0, 300.0, 60.0) if FULL else (5.0, 10.0, 10.0)
CONNECTIONS = 4
#: Streams of the other key by model.
READERS = {FAKE: 6, REAL: 6, f"odd/{GOOD}": 4}
TOKENS = 60
#: The longest gap of a hundred may grow so much.
SLOWER = 2.0
#: What an input must not come to.
BAD = (HANGS, "500", "INTERNAL", "UNKNOWN", "failed internal_error", "failed engine_crashed", "the test failed")


@dataclass
class Reader(threading.Thread):
    """Streams of the other key, one after another, until it is stopped."""

    stack: Stack
    key: str
    model: str
    stop: threading.Event
    gaps_s: list[float] = field(default_factory=list)
    whole: int = 0
    broken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        """The thread's body."""
        headers = {"Authorization": f"Bearer {self.key}"}
        with httpx.Client(base_url=self.stack.url, headers=headers, timeout=60, trust_env=False) as client:
            while not self.stop.is_set():
                try:
                    self._once(client)
                    self.whole += 1
                except (httpx.TransportError, AssertionError, KeyError, ValueError) as error:
                    self.broken.append(f"{self.model}: {error!r}"[:500])
                    self.stop.wait(0.5)

    def _once(self, client: httpx.Client) -> None:
        messages = [{"role": "user", "content": "Tell a long story about a river."}]
        body = {"model": self.model, "messages": messages, "max_tokens": TOKENS, "temperature": 0, "stream": True}
        text, finish, before = "", None, 0.0
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                raise ValueError(f"{response.status_code}: {response.read()[:300]!r}")
            for line in response.iter_lines():
                if not line.startswith("data: "):
                    continue
                now = time.monotonic()
                if before:
                    self.gaps_s.append(now - before)
                before = now
                if line == "data: [DONE]":
                    break
                text, finish = _add(text, finish, json.loads(line[6:]))
            job_id = response.headers["X-Job-Id"]
        wanted = {
            FAKE: "".join(f" w{fake_token(f'{job_id}/0', i)}" for i in range(TOKENS)),
            f"odd/{GOOD}": "".join(f" w{i}" for i in range(WORDS)),
        }
        assert finish in ("length", "stop"), (job_id, finish, text[-80:])
        assert text == wanted.get(self.model, text), (job_id, text[-80:])


def _add(text: str, finish: str | None, chunk: dict[str, Any]) -> tuple[str, str | None]:
    assert "error" not in chunk, chunk
    for choice in chunk["choices"]:
        text += choice["delta"].get("content") or ""
        finish = choice["finish_reason"] or finish
    return text, finish


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    upstream = HostileUpstream()
    common = {"base_url": f"{upstream.url}/v1", "between_timeout_s": 20.0, "first_byte_timeout_s": 20.0}
    odd = {"protocol": "openai", "api_key_env": "", **common}
    names = {f"odd/{name}": "odd" for name in (*STREAMS, *ERRORS, *VECTORS, GOOD)} | {"claude/parts": "claude"}
    models = {
        name: {
            "capabilities": ["embedding"] if name.partition("/")[2] in VECTORS else ["chat", "tool_use"],
            "provider": provider,
            "upstream": name.partition("/")[2],
        }
        for name, provider in names.items()
    }
    providers = {"odd": odd, "claude": {**odd, "protocol": "anthropic", "base_url": upstream.url}}
    with running(
        tmp_path_factory.mktemp("h"),
        {FAKE: {"step_s": 0.03}, REAL: {}, ENCODER: {}},
        providers_json=dumps(providers),
        models_json=dumps(models),
        breaker_failures=100_000,
        grace_s=10.0,
        lease_s=5.0,
    ) as stack:
        stack.start("provider")
        start_rpc(stack)
        eventually(stack.registry.providers, "a provider worker")
        yield stack
        upstream.close()


def processes(stack: Stack) -> dict[psutil.Process, str]:
    """All processes of the stack, and what they run."""
    roots = {psutil.Process(process.pid) for process in stack.processes.values()}
    roots |= {psutil.Process(holder.pid) for holder in lock_holders(stack.folder).values()}
    family = roots | {child for root in roots for child in root.children(recursive=True)}
    return {one: " ".join(one.cmdline()[-3:])[:100] for one in family}


def read(stack: Stack, key: str, readers: list[Reader], seconds: float) -> None:
    """Let the streams run for a while."""
    stop = threading.Event()
    for model, count in READERS.items():
        readers += [Reader(stack, key, model, stop) for _ in range(count)]
    for reader in readers:
        reader.start()
    try:
        time.sleep(seconds)
    finally:
        stop.set()
        for reader in readers:
            reader.join(90)


def attacked(
    stack: Stack, ours: str, theirs: str, seconds: float, connections: int, names: Sequence[str] = ()
) -> tuple[list[Reader], defaultdict[str, Counter[str]]]:
    """The streams of one key while another sends these inputs, or all, and what came of each input."""
    readers: list[Reader] = []
    # In a process of its own: what it does is no matter of those who measure.
    command = [sys.executable, "-m", "tests.faults.hostile", theirs, str(seconds), str(connections), *names]
    environ = {**os.environ, **stack.settings.environ()}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environ, stdout=subprocess.PIPE) as hostile:
        assert hostile.stdout is not None
        hostile.stdout.readline()  # it begins
        read(stack, ours, readers, seconds)
        seen = json.loads(hostile.communicate(timeout=6 * PATIENCE_S)[0])
    return readers, defaultdict(Counter, {name: Counter(outcomes) for name, outcomes in seen.items()})


def bad(outcome: str) -> bool:
    """Whether an input must not come to this."""
    return outcome.startswith(BAD)


def p99_ms(readers: list[Reader]) -> float:
    """Of all gaps between two events of a stream."""
    gaps = [gap for reader in readers for gap in reader.gaps_s]
    return 1000 * statistics.quantiles(gaps, n=100)[98]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_hostile_key_harms_nobody_else(stack: Stack, ledger: Ledger) -> None:
    credentials = Credentials(stack.redis)
    ours, theirs = (credentials.create(name)[1] for name in ("good", "hostile"))
    calm: list[Reader] = []
    read(stack, ours, calm, CALM_S)
    assert [text for reader in calm for text in reader.broken] == []
    before = processes(stack)

    odd = set(INPUTS) - LOADS
    hit, seen = attacked(stack, ours, theirs, ODD_S, 1, sorted(odd))
    rest, seen_at_once = attacked(stack, ours, theirs, ALL_S, CONNECTIONS)
    for name, outcomes in seen_at_once.items():
        seen[name].update(outcomes)
    ended = [what for process, what in before.items() if not process.is_running()]
    broken = [text for reader in (*hit, *rest) for text in reader.broken]
    report = {
        "inputs": len(seen),
        "sent": sum(sum(found.values()) for found in seen.values()),
        "streams": sum(reader.whole for reader in (*hit, *rest)) + len(broken),
        "broken": len(broken),
        "processes_ended": len(ended),
        "gap_p99_ms_without": round(p99_ms(calm)),
        "gap_p99_ms_with": round(p99_ms(hit)),
    }
    print(json.dumps(report))
    ledger.counts["hostile_key"] = report
    problems = [f"ended: {what}" for what in ended] + [f"broken: {text}" for text in broken]
    problems += [f"{name}: {found}" for name, found in seen.items() if any(bad(outcome) for outcome in found)]
    assert not problems, "\n".join(problems)
    assert all(reader.whole for reader in (*hit, *rest)), "every stream has come to its end"
    if FULL:
        assert set(seen) == set(INPUTS)
        assert report["gap_p99_ms_with"] <= SLOWER * report["gap_p99_ms_without"]
