"""A live system for the fault matrix: all processes of Headrace, two replicas, two provider workers, and a supervisor.

The supervisor starts again whatever has ended, as `headrace up` does. Processes are found by the operating system.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.access.api_keys import Credentials
from gateway.access.bootstrap import bootstrap
from gateway.cluster.registry import Registry
from gateway.jobs.store import JobStore
from gateway.settings import Settings
from gateway.store.codec import dumps
from gateway.store.connection import connect
from tests.faults.matrix.proxy import Proxy
from tests.rpc import Client as RpcClient
from tests.rpc import start_rpc
from tests.stack import KEY, MODULES, Stack, eventually
from tests.upstreams.anthropic import AnthropicServer
from tests.upstreams.base import Upstream
from tests.upstreams.openai import OpenAIServer
from tests.upstreams.world import KEYS, PATIENT

STEP_S = 0.03
EMBEDDER = "all-minilm-l6-v2"
#: More tokens than any answer has.
MANY = 10_000
#: What the fake engine does at token 5 of a prompt that says `{fault}-please`; no other prompt does.
ENGINE_FAULTS = ("crash", "hang", "raise", "garbage", "hog", "refuse")
FAKE = {
    "step_s": STEP_S,
    **{f"{fault}_word": f"{fault}-please" for fault in ENGINE_FAULTS},
    **{f"{fault}_at": 5 for fault in ENGINE_FAULTS if fault != "refuse"},
}
CATALOG = """
[models.slow]
name = "Slow"
description = "Takes a moment to load"
version = "1.0"
capabilities = ["chat"]
engine = "fake"
context_length = 4096
max_tokens = 4096
options = { load_s = 0.6, step_s = 0.01 }
"""
#: Pause before each word of a remote answer.
PACE_S = 0.06
_LOOK_S = 0.2


@dataclass(frozen=True)
class Design:
    """What a system is made of, where it differs from the plain one."""

    #: Of all processes.
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: Of the fake engine.
    options: Mapping[str, Any] = field(default_factory=dict)
    #: All processes reach Redis through a `Proxy`, and so do we.
    proxied: bool = False
    #: Further arguments of redis-server.
    redis_args: tuple[str, ...] = ()
    #: Put before the command of a process, by its name.
    wrap: Callable[[Path], Mapping[str, list[str]]] = lambda _: {}
    #: Done before the start, and after the end, with the data folder.
    before: Callable[[Path], None] = lambda _: None
    after: Callable[[Path], None] = lambda _: None


class FaultStack(Stack):
    """A stack whose processes are started again when they end, and may reach Redis by another way than we do."""

    def __init__(self, folder: Path, design: Design, **changes: Any) -> None:
        super().__init__(folder, **{"grace_s": 10.0, "max_batch_size": 20, "engine_stall_s": 5.0, **changes})
        self.proxy = Proxy(str(self.socket)) if design.proxied else None
        if self.proxy:
            self.settings = replace(self.settings, redis_url=self.proxy.url)
        self._wrap, self._redis_args = design.wrap(folder), design.redis_args
        self._specs: dict[str, tuple[list[str] | None, Settings | None]] = {}
        #: Processes that are left alone when they end.
        self.away: set[str] = set()
        self.restarts: Counter[str] = Counter()
        self._over = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def start(self, name: str, command: list[str] | None = None, settings: Settings | None = None) -> None:
        """Start a process, and keep it running."""
        self._specs[name] = (command, settings)
        command = command or [sys.executable, "-m", MODULES[name.split("-", maxsplit=1)[0]]]
        more = self._redis_args if name == "redis" else ()
        super().start(name, [*self._wrap.get(name, ()), *command, *more], settings)

    def begin(self) -> None:
        """Redis, and the first key."""
        self.start_redis()
        self.redis = connect(self.settings, retries=3)
        self.store, self.registry = JobStore(self.redis), Registry(self.redis)
        bootstrap(Credentials(self.redis), KEY)

    def start_again(self, name: str) -> None:
        """A process that has ended, as it was started."""
        self.start(name, *self._specs[name])

    def supervise(self) -> None:
        """From now on."""
        self._supervisor.start()

    def close(self) -> None:
        self._over.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        super().close()
        if self.proxy:
            self.proxy.close()

    def _supervise(self) -> None:
        while not self._over.wait(_LOOK_S):
            for name, process in list(self.processes.items()):
                if name not in self.away and process.poll() is not None and not self._over.is_set():
                    self.restarts[name] += 1
                    self.start_again(name)


class World:
    """A running system, and what a fault needs to know of it."""

    def __init__(self, stack: FaultStack, openai: Upstream, anthropic: Upstream) -> None:
        self.stack = stack
        self.openai, self.anthropic = openai, anthropic
        self.rpc = RpcClient(stack, **{"grpc.initial_reconnect_backoff_ms": 100, "grpc.max_reconnect_backoff_ms": 1000})
        #: What the embedding model says of a text, undisturbed.
        self.vectors: dict[str, list[float]] = {}
        #: From when to when all that was written is gone with a power cut.
        self.power_cuts: list[tuple[float, float]] = []
        self.first = Census.of(self)

    def settle(self) -> None:
        """What is held now, after a first load, is what each row begins with."""
        self.first = Census(self.first.processes, Census.of(self).descriptors)

    def new_key(self) -> tuple[str, str]:
        """Id and secret of a fresh API key."""
        record, secret = Credentials(self.stack.redis).create("row")
        return record.id, secret

    # -- processes, as the operating system knows them

    def processes(self) -> dict[str, list[psutil.Process]]:
        """All of this system, by what they run: the name of their module, or `redis`."""
        found: dict[str, list[psutil.Process]] = defaultdict(list)
        folder, own = str(self.stack.folder), {process.pid for process in self.stack.processes.values()}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                line = process.cmdline() or [""]
                if "redis-server" in line[0]:  # whose title takes the place of its environment
                    ours = process.pid in own or f"{folder}/redis" in " ".join(line)
                    found["redis"] += [process] if ours else []
                elif "-m" in line and process.environ().get("HEADRACE_DATA_DIR") == folder:
                    found[line[line.index("-m") + 1]].append(process)
        return found

    def victims(self, name: str) -> list[psutil.Process]:
        """The living processes behind a name: `engine`, `worker` are those of the first replica, in the plural all."""
        if name.rstrip("s") in ("engine", "worker"):
            replicas = sorted(self.stack.registry.replicas("fake"), key=lambda r: r.device)
            chosen = replicas if name.endswith("s") else replicas[:1]
            pids = [r.engine_pid if name.startswith("engine") else r.pid for r in chosen]
            return [psutil.Process(pid) for pid in pids if pid and psutil.pid_exists(pid)]
        process = psutil.Process(self.stack.processes[name].pid)
        return [process, *process.children()] if name == "web" else [process]

    def signal(self, number: int, *names: str) -> list[psutil.Process]:
        """Send a signal to processes by their names, all at once."""
        chosen = [process for name in names for process in self.victims(name)]
        for process in chosen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return chosen

    def kill(self, *names: str) -> None:
        """`kill -9`, and wait until those that are ours to reap have ended."""
        self.signal(signal.SIGKILL, *names)
        for name in names:
            if name in self.stack.processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.stack.processes[name].wait(5)

    def held_by(self, *names: str) -> list[str]:
        """The running jobs of a replica, or of the provider worker."""
        pids = {process.pid for name in names for process in self.victims(name)}
        workers = [*self.stack.registry.replicas("fake"), *self.stack.registry.providers()]
        owners = {w.incarnation for w in workers if {w.pid, getattr(w, "engine_pid", w.pid)} & pids}
        return [job_id for job_id, owner in self.stack.store.owners(self.stack.running()).items() if owner in owners]

    # -- Redis

    @contextlib.contextmanager
    def without_redis(self) -> Iterator[None]:
        """Redis is killed, and started again at the end."""
        self.stack.away.add("redis")
        self.kill("redis")
        try:
            yield
        finally:
            self.stack.start_again("redis")
            self.stack.away.discard("redis")
            self.wait_for_redis()

    def wait_for_redis(self) -> None:
        """Return when it answers."""
        eventually(self._redis_answers, "Redis answers", 60)

    def _redis_answers(self) -> bool:
        import redis

        try:
            return bool(self.stack.redis.ping())
        except redis.exceptions.RedisError:
            return False


@dataclass
class Census:
    """How many processes of each kind there are, and the most descriptors that one of a kind holds."""

    processes: Counter[str]
    descriptors: dict[str, int]

    @classmethod
    def of(cls, world: World) -> Census:
        processes: Counter[str] = Counter()
        descriptors: dict[str, int] = {}
        for role, members in world.processes().items():
            processes[role] = len(members)
            for process in members:
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    descriptors[role] = max(descriptors.get(role, 0), process.num_fds())
        return cls(processes, descriptors)


@contextlib.contextmanager
def running(folder: Path, design: Design, *, full: bool) -> Iterator[World]:
    """Start a system of that design. A full one embeds, too."""
    openai, anthropic = OpenAIServer(KEYS["UP_OPENAI_KEY"]), AnthropicServer(KEYS["UP_ANTHROPIC_KEY"])
    openai.pace_s = anthropic.pace_s = PACE_S
    oa = {"protocol": "openai", "base_url": f"{openai.url}/v1", "api_key_env": "UP_OPENAI_KEY", **PATIENT}
    an = {**oa, "protocol": "anthropic", "base_url": anthropic.url, "api_key_env": "UP_ANTHROPIC_KEY"}
    providers = {"oa": {**oa, "continuation": "prefix"}, "an": an}
    room = {"context_length": 20_000, "max_tokens": MANY}
    models = {name: {"capabilities": ["chat"], "provider": name, **room} for name in providers}
    (folder / "headrace.toml").write_text(CATALOG)
    stack = FaultStack(folder, design, providers_json=dumps(providers), models_json=dumps(models), **design.settings)
    design.before(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        try:
            yield _up(stack, design, openai, anthropic, full=full)
        finally:
            stack.close()
            openai.close()
            anthropic.close()
            design.after(folder)


def _up(stack: FaultStack, design: Design, openai: Upstream, anthropic: Upstream, *, full: bool) -> World:
    options = {**FAKE, **design.options}
    second = replace(stack.settings, device="cpu1")
    stack.begin()
    stack.put("fake", options)
    stack.put("fake", options, second)
    if full:
        stack.put(EMBEDDER, {})
    stack.start("agent-2", settings=second)
    stack.start("provider-2", settings=replace(stack.settings, node="n2"))
    for name in ("agent", "web", "keeper", "provider"):
        stack.start(name)
    start_rpc(stack)
    stack.wait_active(3 if full else 2)
    eventually(stack._ready, "the web process is ready")
    eventually(lambda: len(stack.registry.providers()) == 2, "the provider workers")
    stack.supervise()
    time.sleep(0.5)
    return World(stack, openai, anthropic)


def limit_files(process: psutil.Process, most: int) -> int:
    """Lower the descriptors that a process may open. Returns the limit before."""
    before, hard = process.rlimit(psutil.RLIMIT_NOFILE)
    process.rlimit(psutil.RLIMIT_NOFILE, (most, hard))
    return int(before)


def as_root() -> bool:
    """Whether this process may mount and install."""
    return os.geteuid() == 0
