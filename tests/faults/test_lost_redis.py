"""Redis comes back without its data: that is noticed, and not taken for a new installation."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from gateway.settings import Settings
from gateway.store import keys
from gateway.store.installation import Installation
from tests.homes import new_home
from tests.stack import KEY, REPOSITORY, Stack, chat, eventually, running
from workers.engines.fake import fake_token
from workers.keeper.keeper import Keeper

TOKENS = 60


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A system whose model takes a while for an answer."""
    with running(tmp_path, {"fake": {"step_s": 0.03}}, bootstrap_key=KEY, grace_s=10.0) as stack:
        eventually((stack.folder / "installation").exists, "the data folder knows its installation")
        yield stack


def empty_redis(stack: Stack) -> None:
    """Kill Redis, and start it on an empty disk; what it held is kept aside."""
    stack.kill("redis")
    (stack.folder / "redis").rename(stack.folder / "kept")
    (stack.folder / "redis").mkdir()
    stack.start_redis()


def reason(stack: Stack, path: str = "/models") -> str:
    """Why a call is refused; empty if it is not."""
    with stack.client() as client:
        response = client.get(path)
        if response.status_code == 200:
            return ""
        body = response.json()
        return str(body["error"]["code"] if "error" in body else body["data"]["reason"])


def readiness(stack: Stack) -> str:
    """What readiness says of Redis."""
    with stack.client() as client:
        return str(client.get("/health/ready").json()["data"]["redis"])


def test_an_empty_redis_ends_no_stream_and_no_replica(stack: Stack) -> None:
    engine = stack.replica().engine_pid
    streams = [chat(stack, max_tokens=TOKENS) for _ in range(4)]
    eventually(lambda: all(len(stream.ids) > 5 for stream in streams), "all streams run")
    empty_redis(stack)
    for stream in streams:
        stream.join()
        assert stream.error is None
        assert stream.text.split() == [f"w{fake_token(f'{stream.job_id}/0', i)}" for i in range(TOKENS)]
    assert {reason(stack, path) for path in ("/models", "/jobs", "/v1/models")} == {"store_lost"}
    eventually(lambda: readiness(stack) == "lost", "readiness says so")
    eventually(lambda: "IS LOST" in stack.logs(), "the logs say so")
    eventually(lambda: stack.redis.exists(keys.KEEPER), "the keeper has made a round")
    assert not stack.redis.exists(keys.INSTALLATION)
    time.sleep(2 * stack.settings.lease_s)  # the agent, and the model worker, have seen that nobody wants the replica
    assert psutil.pid_exists(engine)
    assert stack.replica().status == "active"


def test_restored_data_are_taken_up_without_a_restart(stack: Stack) -> None:
    engine = stack.replica().engine_pid
    empty_redis(stack)
    eventually(lambda: reason(stack) == "store_lost", "it is noticed")
    stack.kill("redis")
    shutil.rmtree(stack.folder / "redis")
    (stack.folder / "kept").rename(stack.folder / "redis")
    stack.start_redis()
    eventually(lambda: reason(stack) == "", "it is served again")
    assert chat(stack, max_tokens=3).join().error is None
    assert stack.replica().engine_pid == engine


def test_an_accepted_loss_is_a_new_beginning(stack: Stack) -> None:
    empty_redis(stack)
    eventually(lambda: reason(stack) == "store_lost", "it is noticed")
    accept = subprocess.run(
        [sys.executable, "-m", "cli.main", "accept-empty-redis"],
        cwd=REPOSITORY,
        env={**os.environ, **stack.settings.environ()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert accept.returncode == 0, accept.stderr
    eventually(lambda: reason(stack) == "", "the bootstrap key works")
    eventually(lambda: not stack.registry.replicas(), "what nobody wants any more ends")
    stack.put("fake", {"step_s": 0.0})
    stack.wait_active(1)
    assert chat(stack, max_tokens=3).join().error is None
    assert "IS LOST" not in (stack.folder / "logs" / "keeper.log").read_text().split("belongs to installation")[-1]


@pytest.mark.slow
def test_up_refuses_an_empty_redis_until_it_is_accepted(tmp_path: Path) -> None:
    home = new_home(tmp_path)
    home.environ["HEADRACE_APPENDFSYNC"] = "always"

    def start(*options: str) -> subprocess.Popen[bytes]:
        process = home.start("up", *options)
        eventually(lambda: process.poll() is not None or "Ctrl-C ends everything" in home.said, "it is up", 150)
        assert process.poll() is None, home.said
        return process

    start()
    try:
        assert "synced at each write" in home.said
        shutil.rmtree(Path(home.data) / "redis")
        status = json.loads((Path(home.data) / "run" / "status.json").read_text())
        os.kill(status["processes"]["redis"]["pid"], signal.SIGKILL)
        eventually(lambda: "LOST ITS DATA" in home.command("status").stdout, "status says so")
        assert home.command("down").returncode == 0
        refused = home.command("up")
        assert refused.returncode == 1
        assert "--accept-empty-redis" in refused.stdout
        start("--accept-empty-redis")
        assert "fake: active" in home.said
    finally:
        assert home.command("down").returncode == 0
        for process in home.started:
            process.wait(60)


def test_only_a_new_installation_gets_an_id(settings: Settings, redis_client: redis.Redis, keeper: Keeper) -> None:
    keeper.round()
    first = redis_client.get(keys.INSTALLATION)
    assert first == (settings.data_dir / "installation").read_text()
    redis_client.delete(keys.INSTALLATION)
    keeper.round()
    assert Installation(redis_client, settings.data_dir).begin()
    assert not redis_client.exists(keys.INSTALLATION)


def test_another_redis_is_a_choice_at_the_start_and_a_loss_later(
    settings: Settings, redis_client: redis.Redis, tmp_path: Path
) -> None:
    living = Installation(redis_client, settings.data_dir)
    assert not living.begin()
    redis_client.set(keys.INSTALLATION, "another")
    assert living.check()
    assert not Installation(redis_client, settings.data_dir).check()
    elsewhere = Installation(redis_client, tmp_path / "elsewhere")
    elsewhere.accept()
    assert not living.check()
