"""A stack under the load of clients that come by themselves, and what it can do at most."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

from gateway.jobs.journal import usage
from gateway.store import keys
from tests.bench.server import Helper
from tests.bench.visits import Client, Refusal, Visit, answers_per_s, poisson, tokens_per_s
from tests.bench.workload import prompts
from tests.stack import Stack, eventually

#: Tokens of an interactive answer, the fewest and the most; of a background one.
ANSWER_TOKENS = (16, 48)
BACKGROUND_TOKENS = 128
#: Streams that are held open to find what the model can do: more than a replica runs at once.
CROWD = 48
#: Answers that it takes to know it, and how long they are waited for.
ENOUGH, CAPACITY_S, MOST_S = 3 * CROWD, 8.0, 64.0
#: Share of a measurement in which slots fill, and nothing is counted.
WARM_UP = 1 / 3


@dataclass(frozen=True)
class Capacity:
    """What a model can do at most with interactive answers."""

    answers_per_s: float
    tokens_per_s: float


@dataclass
class LoadedStack:
    """A stack with one model, and who puts load on it."""

    stack: Stack
    model: str
    load: Helper
    #: Shorter runs.
    quick: bool = False
    #: How long capacity is measured.
    _hold_s: float = CAPACITY_S
    #: Prompts of each run differ, so that the prefix cache helps none of them.
    _salts: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def lasts(self, full_s: float) -> float:
        """How long a phase lasts that takes `full_s` in a full run."""
        return full_s / 2 if self.quick else full_s

    @property
    def path(self) -> str:
        """Of its chat."""
        return f"/models/{self.model}/chat/completions"

    @contextlib.contextmanager
    def key(self, name: str) -> Iterator[str]:
        """An API key. At the end its jobs are cancelled, and have ended."""
        with self.stack.client() as admin:
            made = admin.post("/keys", json={"name": name}).raise_for_status().json()["data"]
            try:
                yield made["secret"]
            finally:
                admin.delete(f"/keys/{made['id']}").raise_for_status()
                opened = keys.open_jobs(made["id"])
                eventually(lambda: not self.stack.redis.scard(opened), f"all jobs of {name} have ended")

    def bodies(self, count: int, rng: random.Random) -> list[dict[str, Any]]:
        """Streams of different length, with prompts that no other call gets."""
        texts = prompts(count, salt=1_000 * next(self._salts))
        return [streamed(text, rng.randint(*ANSWER_TOKENS)) for text in texts]

    def arrivals(
        self, rate: float, duration_s: float, key: str, seed: int, *, obeys: bool = False, timeout_s: float = 0
    ) -> list[Client]:
        """Interactive clients that come at random, the same for the same seed but for their prompts.

        `timeout_s`: within which they want to begin; 0: they wait for as long as it takes.
        """
        rng = random.Random(seed)
        times = poisson(rate, duration_s, rng)
        bodies = self.bodies(len(times), rng)
        timeout = {"timeout": timeout_s} if timeout_s else {}
        return [Client(at_s, key, body | timeout, obeys) for at_s, body in zip(times, bodies, strict=True)]

    def visits(self, clients: Sequence[Client], stop_s: float, **hold: float) -> list[Visit]:
        """Send them, and wait for what becomes of them, until `stop_s` at most."""
        return visits(self.load, self.stack.settings.http_port, self.path, clients, stop_s, **hold)

    def capacity(self) -> Capacity:
        """Answers and tokens a second when there is always somebody who waits."""
        while len(seen := self._crowd(self._hold_s)) < ENOUGH and self._hold_s < MOST_S:
            self._hold_s *= 2  # the machine is slow, or busy
        window = WARM_UP * self._hold_s, self._hold_s
        found = Capacity(answers_per_s(seen, *window), tokens_per_s(seen, *window))
        print(f"capacity: {found.answers_per_s:.1f} answers/s, {found.tokens_per_s:.0f} tokens/s", flush=True)
        return found

    def _crowd(self, hold_s: float) -> list[Visit]:
        with self.key("capacity") as key:
            clients = [Client(0, key, body) for body in self.bodies(1000, random.Random(0))]
            return self.visits(clients, hold_s + MOST_S, hold=CROWD, hold_s=hold_s)

    def background(self, client: httpx.Client, count: int, tokens: int = BACKGROUND_TOKENS) -> list[str]:
        """Background jobs, waiting; their ids."""
        texts = prompts(count, salt=1_000 * next(self._salts))
        bodies = [chat(text, tokens) for text in texts]
        answers = [client.post(self.path, json=body, headers={"Prefer": "respond-async"}) for body in bodies]
        return [answer.raise_for_status().json()["data"]["job_id"] for answer in answers]

    def tokens_made(self, job_ids: Sequence[str]) -> int:
        """Tokens that jobs have in their journals."""
        return sum(usage(self.stack.journal(job_id))["completion_tokens"] for job_id in job_ids)


def chat(text: str, max_tokens: int) -> dict[str, Any]:
    """The body of a chat."""
    return {"messages": [{"role": "user", "content": text}], "max_tokens": max_tokens, "temperature": 0}


def streamed(text: str, max_tokens: int) -> dict[str, Any]:
    """The same, to be streamed with its usage."""
    return {**chat(text, max_tokens), "stream": True, "stream_options": {"include_usage": True}}


def visits(load: Helper, port: int, path: str, clients: Sequence[Client], stop_s: float, **hold: float) -> list[Visit]:
    """Have the load generator send clients to a server; see `tests/bench/open_load.py`."""
    question = {"port": port, "path": path, "clients": [asdict(client) for client in clients], "stop_s": stop_s, **hold}
    seen = load.ask(question)["visits"]
    return [Visit(**{**one, "refusals": [Refusal(**refusal) for refusal in one["refusals"]]}) for one in seen]
