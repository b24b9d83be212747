"""The `headrace` command as a user runs it: up, status, logs, chat, key, down, and everything gone afterwards."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from gateway.cluster.startup import STAGES
from tests.homes import Home, new_home
from tests.stack import eventually, family

#: How long `headrace up` may take on a busy machine.
UP_S = 150


def gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return new_home(tmp_path_factory.mktemp("h"))


@pytest.fixture(scope="module")
def up(home: Home) -> Iterator[subprocess.Popen[bytes]]:
    """A running `headrace up`, which ends with all that it started at a Ctrl-C."""
    process = home.start("up")
    try:
        deadline = time.monotonic() + UP_S
        while "Ctrl-C ends everything" not in home.said:
            assert process.poll() is None, home.said
            assert time.monotonic() < deadline, f"not up within {UP_S} s: {home.said}"
            time.sleep(0.05)
        yield process
        processes = family(process.pid)
        assert len(processes) > 5
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert gone(processes)
        assert "nothing is left running" in home.said
    finally:
        if process.poll() is None:
            for one in family(process.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            process.wait(60)


@pytest.mark.usefixtures("up")
def test_up_shows_an_answer_and_a_request_that_can_be_pasted(home: Home) -> None:
    said = home.said
    assert "fake: active" in said
    assert "  fake   w" in said, "the streamed answer"
    curl = said[said.index("curl -N") :].split("\n\n")[0]
    pasted = subprocess.run(["sh", "-c", f"set -e; {curl}"], capture_output=True, text=True, timeout=60, check=True)
    assert pasted.stdout.endswith("data: [DONE]\n\n")


@pytest.mark.usefixtures("up")
def test_status_and_logs_tell_what_runs(home: Home) -> None:
    status = home.command("status")
    assert status.returncode == 0
    for name in ("redis", "web", "rpc", "agent", "provider", "keeper", "flower"):
        assert f"  {name}" in status.stdout
    assert "ready    yes" in status.stdout
    assert "redis    append-only file on, synced each second" in status.stdout
    assert "fake." in status.stdout
    assert "remote   openai: healthy" in status.stdout
    assert "anthropic" not in status.stdout, "its key is not set"
    assert "ready" in home.command("logs", "agent").stdout
    unknown = home.command("logs", "nobody")
    assert unknown.returncode == 1
    assert "there are: agent" in unknown.stdout


@pytest.mark.usefixtures("up")
def test_the_doctor_finds_nothing(home: Home) -> None:
    doctor = home.command("doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert "'headrace up' is process" in doctor.stdout
    assert " has answered in " in doctor.stdout, doctor.stdout
    assert re.search(r"flower +answers, and takes \d+\S* MB and \d+\.\d% of a core since it began", doctor.stdout)


@pytest.mark.usefixtures("up")
def test_a_chat_in_the_terminal(home: Home) -> None:
    talk = home.command("chat", "fake", "--max-tokens", "3", stdin="hello\nagain\n/clear\n/exit\n")
    assert talk.returncode == 0
    assert talk.stdout.count("fake>  w") == 2
    unknown = home.command("chat", "nothing", stdin="")
    assert unknown.returncode == 1
    assert "There is no model 'nothing'" in unknown.stdout


@pytest.mark.usefixtures("up")
def test_keys_are_made_listed_and_revoked(home: Home) -> None:
    secret = home.command("key", "create", "team-a").stdout.strip().splitlines()[-1]
    url = f"http://127.0.0.1:{home.environ['HEADRACE_HTTP_PORT']}/models"
    headers = {"Authorization": f"Bearer {secret}"}
    assert httpx.get(url, headers=headers).status_code == 200
    listed = home.command("key", "list").stdout
    line = next(line for line in listed.splitlines() if "team-a" in line)
    assert secret not in listed
    assert home.command("key", "revoke", line.split()[0]).returncode == 0
    assert httpx.get(url, headers=headers).status_code == 401


def test_a_crashed_process_is_started_again_and_said_so(home: Home, up: subprocess.Popen[bytes]) -> None:
    (web,) = [p for p in family(up.pid)[1:] if p.ppid() == up.pid and "web.wsgi_server" in p.cmdline()]
    web.kill()
    eventually(lambda: "web was killed by SIGKILL; it starts again" in home.said, "it is said")
    eventually(lambda: "ready    yes" in home.command("status").stdout, "it is back")


@pytest.mark.usefixtures("up")
def test_flower_shows_workers_by_name_and_their_tasks(home: Home) -> None:
    url = f"http://127.0.0.1:{home.environ['HEADRACE_FLOWER_PORT']}"
    password = (home.folder / "var" / "keys" / "flower.password").read_text().strip()
    assert httpx.get(f"{url}/api/workers").status_code == 401
    with httpx.Client(base_url=url, auth=("admin", password), timeout=60) as flower:
        home.command("chat", "fake", "--max-tokens", "1", stdin="x\n/exit\n")

        def seen() -> bool:
            workers = flower.get("/api/workers", params={"refresh": "1"}).json()
            tasks = flower.get("/api/tasks").json().values()
            names = {name.split("@")[0].split(".")[0] for name in workers}
            jobs = [t for t in tasks if t["uuid"].startswith("chatcmpl-") and t["state"] == "SUCCESS"]
            return {"agent", "fake"} <= names and bool(jobs) and {t["name"] for t in jobs} == {"headrace.generate"}

        eventually(seen, "Flower knows the workers and a task")


@pytest.mark.usefixtures("up")
def test_a_second_one_in_the_same_folder_is_refused(home: Home) -> None:
    second = home.command("up")
    assert second.returncode == 1
    assert "runs already" in second.stdout


@pytest.mark.usefixtures("up")
def test_models_are_deployed_listed_and_unloaded(home: Home, tmp_path: Path) -> None:
    plan = home.command("deploy", "water", "--dry-run")
    assert plan.returncode == 0, plan.stdout
    assert json.loads(plan.stdout[plan.stdout.index("{") :])["fits"] is True
    node = Home(tmp_path, {**home.environ, "HEADRACE_REDIS_URL": f"unix://{home.folder}/var/redis.sock"})
    worker = node.start("worker", "--node", "second")
    try:
        eventually(lambda: "ready." in node.said, "the node has joined")
        unknown = home.command("deploy", "water", "--node", "third")
        assert unknown.returncode == 1
        assert "There is no node 'third'" in unknown.stdout
        deployed = home.command("deploy", "water", "--node", "second", "--max-batch-size", "2")
        assert deployed.returncode == 0, deployed.stdout
        for stage in STAGES:
            assert f"  {stage}: completed" in deployed.stdout
        assert "second.cpu0: healthy" in home.command("models").stdout
        talk = home.command("chat", "water", "--max-tokens", "2", stdin="hello\n/exit\n")
        assert talk.returncode == 0, talk.stdout
        assert "water>  w" in talk.stdout
        unloaded = home.command("unload", "water")
        assert unloaded.returncode == 0, unloaded.stdout
        assert "water: gone" in unloaded.stdout
        assert "second.cpu0" not in home.command("models").stdout
        again = home.command("unload", "water")
        assert "is not deployed" in again.stdout
    finally:
        worker.send_signal(signal.SIGINT)
        assert worker.wait(60) == 0


@pytest.fixture
def left(tmp_path: Path) -> Iterator[Home]:
    """A home in which what a failed test has left running is ended."""
    home = new_home(tmp_path)
    yield home
    home.command("down")


@pytest.mark.slow
def test_detach_returns_when_it_is_up_and_down_ends_it(left: Home) -> None:
    home = left
    assert home.command("status").returncode == 3
    detached = home.command("up", "--detach")
    assert detached.returncode == 0, detached.stdout
    assert "'headrace down' ends it" in detached.stdout
    processes = family(int(home.command("status").stdout.split("process ")[1].split(",")[0]))
    assert home.command("down").returncode == 0
    assert gone(processes)
    assert "nothing runs" in home.command("down").stdout
    # What was deployed comes back by itself.
    again = home.command("up", "--detach")
    assert again.returncode == 0, again.stdout
    assert "service_registration" in detached.stdout
    assert "service_registration" not in again.stdout
    assert "fake: active" in again.stdout
    assert home.command("down").returncode == 0


def test_what_can_not_work_is_said_in_one_line(tmp_path: Path) -> None:
    """Each mistake has its sentence, see unit/test_preflight.py."""
    home = new_home(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        cases = [
            ({"HEADRACE_HTTP_PORT": port}, f"Port {port} on 127.0.0.1 can't be used"),
            ({"HEADRACE_HTTP_PORT": "many"}, "it must be a whole number"),
        ]
        for environ, says in cases:
            result = home.command("up", **environ)
            assert result.returncode == 1, (environ, result.stdout)
            assert says in result.stdout, result.stdout
            assert "Traceback" not in result.stdout, result.stdout
