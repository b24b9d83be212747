"""`headrace doctor --chaos`: a sandbox of its own, with a fake model, in which processes are killed under streams.

It uses the installed product, but nothing of the live installation: another data folder, an embedded Redis, free ports.
The fake engine's text is a function of the job's id, so that a lost or repeated token shows.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import redis

from cli import client as api
from cli import leftovers
from cli.api.connection import connect as connect_http
from cli.api.connection import http_url
from cli.doctor.checks import Finding, Level
from gateway.cluster.registry import Registry, Replica
from gateway.errors import HeadraceError, Unavailable
from gateway.jobs.store import JobStore
from gateway.process.start import module_command
from gateway.settings import Settings
from gateway.store import keys
from gateway.store.connection import NOT_NOW, connect
from workers.engines.fake import fake_token

MODEL = "canary"
#: Streams for each fault, their tokens, and the seconds between two tokens.
STREAMS, TOKENS, STEP_S = 4, 120, 0.02
#: How long the sandbox may take to start, a stream to end, and its leftovers to be gone.
UP_S, END_S, TIDY_S = 120.0, 60.0, 15.0


class Stream(threading.Thread):
    """A client that reconnects, and the text that it got."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self._settings = settings
        self.job_id = self.text = self.error = ""
        self.started = threading.Event()
        self.times: list[float] = []

    def run(self) -> None:
        """Send the request, and read to the end."""
        try:
            with connect_http(self._settings, None, None) as client:
                answer = api.chat(client, MODEL, [{"role": "user", "content": "hello"}], max_tokens=TOKENS)
                for piece in answer:
                    self.job_id, self.text = answer.events.job_id, self.text + piece
                    self.times.append(time.monotonic())
                    self.started.set()
        except (HeadraceError, httpx.HTTPError) as error:
            self.error = str(error)
        self.started.set()

    @property
    def whole(self) -> bool:
        """Whether every token came once, in order."""
        return self.text.split() == [f"w{fake_token(f'{self.job_id}/0', i)}" for i in range(TOKENS)]


@dataclass(frozen=True)
class Sandbox:
    """A running system in which faults are made."""

    settings: Settings
    redis: redis.Redis

    def kill(self, name: str) -> None:
        """Kill a process that `headrace up` looks after."""
        table = json.loads((self.settings.data_dir / "run" / "status.json").read_text())["processes"]
        os.kill(table[name]["pid"], signal.SIGKILL)

    def replica(self) -> Replica:
        """The model's only replica."""
        return Registry(self.redis).replicas(MODEL)[0]

    def cut_connections(self) -> None:
        """Let Redis close all other connections."""
        for kind in ("pubsub", "normal"):
            self.redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    def left(self) -> str:
        """Jobs that have not ended or are still in an index, as a text; empty if there are none."""
        running = self.redis.zcard(keys.RUNNING)
        queued = self.redis.zcard(keys.queued(MODEL))
        return f"{running} jobs run and {queued} wait" if running or queued else ""


#: The faults, by name.
FAULTS: dict[str, Callable[[Sandbox], object]] = {
    "model worker killed": lambda sandbox: os.kill(sandbox.replica().pid, signal.SIGKILL),
    "engine killed": lambda sandbox: os.kill(sandbox.replica().engine_pid, signal.SIGKILL),
    "keeper killed": lambda sandbox: sandbox.kill("keeper"),
    "web killed": lambda sandbox: sandbox.kill("web"),
    "agent killed": lambda sandbox: sandbox.kill("agent"),
    "Redis killed": lambda sandbox: sandbox.kill("redis"),
    "connections cut": Sandbox.cut_connections,
    "scripts flushed": lambda sandbox: sandbox.redis.script_flush(),
}


