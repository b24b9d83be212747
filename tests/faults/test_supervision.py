"""`headrace up` is killed with -9, alone or with what it started: nothing is lost sight of, and nothing runs twice."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from gateway.embedded_redis import server_command
from tests.homes import Home, new_home
from tests.stack import REPOSITORY, eventually

#: How long `headrace up` may take on a busy machine.
UP_S = 150


def of(home: Home) -> list[psutil.Process]:
    """All processes of a data folder: by their environment, and Redis, which writes over it, by its title."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            ours = process.environ().get("HEADRACE_DATA_DIR") == home.data
            if ours or f"unixsocket:{home.data}/" in " ".join(process.cmdline()):
                found.append(process)
    return found


def named(home: Home, word: str) -> list[psutil.Process]:
    """Those with a word in their command line."""
    found = []
    for process in of(home):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if word in " ".join(process.cmdline()):
                found.append(process)
    return found


def start(home: Home) -> subprocess.Popen[bytes]:
    """`headrace up`, when its model answers."""
    process = home.start("up")
    eventually(lambda: process.poll() is not None or "Ctrl-C ends everything" in home.said, "it is up", UP_S)
    assert process.poll() is None, home.said
    return process


def answers(home: Home) -> bool:
    """Whether the model gives an answer."""
    key = (Path(home.data) / "keys" / "bootstrap").read_text().strip()
    url = f"http://127.0.0.1:{home.environ['HEADRACE_HTTP_PORT']}/models/fake/completions"
    headers = {"Authorization": f"Bearer {key}"}
    try:
        response = httpx.post(url, json={"prompt": "x", "max_tokens": 2}, headers=headers, timeout=20)
    except httpx.TransportError:
        return False
    return response.status_code == 200


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A data folder, in which nothing is left running."""
    home = new_home(tmp_path)
    yield home
    left = of(home)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=10)
    for process in home.started:
        process.wait(10)


def test_what_a_killed_supervisor_leaves_is_seen_and_ended(home: Home) -> None:
    supervisor = start(home)
    (worker,) = named(home, "workers.model")
    supervisor.kill()
    supervisor.wait(10)
    eventually(lambda: not named(home, "redis-server"), "Redis ends with its owner")
    for name in ("web.serve", "workers.keeper", "workers.agent", "workers.provider", "web.rpc.server", "flower"):
        eventually(lambda name=name: not named(home, name), f"{name} ends with its owner")
    status = home.command("status")
    assert status.returncode == 1, status.stdout
    assert str(worker.pid) in status.stdout
    down = home.command("down")
    assert down.returncode == 0, down.stdout
    assert "fake." in down.stdout
    assert of(home) == []
    assert home.command("status").returncode == 3
    assert "nothing runs" in home.command("down").stdout


def test_up_after_a_killed_supervisor_goes_on_with_its_model_workers(home: Home) -> None:
    supervisor = start(home)
    (worker,) = named(home, "workers.model")
    supervisor.kill()
    supervisor.wait(10)
    supervisor = start(home)
    assert "these live on" in home.said
    assert [p.pid for p in named(home, "workers.model")] == [worker.pid]
    for name in ("redis-server", "workers.agent", "workers.keeper"):
        assert len(named(home, name)) == 1
    assert answers(home)
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(20) == 0
    assert of(home) == []


def test_what_does_not_end_with_its_supervisor_is_ended_before_another_starts(home: Home) -> None:
    supervisor = start(home)
    frozen = [named(home, name)[0] for name in ("workers.keeper", "redis-server", "web.serve")]
    for process in frozen:
        process.suspend()
    supervisor.kill()
    supervisor.wait(10)
    status = home.command("status")
    assert status.returncode == 1
    assert all(str(process.pid) in status.stdout for process in frozen)
    supervisor = start(home)
    said = next(line for line in home.said.splitlines() if "ending what is left of it" in line)
    assert {"keeper", "redis", "web"} <= set(said.split(": ")[1].split(", "))
    assert len(named(home, "redis-server")) == 1
    assert answers(home)
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(20) == 0
    assert of(home) == []


def test_a_supervisor_that_does_not_end_is_killed(home: Home) -> None:
    supervisor = start(home)
    supervisor.send_signal(signal.SIGSTOP)
    down = home.command("down")
    assert down.returncode == 0, down.stdout
    supervisor.wait(10)
    assert of(home) == []


def test_all_python_processes_killed_leave_no_second_redis(home: Home) -> None:
    supervisor = start(home)
    (server,) = named(home, "redis-server")
    for process in [p for p in of(home) if p.pid != server.pid]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    supervisor.wait(10)
    supervisor = start(home)
    assert not server.is_running()
    assert len(named(home, "redis-server")) == 1
    assert answers(home)
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(20) == 0
    assert of(home) == []


def test_one_data_folder_has_one_redis(home: Home) -> None:
    command = [sys.executable, "-m", "gateway.embedded_redis"]
    first = subprocess.Popen(command, cwd=REPOSITORY, env=home.environ, stdout=subprocess.DEVNULL)
    socket = Path(home.data) / "redis.sock"
    try:
        eventually(socket.exists, "it listens")
        second = subprocess.run(
            command, cwd=REPOSITORY, env=home.environ, capture_output=True, text=True, timeout=30, check=False
        )
        assert second.returncode == 1
        assert f"runs already (process {first.pid})" in second.stderr
        up = home.command("up")
        assert up.returncode == 1
        assert "runs already" in up.stdout
        assert socket.exists()
    finally:
        first.terminate()
        first.wait(10)
    assert not socket.exists()


def test_a_server_without_a_lock_keeps_its_socket(home: Home) -> None:
    data = Path(home.data) / "redis"
    data.mkdir(parents=True)
    socket = data.parent / "redis.sock"
    first = subprocess.Popen(server_command(socket, data), env=home.environ, stdout=subprocess.DEVNULL)
    try:
        eventually(socket.exists, "it listens")
        up = home.command("up")
        assert up.returncode == 1
        assert "one that holds no lock" in up.stdout
        assert socket.exists()
    finally:
        first.terminate()
        first.wait(10)


#: Supervises two processes, one that lives long enough to count as started, and one that does not.
BACK_OFF = """
import sys, time
from pathlib import Path
from cli import processes

processes.STARTED_S = 0.5
says = []
supervisor = processes.Supervisor(folder=Path(sys.argv[1]), environ={}, say=says.append)
supervisor.start("steady", ["python", "-c", "import time; time.sleep(1)"])
supervisor.start("broken", ["python", "-c", "raise SystemExit(1)"])
while len([line for line in says if "steady" in line]) < 4:
    supervisor.look()
    time.sleep(0.02)
supervisor.end()
for line in says:
    print(line)
"""


def test_only_a_process_that_ends_at_its_start_waits_longer_each_time(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", BACK_OFF, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    pauses = {
        name: [line.split("starts again in ")[1].split()[0] for line in run.stdout.splitlines() if name in line]
        for name in ("steady", "broken")
    }
    assert pauses["steady"] == ["0.5"] * 4
    assert pauses["broken"][:3] == ["0.5", "1", "2"]
