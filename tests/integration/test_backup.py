"""`headrace backup` and `restore`: a new installation from a file, and files that are refused."""

from __future__ import annotations

import json
import os
import stat
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from gateway.access.api_keys import Credentials
from gateway.access.join_tokens import JoinTokens
from gateway.cluster.desired import Desired, ReplicaSpec
from gateway.errors import Conflict, Unreadable
from gateway.models.catalog_store import Added, CatalogStore
from gateway.store import backup, keys
from gateway.store.backup import Item
from gateway.store.installation import Installation
from tests.commands import Command, Said, run
from tests.rpc import start_rpc
from tests.stack import KEY, Stack, eventually, running

CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}


def environ(**own: str) -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}, **own}


def headrace(*arguments: str, **own: str) -> Said:
    (said,) = run([Command(arguments)], environ(**own))
    return said


def items_of(path: Path) -> list[Item]:
    return parsed(path.read_text().splitlines(keepends=True))


def parsed(lines: list[str]) -> list[Item]:
    backup.check(lines)
    return list(backup.items(lines))


def test_a_new_installation_from_a_backup_answers_a_request_with_an_old_key(tmp_path: Path) -> None:
    """Its desired state, usage, added model, join token, audit log and CA are there, too; jobs are not."""
    file = tmp_path / "headrace.backup"
    with running(tmp_path / "a", {"fake": {}}) as old:
        start_rpc(old)
        with old.client() as client:
            made = client.post("/keys", json={"name": "ann"}).json()["data"]
            client.post("/models", json={"id": "mine", "model": {"capabilities": ["chat"], "engine": "fake"}})
        with old.client(made["secret"]) as ann:
            job_id = ann.post("/models/fake/chat/completions", json=CHAT).json()["data"]["id"]
            usage = eventually(lambda: ann.get("/usage").json()["data"]["usage"], "it is in the ledger")
        token, _ = JoinTokens(old.redis, lambda: old.store.clock.now_ms() / 1000).create(ttl_s=3600, uses=2)
        said = headrace("backup", str(file), **old.settings.environ())
        assert (said.status, said.stderr) == (0, "")
        assert "2 keys, 1 added models, 1 replicas and 1 days of usage" in said.stdout
        again = headrace("backup", str(file), **old.settings.environ())
        assert (again.status, again.stderr) == (1, f"Error: {file} exists already. Name another file, or remove it.\n")
        ca, installation = (old.folder / "tls" / "ca.pem").read_text(), old.redis.get(keys.INSTALLATION)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with closing(Stack(tmp_path / "b")) as new:
        new.start_redis()
        said = headrace("restore", str(file), **new.settings.environ())
        assert (said.status, said.stderr) == (0, "")
        new.up_over_redis({})
        new.wait_active(1)
        with new.client(made["secret"]) as ann:
            assert ann.get("/usage").json()["data"]["usage"] == usage
            assert ann.get(f"/jobs/{job_id}").status_code == 404
            assert (
                ann.post("/models/fake/chat/completions", json=CHAT).json()["data"]["usage"]["completion_tokens"] == 3
            )
        with new.client() as client:
            assert client.get("/models/mine").status_code == 200
            assert [one["action"] for one in client.get("/audit").json()["data"]["entries"]] == [
                "model.add",
                "key.create",
            ]
            assert [one["id"] for one in client.get("/join-tokens").json()["data"]["tokens"]] == [token.id]
        assert (new.folder / "tls" / "ca.pem").read_text() == ca
        assert new.redis.get(keys.INSTALLATION) == installation
        said = headrace("restore", str(file), **new.settings.environ())
        assert said.status == 1
        assert "Redis holds an installation already (hr:installation, hr:keys, hr:catalog" in said.stderr


def test_the_embedded_redis_is_started_where_it_does_not_run(tmp_path: Path, redis_client: redis.Redis) -> None:
    file, copy = tmp_path / "first", tmp_path / "second"
    _, secret = Credentials(redis_client).create("ann")
    Installation(redis_client, tmp_path / "nowhere").begin()
    items = list(backup.snapshot(redis_client))
    file.write_text("".join(backup.lines(items, installation="i", now_ms=1)))
    folder = {"HEADRACE_DATA_DIR": str(tmp_path / "var")}
    restored, saved = run([Command(("restore", str(file))), Command(("backup", str(copy)))], environ(**folder))
    assert (restored.status, restored.stderr, saved.status, saved.stderr) == (0, "", 0, "")
    assert items_of(copy) == items_of(file)
    assert secret not in copy.read_text()


