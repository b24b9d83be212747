"""The audit log: each change of keys, models and deployments with who made it, and no secret."""

from __future__ import annotations

import json
import os
from typing import Any

import httpx
import pytest
import redis
from google.protobuf.json_format import MessageToDict

from gateway.access.api_keys import Credentials
from gateway.access.audit import MAX_ENTRIES, AuditLog
from gateway.access.key_record import KeyRecord
from gateway.store import keys
from tests.commands import Command, run
from tests.deployments import deploy, ended
from tests.rpc import Client
from tests.stack import KEY, Stack, eventually
from web.rpc.stubs import model_pb2 as pb

ASYNC = {"Prefer": "respond-async"}
ADMIN = KeyRecord("id", "ann", "hr-", ("admin",), 0)


def newest(client: httpx.Client, count: int) -> list[dict[str, Any]]:
    """The newest changes, oldest first."""
    response = client.get("/audit", params={"limit": count})
    assert response.status_code == 200, response.text
    return list(response.json()["data"]["entries"])[::-1]


def did(entries: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(entry["action"], entry["target"]) for entry in entries]


def test_what_is_changed_is_noted_with_who_did_it(stack: Stack, client: httpx.Client, rpc: Client) -> None:
    """Keys, on both faces and by a command on the gateway's machine."""
    record, admin = Credentials(stack.redis).create("auditor", ("admin",))
    made = client.post("/keys", json={"name": "noted", "requests_per_minute": 9}).json()["data"]
    key_id = made["id"]
    with stack.client(admin) as other:
        other.patch(f"/keys/{key_id}", json={"name": "renamed"}).raise_for_status()
    rotated = rpc.call("RotateKey", pb.RotateKeyRequest(key_id=key_id, grace_s=60))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    (done,) = run([Command(("key", "revoke", key_id))], {**environ, **stack.settings.environ()})
    assert done.status == 0, done.stderr
    entries = newest(client, 4)
    assert did(entries) == [(f"key.{what}", key_id) for what in ("create", "update", "rotate", "revoke")]
    assert [entry["face"] for entry in entries] == ["rest", "rest", "grpc", "cli"]
    assert [entry["key_name"] for entry in entries] == ["bootstrap", "auditor", "bootstrap", f"uid:{os.getuid()}"]
    assert (entries[1]["key_id"], entries[3]["key_id"]) == (record.id, "")
    assert entries[0]["details"] == {"name": "noted", "scopes": ["inference"], "requests_per_minute": 9, "weight": 1}
    assert [entry["details"] for entry in entries[1:]] == [{"name": "renamed"}, {"grace_s": 60}, {}]
    assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)
    kept = json.dumps(stack.redis.xrange(keys.AUDIT))
    assert all(secret not in kept for secret in (made["secret"], rotated.secret, admin, KEY))


def test_what_an_admin_does_to_the_jobs_of_others_is_noted(stack: Stack, client: httpx.Client, rpc: Client) -> None:
    """On both faces, and once; what one does to one's own jobs is not."""
    owner, secret = Credentials(stack.redis).create("owner")
    with stack.client(secret) as theirs:
        asked = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 100_000}
        jobs = [theirs.post("/models/fake/chat/completions", json=asked, headers=ASYNC).json() for _ in range(3)]
        first, second, third = (job["data"]["job_id"] for job in jobs)
        again = client.post(f"/jobs/{first}/replay").json()["data"]["job_id"]
        for _ in range(2):
            client.delete(f"/jobs/{first}").raise_for_status()
            eventually(lambda: client.get(f"/jobs/{first}").json()["data"]["finished_at"], "it has ended")
        rpc.call("CancelJob", pb.CancelJobRequest(job_id=second))
        theirs.delete(f"/jobs/{third}").raise_for_status()
        client.delete(f"/jobs/{again}").raise_for_status()
        assert theirs.post(f"/jobs/{again}/replay").status_code == theirs.delete(f"/jobs/{again}").status_code == 404
    entries = newest(client, 3)
    assert did(entries) == [("job.replay", first), ("job.cancel", first), ("job.cancel", second)]
    assert [entry["face"] for entry in entries] == ["rest", "rest", "grpc"]
    assert entries[0]["details"] == {"key_id": owner.id, "job_id": again}
    assert all(entry["details"]["key_id"] == owner.id for entry in entries)
    assert client.get(f"/jobs/{again}").json()["data"]["key_id"] != owner.id, "a replay is on the account of who asks"


def test_changes_of_models_and_deployments_are_noted(stack: Stack, client: httpx.Client, rpc: Client) -> None:
    table = {"capabilities": ["chat"], "engine": "fake"}
    client.post("/models", json={"id": "audited", "model": table}).raise_for_status()
    client.patch("/models/audited", json={"name": "Audited"}).raise_for_status()
    body = {"model_type": "audited", "deployment_config": {"max_batch_size": 2}}
    dry = {**body, "dry_run": True}
    assert client.post("/models/local/deploy", json=dry).status_code == 200
    begun = client.post("/models/local/deploy", json=body).json()["data"]
    client.delete(begun["progress_url"]).raise_for_status()
    ended(client, begun)
    assert ended(client, deploy(client, "audited"))["status"] == "completed"
    rpc.call("UnloadLocalModel", pb.UnloadLocalModelRequest(model_id="audited"))
    client.delete("/models/audited").raise_for_status()
    assert client.delete("/models/audited").status_code == 404
    entries = [entry for entry in newest(client, 8) if "audited" in json.dumps(entry)]
    assert did(entries)[:6] == [
        ("model.add", "audited"),
        ("model.change", "audited"),
        ("model.deploy", "audited"),
        ("deployment.cancel", begun["deployment_id"]),
        ("model.deploy", "audited"),
        ("model.unload", "audited"),
    ]
    assert entries[0]["details"] == {"fields": ["capabilities", "engine"]}
    assert entries[1]["details"] == {"fields": ["name"]}
    assert entries[2]["details"] == {**body, "deployment_id": begun["deployment_id"]}
    assert did(entries)[-1] == ("model.remove", "audited")