def break_sandbox(settings: Settings) -> Iterator[Finding]:
    """One finding for each fault, and one for the end."""
    folder = Path(tempfile.mkdtemp(prefix="hr-chaos-"))
    try:
        with _running(_settings(settings, folder)) as sandbox:
            for name, fault in FAULTS.items():
                yield _try(sandbox, name, fault)
        left = leftovers.running(folder)
        level = Level.PROBLEM if left else Level.OK
        yield Finding(level, f"{', '.join(left)} still run" if left else "nothing is left running", check="end")
    finally:
        leftovers.end(folder, leftovers.running(folder))
        shutil.rmtree(folder, ignore_errors=True)


def _settings(settings: Settings, folder: Path) -> Settings:
    """The settings of the sandbox. Only intervals and time-outs are those of the live installation."""
    fake = {"capabilities": ["chat"], "engine": "fake", "context_length": 4096, "max_tokens": 4096}
    model = {**fake, "options": {"step_s": STEP_S}}
    http, grpc, flower = _free_ports(3)
    return replace(
        Settings(lease_s=settings.lease_s, grace_s=settings.grace_s),
        data_dir=folder,
        config=folder / "headrace.toml",
        models_json=json.dumps({MODEL: model}),
        demo_model=MODEL,
        node="sandbox",
        http_port=http,
        grpc_port=grpc,
        flower_port=flower,
    )


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextmanager
def _running(settings: Settings) -> Iterator[Sandbox]:
    """Run `headrace up` for the sandbox; it ends with this process. Raises: Unavailable if it does not start."""
    log = settings.data_dir / "up.log"
    with log.open("wb") as output:
        supervisor = subprocess.Popen(
            module_command(
                *("cli.supervised", str(settings.data_dir), "sandbox", str(os.getpid())),
                *module_command("cli.main", "up"),
            ),
            env={**os.environ, **settings.environ()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _await(lambda: (settings.data_dir / "run" / "ready").exists() or supervisor.poll() is not None, UP_S)
        if supervisor.poll() is not None:
            raise Unavailable(f"The sandbox did not come up: {log.read_text()[-500:]}")
        yield Sandbox(settings, connect(settings, retries=3))
    finally:
        supervisor.terminate()
        supervisor.wait()


def _try(sandbox: Sandbox, name: str, fault: Callable[[Sandbox], object]) -> Finding:
    """Make a fault under running streams, and report what became of them."""
    ready = _await(lambda: _answers(http_url(sandbox.settings)), UP_S)
    streams = [Stream(sandbox.settings) for _ in range(STREAMS)]
    for stream in streams:
        stream.start()
    for stream in streams:
        stream.started.wait(END_S)
    at = time.monotonic()
    try:
        fault(sandbox)
    except (OSError, LookupError, *NOT_NOW) as error:
        return Finding(Level.PROBLEM, f"it could not be done ({error}); ready before: {ready}", check=name)
    for stream in streams:
        stream.join(max(0.0, at + END_S - time.monotonic()))
    wrong = list(_wrong(sandbox, streams))
    pauses = [next((t - at for t in stream.times if t > at), 0.0) for stream in streams]
    whole = sum(stream.whole for stream in streams)
    found = f"{whole} of {STREAMS} streams whole, next token after {max(pauses):.1f} s"
    if wrong:
        return Finding(Level.PROBLEM, f"{found}; {'; '.join(wrong)}", "Please report it, with the logs.", name)
    return Finding(Level.OK, found, check=name)


def _wrong(sandbox: Sandbox, streams: Iterable[Stream]) -> Iterator[str]:
    """The promises that were broken."""
    store = JobStore(sandbox.redis)
    for stream in streams:
        if stream.is_alive():
            yield f"{stream.job_id} has not ended"
        elif stream.error:
            yield f"{stream.job_id or 'a request'}: {stream.error}"
        elif not stream.whole:
            yield f"{stream.job_id}: tokens were lost or repeated"
        elif sum(event.type.terminal for event in store.journals.read(stream.job_id)) != 1:
            yield f"{stream.job_id} has not one end"
    if not _await(lambda: not sandbox.left(), TIDY_S):
        yield f"left behind: {sandbox.left()}"


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _await(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether it became true in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if condition():
                return True
        except NOT_NOW:
            pass
        time.sleep(0.05)
    return False
