"""A whole Headrace for tests: real processes, started and ended one by one, so that a test can kill any of them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import httpx
import psutil
import redis

from gateway.access.api_keys import Credentials
from gateway.access.bootstrap import bootstrap
from gateway.cluster.desired import Desired, ReplicaSpec, replica_id
from gateway.cluster.registry import Registry, Replica
from gateway.jobs.events import Event
from gateway.jobs.store import JobStore
from gateway.settings import Settings
from gateway.store import keys
from gateway.store.connection import connect
from gateway.store.embedded import server_command

KEY = "hr-test-bootstrap-key"
REPOSITORY = Path(__file__).parents[1]
#: What a process runs, by the part of its name before the first hyphen.
MODULES = {
    "web": "web.wsgi_server",
    "rpc": "web.rpc.server",
    "keeper": "workers.keeper",
    "agent": "workers.agent",
    "container": "workers.agent.container",
    "provider": "workers.providers",
    "listener": "web.listener",
}


#: Ports for this process, below those that the system gives to outgoing connections. Each worker of pytest-xdist has
#: its own, and hands out each of them once: what is free now is still free when the server that gets it starts.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_SPAN = 1_000
_PORTS = itertools.count(10_000 + _WORKER % 16 * _SPAN + os.getpid() % (_SPAN // 2))


def free_port() -> int:
    """A port that nobody listens on."""
    return next(port for port in _PORTS if _free(port))


def _free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


#: How long a test waits at most for what comes in a second or two. Nothing is measured by it: a machine on which
#: several tests run at once may be slow, and only what never comes is a fault.
PATIENCE_S = 60.0


def lines_of(texts: Iterable[str]) -> Iterator[str]:
    """The lines of a stream. httpx' own end at any of Unicode's line separators, which JSON may hold."""
    rest = ""
    for text in texts:
        *lines, rest = (rest + text).split("\n")
        yield from lines


def eventually(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """The condition's first true value. Fails when there is none in time."""
    deadline, pause_s = time.monotonic() + timeout_s, 0.02
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(pause_s)
        pause_s = min(1.1 * pause_s, 0.1)  # who waits for long asks less often: others need the processor
    raise AssertionError(f"not within {timeout_s:.0f} s: {what}")


def processes_of(data: Path | str) -> list[psutil.Process]:
    """All of a data folder, whoever has started them: by their environment, and Redis, which writes over it, by its
    title.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            ours = process.environ().get("HEADRACE_DATA_DIR") == str(data)
            if ours or f"unixsocket:{data}/" in " ".join(process.cmdline()):
                found.append(process)
    return found


def stop(pid: int) -> None:
    """SIGSTOP. Returns when all threads of the process stand still: only one of them takes the signal, and stops the
    others, which go on until it gets a processor.
    """
    process = psutil.Process(pid)
    process.suspend()

    def stands_still() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):  # a thread that has just ended
            return all(psutil.Process(one.id).status() == psutil.STATUS_STOPPED for one in process.threads())
        return False

    eventually(stands_still, f"{pid} has stopped")


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process does nothing for a while."""
    stop(pid)
    try:
        yield
    finally:
        psutil.Process(pid).resume()


