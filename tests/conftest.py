"""Fixtures that start the real parts: a Redis server for the session, and the settings that lead to it."""

from __future__ import annotations

import concurrent.futures.thread as executors
import faulthandler
import math
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
import redis

from gateway.cluster.registry import Registry
from gateway.cluster.trust import Trust
from gateway.jobs.store import JobStore
from gateway.models.catalog import load_catalog
from gateway.queue.celery_app import make_celery
from gateway.settings import Settings
from gateway.store.connection import connect
from gateway.store.embedded import server_command
from gateway.watching.hub import Hub
from tests.hub_server import HubServer
from tests.rpc import Client
from tests.rpc import client as rpc_client
from tests.stack import Stack
from workers.keeper.keeper import Keeper

#: Examples are judged by what they show, not by how long they take: the machine has other work, too.
hypothesis.settings.register_profile("headrace", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("headrace")

# Where the tests run in the background of a shell, it has this signal ignored, also in all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: How long threads may take to end after the last test, and the process after that.
LINGER_S, END_S = 5.0, 30.0


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real redis-server on a unix socket, ended with the session."""
    with tempfile.TemporaryDirectory(prefix="hr-") as folder:
        socket, data = Path(folder) / "redis.sock", Path(folder) / "redis"
        data.mkdir()
        with (Path(folder) / "redis.log").open("wb") as output:
            process = subprocess.Popen(server_command(socket, data), stdout=output, stderr=output)
        try:
            url = f"unix://{socket}"
            wait_for_redis(url)
            yield url
        finally:
            process.terminate()
            process.wait(60)


def wait_for_redis(url: str, timeout_s: float = 10.0) -> None:
    """Return when the server answers."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with redis.Redis.from_url(url) as client:
                client.ping()
            return
        except redis.exceptions.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    """Settings over the session's Redis, with an own data folder."""
    return Settings(redis_url=redis_url, data_dir=tmp_path, node="test", demo_model="", grace_s=2.0, lease_s=2.0)


@pytest.fixture
def redis_client(settings: Settings) -> Iterator[redis.Redis]:
    """An empty database."""
    client = connect(settings, retries=3)
    client.flushdb()
    yield client
    client.close()


@pytest.fixture
def keeper(settings: Settings, redis_client: redis.Redis) -> Keeper:
    """A keeper that makes its rounds when it is told to, and has reached Redis for a long time."""
    return Keeper(
        settings=settings,
        store=JobStore(redis_client),
        registry=Registry(redis_client),
        celery=make_celery(settings),
        catalog=load_catalog(settings),
        trust=Trust(since=-math.inf),
    )


@pytest.fixture
def hub(redis_client: redis.Redis) -> Iterator[Hub]:
    """A hub over the empty database."""
    with closing(Hub(redis_client, JobStore(redis_client), grace_s=2)) as hub:
        yield hub


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    """An HTTP client of the running system, with its first key. `stack` is what each module says it is."""
    with stack.client() as client:
        yield client


@pytest.fixture
def rpc(stack: Stack) -> Iterator[Client]:
    """The same for gRPC."""
    with rpc_client(stack) as found:
        yield found


@pytest.fixture
def model_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A running hub of models, the one that this process and its children speak to."""
    server = HubServer()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with server.running():
        yield server


#: What installs packages for minutes: others run beside it.
FIRST = "tests/integration/test_vllm.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of the files, but for one."""
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))


#: Files whose tests share one system, see integration/conftest.py: one worker runs them all, so that it starts once.
SHARED = ("asked", "document", "faces", "fields", "local_tools", "openai", "openai_edges", "openai_fields", "rest")
SHARING = {f"tests/integration/test_{name}.py" for name in SHARED}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The tests of a file run in one worker, one after the other, and so do those of files that share a system."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "sharing" if file in SHARING else file

    return ByFile(config, log)


def lingering() -> list[threading.Thread]:
    """Threads that keep this process from ending, apart from those of executors, which Python ends itself."""
    ended = {threading.main_thread(), *executors._threads_queues}
    return [thread for thread in threading.enumerate() if not thread.daemon and thread not in ended]


#: Whether threads were left behind, by this process or by a worker of pytest-xdist that it has started.
LEFT = "headrace_threads_left"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A test that leaves a thread behind fails the run, however its assertions went."""
    deadline = time.monotonic() + LINGER_S
    for thread in lingering():
        thread.join(max(0.0, deadline - time.monotonic()))
    if left := lingering():
        names = ", ".join(f"{thread.name} ({getattr(thread, '_target', None)})" for thread in left)
        sys.stderr.write(f"\nERROR: after the last test these threads still run: {names}. Where they are:\n")
        faulthandler.dump_traceback(file=sys.__stderr__)
        getattr(session.config, "workeroutput", {})[LEFT] = True
    if left or getattr(session.config, LEFT, False):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of pytest-xdist has ended: its own exit status tells nobody."""
    if getattr(node, "workeroutput", {}).get(LEFT):
        setattr(node.config, LEFT, True)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Whatever else keeps the process from ending, it ends, and says where it was. A worker waits for the others."""
    if not hasattr(config, "workerinput"):
        faulthandler.dump_traceback_later(END_S, exit=True, file=sys.__stderr__)