def filled(client: redis.Redis) -> list[Item]:
    """An installation with something of each kind."""
    credentials = Credentials(client)
    record, _ = credentials.create("ann", ("admin",))
    credentials.rotate(record.id, grace_s=600)
    CatalogStore(client).add("mine", Added({"capabilities": ["chat"]}))
    Desired(client).put(ReplicaSpec("r1", "mine", "n1", "cpu0"))
    JoinTokens(client, lambda: 2_000_000_000.0).create(ttl_s=60, uses=1)
    client.sadd(keys.NODES, "n1")
    client.hset(keys.node("n1"), "label:zone", "a")
    client.hset(keys.usage(record.id, "2026-01-31"), "10 jobs EUR mine", 4)
    client.expire(keys.usage(record.id, "2026-01-31"), 1_000)
    client.xadd(keys.AUDIT, {"e": "{}"})
    client.set(keys.INSTALLATION, "i")
    client.hset(keys.job("chatcmpl-1"), "state", "queued")
    return list(backup.snapshot(client))


def test_what_is_restored_is_what_was_backed_up(redis_client: redis.Redis) -> None:
    """Of every kind, with its end; and an old secret still holds."""
    items = filled(redis_client)
    assert {item.name.split(":")[1] for item in items} == {
        *("keys", "key", "catalog", "places", "desired", "join-tokens", "join-token", "nodes", "node"),
        *("usage", "audit", "installation"),
    }
    assert len([item for item in items if item.name.startswith("hr:key:")]) == 2
    assert {item.name.split(":")[1] for item in items if item.expires_at} == {"usage", "join-token"}
    lines = list(backup.lines(items, installation="i", now_ms=1))
    redis_client.flushdb()
    backup.restore(redis_client, parsed(lines))
    again = list(backup.snapshot(redis_client))
    assert list(backup.lines(again, installation="i", now_ms=1)) == lines
    assert not redis_client.exists(keys.job("chatcmpl-1"))


def test_a_key_that_is_made_meanwhile_is_there_whole_or_not_at_all(redis_client: redis.Redis) -> None:
    """The snapshot begins again when it is of no single moment."""
    filled(redis_client)
    other = Credentials(redis_client)
    real, made = redis.client.Pipeline.multi, []

    def disturbed(pipe: redis.client.Pipeline) -> None:
        if not made:
            made.append(other.create("late")[0].id)
        real(pipe)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis.client.Pipeline, "multi", disturbed)
        values = {item.name: item.value for item in backup.snapshot(redis_client)}
    assert values[keys.API_KEYS].keys() >= set(made)
    assert all(keys.api_key(digest) in values for digest in values[keys.API_KEYS].values())


def test_an_interrupted_restore_is_no_installation_and_can_be_begun_again(redis_client: redis.Redis) -> None:
    found = filled(redis_client)
    redis_client.flushdb()

    def cut_off() -> Iterator[Item]:
        yield from found[:-1]
        raise OSError("cut off")

    with pytest.raises(OSError, match="cut off"):
        backup.restore(redis_client, cut_off())
    backup.require_empty(redis_client)
    backup.restore(redis_client, found)
    assert list(backup.snapshot(redis_client)) == found