def test_drains_and_cordons_of_nodes_are_noted(stack: Stack, client: httpx.Client, rpc: Client) -> None:
    client.post("/nodes/n1/cordon").raise_for_status()
    rpc.call("UncordonNode", pb.UncordonNodeRequest(name="n1"))
    assert client.post("/nodes/n7/cordon").status_code == 404
    entries = newest(client, 2)
    assert did(entries) == [("node.cordon", "n1"), ("node.uncordon", "n1")]
    assert [entry["face"] for entry in entries] == ["rest", "grpc"]


def test_who_signs_in_at_the_dashboard_is_noted_if_it_may_change_something(stack: Stack, client: httpx.Client) -> None:
    """Other keys could push all else out of the log."""
    record, secret = Credentials(stack.redis).create("deployer", ("deploy",))
    _, guest = Credentials(stack.redis).create("guest")
    for key in (secret, guest):
        with stack.client("") as page:
            page.headers["X-Headrace-Dashboard"] = "1"
            page.post("/dashboard/session", json={"key": key}).raise_for_status()
            for _ in range(2):
                page.delete("/dashboard/session").raise_for_status()
    entries = newest(client, 2)
    assert did(entries) == [("session.begin", record.id), ("session.end", record.id)]
    assert {entry["key_name"] for entry in entries} == {"deployer"}


def test_pages_go_on_behind_the_last_entry_on_both_faces(stack: Stack, client: httpx.Client, rpc: Client) -> None:
    audit = AuditLog(stack.redis, "rest")
    for i in range(5):
        audit.note(ADMIN, "key.create", f"key-{i}", number=i)
    page = client.get("/audit", params={"limit": 2}).json()["data"]
    audit.note(ADMIN, "key.create", "key-5")
    behind = client.get("/audit", params={"limit": 3, "cursor": page["next_cursor"]}).json()["data"]
    assert [entry["target"] for entry in (*page["entries"], *behind["entries"])] == [
        f"key-{i}" for i in range(4, -1, -1)
    ]
    twin = rpc.call("ListAudit", pb.ListAuditRequest(limit=3, cursor=page["next_cursor"]))
    assert (twin.next_cursor or None) == behind["next_cursor"]
    fields = MessageToDict(twin, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    assert fields["entries"] == behind["entries"]


def test_only_admins_read_it_and_a_wrong_cursor_is_refused(stack: Stack, client: httpx.Client) -> None:
    _, secret = Credentials(stack.redis).create("curious", ("inference", "deploy"))
    with stack.client(secret) as curious:
        assert curious.get("/audit").status_code == 403
    wrong = client.get("/audit", params={"cursor": "+"})
    assert (wrong.status_code, wrong.json()["data"]["errors"]) == (
        422,
        {"cursor": ["Got '+'; must be the next_cursor of another page."]},
    )


def test_the_command_shows_the_newest_last(stack: Stack) -> None:
    AuditLog(stack.redis, "rest").note(ADMIN, "model.scale", "fake", replicas=2)
    shown, as_json = run(
        [Command(("audit", "-n", "2")), Command(("audit", "-n", "1", "--json"))],
        {**os.environ, **stack.settings.environ(), "HEADRACE_API_KEY": KEY},
    )
    assert shown.stdout.splitlines()[-1].split()[2:] == ["rest", "ann", "id", "model.scale", "fake", "replicas=2"]
    assert json.loads(as_json.stdout)["details"] == {"replicas": 2}


def test_it_is_bounded_and_survives_what_it_cant_read(redis_client: redis.Redis) -> None:
    audit = AuditLog(redis_client, "rest")
    pipe = redis_client.pipeline(transaction=False)
    for i in range(MAX_ENTRIES + 500):
        pipe.xadd(keys.AUDIT, {"e": f"{i}"})
    pipe.execute()
    audit.note(ADMIN, "key.create", "last")
    assert redis_client.xlen(keys.AUDIT) < MAX_ENTRIES + 200
    page = audit.page(limit=3, cursor="")
    assert [entry["target"] for entry in page.entries] == ["last"]
    assert page.cursor is not None


def test_an_entry_of_a_time_that_can_not_be_hides_no_other(redis_client: redis.Redis) -> None:
    audit = AuditLog(redis_client, "rest")
    audit.note(ADMIN, "key.create", "first")
    (entry,) = redis_client.xrange(keys.AUDIT)
    redis_client.xadd(keys.AUDIT, entry[1], id=f"{10**16}-1")
    assert [one["target"] for one in audit.page(limit=3, cursor="").entries] == ["first", "first"]


def test_a_change_that_redis_cant_note_is_in_the_log(
    redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    redis_client.config_set("maxmemory", 1)
    try:
        AuditLog(redis_client, "rest").note(ADMIN, "key.create", "unnoted")
    finally:
        redis_client.config_set("maxmemory", 0)
    assert redis_client.xlen(keys.AUDIT) == 0
    assert "not in the audit log" in caplog.text
    assert '"target":"unnoted"' in caplog.text
