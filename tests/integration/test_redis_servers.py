"""Kinds of Redis that an installation may bring: Valkey, sentinels with a fail-over, a user with few rights; and those
that can't be used, which one line says.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from gateway.settings import Settings
from gateway.store.connection import connect
from tests.redis_servers import Server, sentinel, server, valkey
from tests.stack import REPOSITORY, Stack, chat, eventually, running

FAKE = {"fake": {"step_s": 0.02}}
#: What docs/redis.md gives a user of its own.
ACL = (
    "user headrace on >PASSWORD ~hr:* ~celery* ~*celery.pidbox* ~_kombu* ~unacked* ~model.* ~replica.* ~provider.* "
    "~gpu.* &* +@all -@admin -@dangerous +info +config|get"
)


def answers(stack: Stack, count: int = 4) -> None:
    """Several streams get all of their tokens."""
    for stream in [chat(stack, max_tokens=20) for _ in range(count)]:
        assert stream.join().error is None
        assert stream.finish_reason == "length"


def test_valkey_serves(tmp_path: Path) -> None:
    with server(tmp_path / "v", binary=valkey()) as found:
        with found.client() as client:
            assert "valkey_version" in client.info("server")
        with running(tmp_path / "s", FAKE, redis_url=f"redis://127.0.0.1:{found.port}/2") as stack:
            answers(stack)


def test_a_user_that_may_do_little_suffices(tmp_path: Path) -> None:
    rules = tmp_path / "users.acl"
    rules.write_text(f"user default on nopass ~* &* +@all\n{ACL}\n")
    assert ACL in (REPOSITORY / "docs" / "redis.md").read_text()
    with server(tmp_path / "r", "--aclfile", str(rules)) as found, found.client() as default:
        url = f"redis://headrace:PASSWORD@127.0.0.1:{found.port}/0"
        with running(tmp_path / "s", FAKE, redis_url=url) as stack:
            answers(stack)
        assert default.acl_log() == []


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[str, Server, Server]]:
    """A master and a replica of it, with a password, and the URL of their sentinel, which has another one."""
    with ExitStack() as stack:
        secured = ("--requirepass", "right", "--masterauth", "right")
        master = stack.enter_context(server(tmp_path / "m", *secured, ready=False))
        replica = stack.enter_context(
            server(tmp_path / "r", *secured, "--replicaof", "127.0.0.1", str(master.port), ready=False)
        )
        lines = ("sentinel auth-pass mymaster right", "requirepass other")
        watcher = stack.enter_context(sentinel(tmp_path / "w", master.port, *lines))
        eventually(lambda: is_synced(replica), "the replica has all")
        eventually(lambda: knows_replica(watcher), "the sentinel knows the replica")
        options = "master_name=mymaster&sentinel_password=other"
        yield f"sentinel://:right@127.0.0.1:{watcher.port},127.0.0.1:1/1?{options}", master, replica


def is_synced(replica: Server) -> bool:
    with redis.Redis(port=replica.port, password="right") as client:
        try:
            return bool(client.info("replication").get("master_link_status") == "up")
        except redis.exceptions.RedisError:
            return False


def knows_replica(watcher: Server) -> bool:
    with redis.Redis(port=watcher.port, password="other", decode_responses=True) as client:
        try:
            found: Any = client.sentinel_slaves("mymaster")
            return bool(found) and not found[0].get("is_disconnected")
        except redis.exceptions.RedisError:
            return False


def test_after_a_failover_streams_go_on_and_requests_are_served(
    watched: tuple[str, Server, Server], tmp_path: Path
) -> None:
    url, master, replica = watched
    with running(tmp_path / "s", FAKE, redis_url=url) as stack:
        answers(stack)
        streams = [chat(stack, max_tokens=400) for _ in range(4)]
        eventually(lambda: all(len(stream.ids) > 5 for stream in streams), "all run")
        master.kill()
        for stream in streams:
            assert stream.join().error is None
            assert stream.finish_reason == "length"
            assert len(stream.text.split()) == 400
        answers(stack)
        assert stack.redis.connection_pool.get_connection().port == replica.port
        # The broker has followed, too: commands reach the workers.
        replies = eventually(lambda: inspect(url, stack.settings.data_dir), "workers hear commands", 30)
        assert any(name.startswith("agent@") for name in replies)


def inspect(url: str, data_dir: Path) -> Any:
    from gateway.queue.celery_app import make_celery

    with make_celery(Settings(redis_url=url, data_dir=data_dir)) as app:
        return app.control.inspect(timeout=2).ping()


def worker(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """`headrace worker`, which is expected to end."""
    environ = {**os.environ, "HEADRACE_DATA_DIR": str(folder), **variables}
    command = [sys.executable, "-m", "cli.main", "worker"]
    return subprocess.run(command, check=False, env=environ, cwd=REPOSITORY, capture_output=True, text=True, timeout=90)


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def test_a_worker_that_was_told_no_redis_says_so_once(tmp_path: Path) -> None:
    text = one_line(worker(tmp_path, HEADRACE_REDIS_URL=""))
    assert "HEADRACE_REDIS_URL is not set" in text
    assert "headrace join" in text


def test_a_worker_whose_redis_does_not_answer_says_so_once(tmp_path: Path) -> None:
    text = one_line(worker(tmp_path, HEADRACE_REDIS_URL="redis://:s3cret@127.0.0.1:1/0"))
    assert "Redis at redis://:***@127.0.0.1:1/0 does not answer" in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("options", "url", "said"),
    [
        (("--requirepass", "right"), "redis://127.0.0.1:{port}", "wants a password"),
        (("--requirepass", "right"), "redis://:wrong@127.0.0.1:{port}", "refuses the user or password"),
        (("--cluster-enabled", "yes"), "redis://127.0.0.1:{port}", "is part of a cluster, which is not supported"),
        (("--maxmemory-policy", "allkeys-lru"), "redis://127.0.0.1:{port}", "maxmemory-policy is allkeys-lru"),
    ],
)
def test_a_redis_that_can_not_be_used_is_refused_in_one_line(
    options: tuple[str, ...], url: str, said: str, tmp_path: Path
) -> None:
    with server(tmp_path / "r", *options, ready=False) as found:
        eventually(lambda: is_listening(found), "it listens")
        text = one_line(worker(tmp_path / "d", HEADRACE_REDIS_URL=url.format(port=found.port)))
        assert said in text


def is_listening(found: Server) -> bool:
    try:
        with found.client() as client:
            client.ping()
    except redis.exceptions.ResponseError:
        return True
    except redis.exceptions.ConnectionError as error:
        return isinstance(error, redis.exceptions.AuthenticationError)
    return True


def test_connections_are_of_the_master_that_sentinels_name(watched: tuple[str, Server, Server]) -> None:
    url, master, replica = watched
    with connect(Settings(redis_url=url), retries=3) as client:
        client.set("a", 1)
        with redis.Redis(port=master.port, password="right", db=1) as direct:
            assert direct.get("a") == b"1"
        eventually(lambda: is_synced(replica), "the replica has all")
        master.kill()

        def written() -> bool:
            try:
                return bool(client.set("a", 2))
            except redis.exceptions.RedisError:
                return False

        eventually(written, "the new master takes it")
        with redis.Redis(port=replica.port, password="right", db=1) as direct:
            assert direct.get("a") == b"2"