def test_a_longer_ledger_takes_no_more_memory(redis_client: redis.Redis, tmp_path: Path) -> None:
    """A backup is written and read item by item; only a part of the ledger is held at once."""
    filled(redis_client)
    peaks = []
    for batches in (2, 8):
        pipe = redis_client.pipeline(transaction=False)
        for i in range(batches * backup.BATCH):
            pipe.hset(keys.usage("ann", f"2026-{i:05d}"), "10 jobs EUR mine", "4" * 2_000)
        pipe.execute()
        tracemalloc.start()
        with (tmp_path / f"{batches}").open("w") as file:
            file.writelines(backup.lines(backup.snapshot(redis_client), installation="i", now_ms=1))
        redis_client.flushdb()
        with (tmp_path / f"{batches}").open() as file:
            backup.check(file)
            file.seek(0)
            backup.restore(redis_client, backup.items(file))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_names_hold_line_separators_of_any_kind(redis_client: redis.Redis, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    name = "a\u2028b\x85c\x0bd"
    Credentials(redis_client).create(name)
    Installation(redis_client, tmp_path / "nowhere").begin()
    file.write_text("".join(backup.lines(backup.snapshot(redis_client), installation="i", now_ms=1)))
    restored = headrace("restore", str(file), "--json", HEADRACE_DATA_DIR=str(tmp_path / "var"))
    assert (restored.status, restored.stderr) == (0, "")
    assert json.loads(restored.stdout)["keys"] == 1


def cut(lines: list[str]) -> list[str]:
    return lines[:-1]


def changed(lines: list[str]) -> list[str]:
    return [line.replace('"ann"', '"eve"') for line in lines]


def of_version_9(lines: list[str]) -> list[str]:
    return [json.dumps({**json.loads(lines[0]), "version": 9}) + "\n", *lines[1:]]


def foreign(_: list[str]) -> list[str]:
    stray = Item(keys.RUNNING, "hash", {"a": "b"})
    return list(backup.lines([stray], installation="i", now_ms=1))


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda _: [], "It is no backup of Headrace."),
        (lambda _: ["\x00REDIS0011\n"], "It is no backup of Headrace."),
        (cut, "It is cut off: its last line is missing."),
        (changed, "It was changed, or is damaged: its checksum is another one."),
        (of_version_9, "It is of version 9, made by Headrace"),
        (foreign, "It has 'hr:running' of the type 'hash', which is nothing that lasts."),
    ],
)
def test_a_wrong_file_is_refused(redis_client: redis.Redis, spoil: Callable[[list[str]], list[str]], text: str) -> None:
    lines = list(backup.lines(filled(redis_client), installation="i", now_ms=1))
    with pytest.raises(Unreadable, match=f"^{text[:25]}") as caught:
        parsed(spoil(lines))
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("kind", "value", "expires_at"),
    [
        ("string", 5, 0),
        ("string", "1", -1),
        ("string", "1", 10**17),
        ("hash", [], 0),
        ("hash", {}, 0),
        ("hash", {"a": None}, 0),
        ("set", ["a", 5], 0),
        ("set", "abc", 0),
        ("stream", ["x"], 0),
        ("stream", [["x", {"e": "1"}]], 0),
        ("stream", [["1-1", {}]], 0),
        ("file", None, 0),
    ],
)
def test_a_value_of_another_form_is_refused(kind: str, value: object, expires_at: int) -> None:
    name = next((name for name, of in backup.NAMES.items() if of == kind), "keys/bootstrap")
    with pytest.raises(Unreadable, match="is no value of the type"):
        parsed(list(backup.lines([Item(name, kind, value, expires_at)], installation="i", now_ms=1)))


def test_a_backup_of_a_time_that_can_not_be_is_refused() -> None:
    with pytest.raises(Unreadable, match="which is no time"):
        parsed(list(backup.lines([], installation="i", now_ms=10**17)))


def test_nothing_is_written_into_an_installation_that_has_begun(redis_client: redis.Redis) -> None:
    items = filled(redis_client)
    redis_client.flushdb()
    redis_client.hset(keys.CATALOG, "mine", "{}")
    with pytest.raises(Conflict, match="Redis holds an installation already"):
        backup.restore(redis_client, items)
    assert redis_client.keys("*") == [keys.CATALOG]


def test_the_command_names_the_file_and_what_is_wrong(tmp_path: Path) -> None:
    wrong, folder = tmp_path / "wrong", {"HEADRACE_DATA_DIR": str(tmp_path / "var")}
    wrong.write_text("PNG")
    said: Any = headrace("restore", str(wrong), **folder)
    assert (said.status, said.stderr) == (1, f"Error: {wrong}: It is no backup of Headrace.\n")
    said = headrace("restore", str(tmp_path / "absent"), **folder)
    assert (said.status, said.stderr) == (1, f"Error: {tmp_path}/absent can't be read: No such file or directory.\n")
    said = headrace("backup", str(tmp_path / "none"), **folder)
    assert said.status == 1
    assert "There is nothing to back up" in said.stderr
    assert KEY not in said.stderr