def family(pid: int) -> list[psutil.Process]:
    """A process and all below it."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


class Stack:
    """Redis, web, keeper and agents over one data folder."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        (folder / "redis").mkdir(parents=True)
        (folder / "logs").mkdir()
        self.socket = folder / "redis.sock"
        base = Settings(
            redis_url=f"unix://{self.socket}",
            data_dir=folder,
            config=folder / "headrace.toml",
            node="n1",
            http_port=free_port(),
            grpc_port=free_port(),
            demo_model="",
            grace_s=2.0,
            lease_s=2.0,
            log_level="info",
            log_format="text",
        )
        self.settings = replace(base, **changes)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    # -- processes

    def start(self, name: str, command: list[str] | None = None, settings: Settings | None = None) -> None:
        """Start one process under a name of our own."""
        if command is None:
            command = [sys.executable, "-m", MODULES[name.split("-", maxsplit=1)[0]]]
        with (self.folder / "logs" / f"{name}.log").open("ab") as output:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**os.environ, **(settings or self.settings).environ()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def start_redis(self) -> None:
        """Start Redis, unless the settings name another, and wait until it answers."""
        if self.settings.redis_url == f"unix://{self.socket}":
            self.start("redis", server_command(self.socket, self.folder / "redis"))
        client = connect(self.settings)
        eventually(lambda: _answers(client), "Redis answers")
        client.close()

    def up(self, models: Mapping[str, Mapping[str, Any]]) -> None:
        """Start everything, with one replica of each model, and wait until all are ready."""
        self.start_redis()
        self.up_over_redis(models)

    def up_over_redis(self, models: Mapping[str, Mapping[str, Any]]) -> None:
        """The same where Redis runs."""
        client = connect(self.settings, retries=3)
        self.redis, self.store, self.registry = client, JobStore(client), Registry(client)
        bootstrap(Credentials(client), KEY)
        for model, options in models.items():
            self.put(model, options)
        for name in ("web", "keeper", "agent"):
            self.start(name)
        self.wait_active(len(models))
        eventually(self._ready, "the web process is ready")

    def put(self, model: str, options: Mapping[str, Any], settings: Settings | None = None) -> None:
        """Make a replica part of the desired state, on the device of those settings."""
        place = (settings or self.settings).node, (settings or self.settings).device
        Desired(self.redis).put(ReplicaSpec(replica_id(model, *place), model, *place, options=options))

    def wait_active(self, count: int, timeout_s: float = 120.0) -> None:
        """Wait until so many replicas are active."""

        def active() -> bool:
            return sum(r.status == "active" for r in self.registry.replicas()) >= count

        eventually(active, f"{count} active replicas", timeout_s)

    def replica(self, model: str = "fake") -> Replica:
        """The first living replica of a model."""
        found: list[Replica] = eventually(lambda: self.registry.replicas(model), f"a replica of {model}")
        return found[0]

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to one of the processes, and reap it if it dies."""
        process = self.processes[name]
        process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            process.wait(PATIENCE_S)

    @contextlib.contextmanager
    def full_line(self, model: str = "fake") -> Iterator[None]:
        """The first key has as many jobs in a model's line as there may be. Nobody takes them; none has a record."""
        line = f"{keys.lines(model)}:interactive"
        (key_id,) = (key.id for key in Credentials(self.redis).list() if key.name == "bootstrap")
        members = [f"{key_id}|{i:013d}|1|0|0|chatcmpl-{i}" for i in range(self.settings.queue_limit)]
        with stopped(self.replica(model).pid):
            try:
                self.redis.zadd(line, dict.fromkeys(members, 0))
                self.redis.zadd(f"{line}:keys", {key_id: 0})
                yield
            finally:
                self.redis.delete(line, f"{line}:keys")

    def close(self) -> None:
        """End everything at once: the agents before the workers, which they would start again, and Redis last.

        How processes end in peace is for the tests that are about it; here it would take seconds each time.
        """
        workers, lost = self._locked(), {}
        for name in self.processes:
            if name != "redis":
                self.kill(name)
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        if hasattr(self, "redis"):
            lost = self._lost_tokens()
            self.redis.close()
        if "redis" in self.processes:
            self.kill("redis")
        assert not lost, f"tokens were lost: {lost}"

    def _lost_tokens(self) -> dict[str, str]:
        """What the tripwire of metrics has counted, whatever the test has done."""
        with contextlib.suppress(redis.exceptions.RedisError, TypeError):
            counted = cast("dict[str, str]", self.redis.hgetall(keys.METRICS))
            return {field: number for field, number in counted.items() if field.startswith("lost")}
        return {}

    def _locked(self) -> list[psutil.Process]:
        """The model workers: they outlive their agent."""
        found = []
        for path in (self.folder / "run").glob("*.lock"):
            pid = int(path.read_text().split()[0])
            if psutil.pid_exists(pid) and pid not in [p.pid for p in self.processes.values()]:
                found.append(psutil.Process(pid))
        return found

    def _ready(self) -> bool:
        try:
            with self.client() as client:
                return client.get("/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    # -- clients

    @property
    def url(self) -> str:
        """Where the web process listens."""
        return f"{'https' if self.settings.http_tls == 'on' else 'http'}://127.0.0.1:{self.settings.http_port}"

    def client(self, key: str = KEY) -> httpx.Client:
        """An HTTP client with a key."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        trusted: ssl.SSLContext | bool = True
        if self.settings.http_tls == "on":
            trusted = ssl.create_default_context(cafile=str(self.settings.data_dir / "tls" / "ca.pem"))
        return httpx.Client(base_url=self.url, headers=headers, timeout=2 * PATIENCE_S, verify=trusted)

    def journal(self, job_id: str) -> list[Event]:
        """All events of a job."""
        return self.store.journals.read(job_id)

    def running(self) -> list[str]:
        """Ids of the running jobs, by the index."""
        return [str(job_id) for job_id in self.redis.zrange(keys.RUNNING, 0, -1)]

    def logs(self) -> str:
        """The end of every log, for a failed test."""
        parts = []
        for path in sorted((self.folder / "logs").glob("*.log")):
            parts.append(f"== {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-40:]))
        return "\n".join(parts)


@contextlib.contextmanager
def running(
    folder: Path, models: Mapping[str, Mapping[str, Any]], *, catalog: str = "", **settings: Any
) -> Iterator[Stack]:
    """A stack with one replica of each model, until the end of the block. `catalog` is its headrace.toml."""
    with contextlib.closing(Stack(folder, **settings)) as stack:
        if catalog:
            stack.settings.config.write_text(catalog)
        stack.up(models)
        yield stack


def _answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.RedisError:
        return False


@dataclass
class Stream:
    """A streaming client in a thread, which reconnects by Last-Event-ID as a good client does."""

    stack: Stack
    path: str
    body: Mapping[str, Any]
    job_id: str = ""
    text: str = ""
    ids: list[str] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    error: dict[str, Any] | None = None
    ended: bool = False
    reconnects: int = 0
    rewound: int = 0

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Stream:
        """Send the request."""
        self.thread.start()
        return self

    def join(self, timeout_s: float = 120.0) -> Stream:
        """Wait for the end of the stream. Fails if it does not end."""
        self.thread.join(timeout_s)
        assert self.ended, f"stream {self.job_id} has not ended after {timeout_s:.0f} s; it has {len(self.ids)} events"
        return self

    @property
    def seqs(self) -> list[int]:
        """The seq of each event that was received."""
        return [int(event_id.split("-")[0]) for event_id in self.ids]

    def _run(self) -> None:
        deadline = time.monotonic() + 150
        with self.stack.client() as client:
            while not self.ended and time.monotonic() < deadline:
                try:
                    self._once(client)
                except httpx.TransportError:
                    time.sleep(0.1)
                if not self.ended:
                    self.reconnects += 1

    def _once(self, client: httpx.Client) -> None:
        if self.job_id:
            headers = {"Last-Event-ID": self.ids[-1]} if self.ids else {}
            request = client.stream("GET", f"/jobs/{self.job_id}/events", headers=headers)
        else:
            request = client.stream("POST", self.path, json={**self.body, "stream": True})
        with request as response:
            if response.status_code != 200:
                response.read()
                if self.job_id and response.status_code == 503:
                    time.sleep(0.2)
                    return
                self.error, self.ended = response.json(), True
                return
            self.job_id = response.headers["X-Job-Id"]
            self._follow(lines_of(response.iter_text()))

    def _follow(self, lines: Iterator[str]) -> None:
        kind = ""
        for line in lines:
            name, _, value = line.partition(": ")
            if line.startswith(":"):
                self.comments.append(line)
            elif name == "id":
                self.ids.append(value)
            elif name == "event":
                kind = value
            elif name == "data" and value == "[DONE]":
                self.ended = True
                return
            elif name == "data" and kind == "error":
                self.error = json.loads(value)
            elif name == "data":
                self._take(json.loads(value))

    def _take(self, chunk: Mapping[str, Any]) -> None:
        if "rewound" in chunk:
            self.rewound += 1
            self.text = chunk["rewound"]["text"].get("0", "")
        for choice in chunk["choices"]:
            self.text += choice.get("text") or choice.get("delta", {}).get("content") or ""
            self.finish_reason = choice["finish_reason"] or self.finish_reason


def chat(stack: Stack, content: str = "hello", *, model: str = "fake", **body: Any) -> Stream:
    """A streamed chat that has been sent."""
    messages = [{"role": "user", "content": content}]
    return Stream(stack, f"/models/{model}/chat/completions", {"messages": messages, **body}).start()
