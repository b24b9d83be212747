"""`headrace up` is killed with -9, alone or with what it started: nothing is lost sight of, and nothing runs twice."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from cli import leftovers
from gateway.process.start import how_ended
from gateway.store.embedded import server_command
from tests.homes import Home, new_home
from tests.stack import REPOSITORY, eventually, processes_of, stop

#: How long `headrace up` may take on a busy machine.
UP_S = 150


def of(home: Home) -> list[psutil.Process]:
    """All processes of it."""
    return processes_of(home.data)


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
        response = httpx.post(url, json={"prompt": "x", "max_tokens": 2}, headers=headers, timeout=60)
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
    psutil.wait_procs(left, timeout=60)
    for process in home.started:
        process.wait(60)


@pytest.mark.slow
def test_what_a_killed_supervisor_leaves_is_seen_and_ended(home: Home) -> None:
    supervisor = start(home)
    (worker,) = named(home, "workers.replica")
    supervisor.kill()
    supervisor.wait(60)
    eventually(lambda: not named(home, "redis-server"), "Redis ends with its owner")
    for name in ("web.wsgi_server", "workers.keeper", "workers.agent", "workers.providers", "web.rpc.server", "flower"):
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
    (worker,) = named(home, "workers.replica")
    supervisor.kill()
    supervisor.wait(60)
    supervisor = start(home)
    assert "these live on" in home.said
    assert [p.pid for p in named(home, "workers.replica")] == [worker.pid]
    for name in ("redis-server", "workers.agent", "workers.keeper"):
        assert len(named(home, name)) == 1
    assert answers(home)
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(60) == 0
    assert of(home) == []


@pytest.mark.slow
def test_what_does_not_end_with_its_supervisor_is_ended_before_another_starts(home: Home) -> None:
    supervisor = start(home)
    frozen = [named(home, name)[0] for name in ("workers.keeper", "redis-server", "web.wsgi_server")]
    for process in frozen:
        stop(process.pid)
    supervisor.kill()
    supervisor.wait(60)
    status = home.command("status")
    assert status.returncode == 1
    assert all(str(process.pid) in status.stdout for process in frozen)
    supervisor = start(home)
    said = next(line for line in home.said.splitlines() if "ending what is left of it" in line)
    assert {"keeper", "redis", "web"} <= set(said.split(": ")[1].split(", "))
    assert len(named(home, "redis-server")) == 1
    assert answers(home)
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(60) == 0
    assert of(home) == []


@pytest.mark.slow
def test_a_supervisor_that_does_not_end_is_killed(home: Home) -> None:
    supervisor = start(home)
    stop(supervisor.pid)
    down = home.command("down")
    assert down.returncode == 0, down.stdout
    supervisor.wait(60)
    assert of(home) == []


@pytest.mark.slow
def test_all_python_processes_killed_leave_no_second_redis(home: Home) -> None:
    supervisor = start(home)
    (server,) = named(home, "redis-server")
    for process in [p for p in of(home) if p.pid != server.pid]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    supervisor.wait(60)
    supervisor = start(home)
    assert not server.is_running()
    assert len(named(home, "redis-server")) == 1
    assert answers(home)
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(60) == 0
    assert of(home) == []


def test_one_data_folder_has_one_redis(home: Home) -> None:
    command = [sys.executable, "-m", "gateway.store.embedded"]
    first = subprocess.Popen(command, cwd=REPOSITORY, env=home.environ, stdout=subprocess.DEVNULL)
    socket = Path(home.data) / "redis.sock"
    try:
        eventually(socket.exists, "it listens")
        second = subprocess.run(
            command, cwd=REPOSITORY, env=home.environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert second.returncode == 1
        assert f"runs already (process {first.pid})" in second.stderr
        up = home.command("up")
        assert up.returncode == 1
        assert "runs already" in up.stdout
        assert socket.exists()
    finally:
        first.terminate()
        first.wait(60)
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
        first.wait(60)


def ended(process: subprocess.Popen[bytes], home: Home) -> None:
    """`headrace up` has ended in good order, and nothing is left of it."""
    assert process.wait(60) == 0
    assert of(home) == []
    assert home.command("status").returncode == 3


def test_the_hangup_of_a_terminal_ends_everything(home: Home) -> None:
    supervisor = start(home)
    supervisor.send_signal(signal.SIGHUP)
    ended(supervisor, home)
    assert "nothing is left running" in home.said


@pytest.mark.slow
def test_a_second_ctrl_c_changes_nothing(home: Home) -> None:
    supervisor = start(home)
    for _ in range(5):
        supervisor.send_signal(signal.SIGINT)
        time.sleep(0.1)
    ended(supervisor, home)


@pytest.mark.slow
def test_after_nohup_it_outlives_its_terminal(home: Home) -> None:
    command = ["nohup", sys.executable, "-m", "cli.main", "up"]
    with open_terminal() as (master, slave):
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=home.environ, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        home.started.append(process)
        os.close(slave)
        # nohup writes into a file of the current folder when its output is a terminal.
        said = REPOSITORY / "nohup.out"
        try:
            eventually(lambda: said.exists() and "Ctrl-C ends everything" in said.read_text(), "it is up", UP_S)
            os.close(master)
            process.send_signal(signal.SIGHUP)
            eventually(lambda: answers(home), "it goes on")
            assert home.command("status").returncode == 0
            process.terminate()
            ended(process, home)
        finally:
            said.unlink(missing_ok=True)


@pytest.mark.slow
def test_a_closed_pipe_ends_everything(home: Home) -> None:
    head = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m cli.main up | head -1"],
        cwd=REPOSITORY,
        env=home.environ,
        capture_output=True,
        text=True,
        timeout=UP_S,
        check=True,
    )
    assert head.stdout.startswith("headrace | ")
    assert head.stdout.count("\n") == 1
    assert "Error" not in head.stderr
    assert of(home) == []


@pytest.mark.slow
def test_a_pipe_that_closes_while_it_serves_ends_everything(home: Home) -> None:
    command = [sys.executable, "-m", "cli.main", "up"]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=home.environ, stdout=subprocess.PIPE)
    home.started.append(process)
    assert process.stdout is not None
    while b"Ctrl-C ends everything" not in process.stdout.readline():
        assert process.poll() is None
    process.stdout.close()
    ended(process, home)


@pytest.mark.slow
def test_a_closed_terminal_ends_everything(home: Home) -> None:
    command = [sys.executable, "-m", "cli.main", "up"]
    with open_terminal() as (master, slave):
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=home.environ, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        home.started.append(process)
        os.close(slave)
        said = b""
        while b"Ctrl-C ends everything" not in said:
            said += os.read(master, 4096)
        key = (Path(home.data) / "keys" / "bootstrap").read_text().strip()
        assert key.encode() in said, "a terminal shows it"
        os.close(master)
        ended(process, home)


@contextlib.contextmanager
def open_terminal() -> Iterator[tuple[int, int]]:
    """A terminal: the side of whoever sits before it, and the side of programs. Both may be closed before."""
    ends = pty.openpty()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


@pytest.mark.slow
def test_without_any_output_it_runs_as_well(home: Home) -> None:
    command = ["sh", "-c", f"exec {sys.executable} -m cli.main up >&- 2>&- <&-"]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=home.environ, start_new_session=True)
    home.started.append(process)
    eventually((Path(home.data) / "run" / "ready").exists, "it is up", UP_S)
    assert answers(home)
    process.terminate()
    ended(process, home)


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.4, 1.0, 2.5])
def test_killed_while_it_starts_it_leaves_nothing_or_what_the_next_one_manages(home: Home, after_s: float) -> None:
    process = home.start("up")
    time.sleep(after_s)
    process.kill()
    process.wait(60)
    down = home.command("down")
    assert down.returncode == 0, down.stdout
    eventually(lambda: not of(home), f"nothing is left after {down.stdout}")
    supervisor = start(home)
    assert answers(home), home.said + home.command("status").stdout
    supervisor.send_signal(signal.SIGINT)
    ended(supervisor, home)


@pytest.mark.slow
def test_a_worker_that_just_starts_when_its_agent_dies_does_not_stay(home: Home) -> None:
    process = home.start("up")
    (worker,) = eventually(lambda: named(home, "workers.replica"), "a worker starts")
    stop(worker.pid)
    process.kill()
    process.wait(60)
    assert home.command("down").returncode == 0
    worker.resume()
    eventually(lambda: not of(home), "nothing is left")


#: Takes a lock, leaves it to a child that heeds no SIGTERM, and dies.
LEAVE_A_LOCK = """
import os, pathlib, signal, subprocess, sys
from gateway.process.locks import hold_lock
signal.signal(signal.SIGTERM, signal.SIG_IGN)
hold_lock(pathlib.Path(sys.argv[1]), "web", over_exec=True)
print(subprocess.Popen(["sleep", "600"], close_fds=False, stdout=subprocess.DEVNULL).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_has_the_lock_of_a_dead_process_is_ended_too(tmp_path: Path) -> None:
    started = subprocess.run(
        [sys.executable, "-c", LEAVE_A_LOCK, tmp_path], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False
    )
    child = psutil.Process(int(started.stdout))
    try:
        assert list(leftovers.running(tmp_path)) == ["web"]
        leftovers.end(tmp_path, ["web"], grace_s=0.2)
        assert leftovers.running(tmp_path) == {}
        child.wait(5)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


#: In every Python process: once the file `lose` is there, the provider worker's emitter gets what no loop survives.
LOSE_A_LOOP = """
import ctypes, pathlib, sys, threading, time

def lose(file=pathlib.Path(__file__).with_name("lose")):
    while not file.exists():
        time.sleep(0.05)
    if "workers.providers" in sys.orig_argv:
        file.unlink()
        (loop,) = [thread for thread in threading.enumerate() if thread.name == "emitter"]
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(loop.ident), ctypes.py_object(SystemExit))

threading.Thread(target=lose, daemon=True).start()
"""


def test_a_process_that_has_lost_a_loop_is_started_again_and_said_so(home: Home) -> None:
    home.environ["PYTHONPATH"] = str(home.folder)
    # As a bug would: the thread of a loop ends for good.
    (home.folder / "sitecustomize.py").write_text(LOSE_A_LOOP)
    supervisor = start(home)
    (home.folder / "lose").touch()
    eventually(lambda: "provider ended itself with status 70" in home.said, "it is said")
    eventually(lambda: "provider process" in home.command("status").stdout, "it is back")
    line = next(line for line in home.command("status").stdout.splitlines() if "  provider" in line)
    assert "1 restarts (the last time it ended itself with status 70, since one of its loops had ended" in line
    assert "loop emitter has ended; so does this process" in (Path(home.data) / "logs" / "provider.log").read_text()
    eventually(lambda: "remote   openai: healthy" in home.command("status").stdout, "all is well")
    supervisor.send_signal(signal.SIGINT)
    ended(supervisor, home)


@pytest.mark.parametrize(
    ("status", "says"),
    [(0, "exited with status 0"), (1, "exited with status 1"), (-9, "was killed by SIGKILL"), (-40, "by signal 40")],
)
def test_how_a_process_has_ended_is_said_of_any_status(status: int, says: str) -> None:
    assert says in how_ended(status)


#: Supervises two processes, one that lives long enough to count as started, and one that does not.
BACK_OFF = """
import sys, time
from pathlib import Path
from cli import supervisor as processes

processes.STARTED_S = 4
says = []
supervisor = processes.Supervisor(folder=Path(sys.argv[1]), environ={}, say=says.append)
supervisor.start("steady", ["python", "-c", "import time; time.sleep(5)"])
supervisor.start("broken", ["python", "-c", "raise SystemExit(1)"])
while len([line for line in says if "steady" in line]) < 2:
    supervisor.reap_and_restart()
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
    assert pauses["steady"] == ["0.5"] * 2
    assert pauses["broken"][:3] == ["0.5", "1", "2"]
