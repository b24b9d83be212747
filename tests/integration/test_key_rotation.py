"""A key gets another secret, and its old one really ends: over HTTP, the command line, gRPC, and by the setting."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.json_format import ParseDict

from gateway.access.api_keys import Credentials
from tests.homes import Home, new_home
from tests.rpc import Client, start_rpc
from tests.rpc import client as rpc_client
from tests.stack import KEY, REPOSITORY, Stack, Stream, eventually, free_port, running
from web.rpc.stubs import model_pb2 as pb

PATH = "/models/fake/chat/completions"
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hello there"}], "max_tokens": 5}
NEXT = "hr-the-next-bootstrap-key"
#: How long `headrace up` may take on a busy machine.
UP_S = 150


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("k"), {"fake": {"step_s": 0.005}}) as stack:
        stack.settings = replace(stack.settings, bootstrap_key=KEY)
        start_rpc(stack)
        yield stack


@pytest.fixture
def admin(stack: Stack) -> Iterator[httpx.Client]:
    """A client with a key that no test changes."""
    _, secret = Credentials(stack.redis).create("operator", ["admin"])
    with stack.client(secret) as client:
        yield client


def make(admin: httpx.Client, **body: Any) -> dict[str, Any]:
    return dict(admin.post("/keys", json={"name": "k", **body}).raise_for_status().json()["data"])


def rotate(admin: httpx.Client, name: str, **body: int) -> dict[str, Any]:
    return dict(admin.post(f"/keys/{name}/rotate", json=body).raise_for_status().json()["data"])


def ask(stack: Stack, secret: str) -> httpx.Response:
    with stack.client(secret) as client:
        return client.post(PATH, json=BODY)


def refused(stack: Stack, secret: str) -> str:
    """Why; empty if it is not."""
    response = ask(stack, secret)
    return "" if response.status_code == 200 else str(response.json()["data"]["reason"])


def command(stack: Stack, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **stack.settings.environ(), "HEADRACE_BOOTSTRAP_KEY": "", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_old_secret_ends_and_the_key_goes_on(stack: Stack, admin: httpx.Client) -> None:
    key = make(admin, name="mobile", models=["fake"], requests_per_minute=500)
    secret = key.pop("secret")
    stream = Stream(Using(stack, secret), PATH, {**BODY, "max_tokens": 90_000}).start()
    eventually(lambda: stream.text, "the stream has begun")
    found = rotate(admin, "mobile")
    fresh = found.pop("secret")
    changed = {"prefix", "rotated_at"}
    assert {name: found[name] for name in found if name not in changed} == {
        name: key[name] for name in key if name not in changed
    }
    assert (key["rotated_at"], fresh.startswith(found["prefix"])) == (None, True)
    assert refused(stack, secret) == "api_key_replaced"
    assert "of key 'mobile' was replaced" in ask(stack, secret).json()["message"]
    seen = len(stream.ids)
    eventually(lambda: len(stream.ids) > seen, "its stream goes on")
    with stack.client(fresh) as client:
        assert client.delete(f"/jobs/{stream.job_id}").json()["data"]["status"] == "cancelling"
        stream.join()
        assert client.post(PATH, json=BODY).headers["x-ratelimit-limit-requests"] == "500"
        assert client.get("/usage").json()["data"]["total"]["jobs"] >= 1
    assert [one["id"] for one in admin.get("/keys").json()["data"]["keys"] if one["name"] == "mobile"] == [key["id"]]


def test_a_grace_lets_the_old_secret_hold_for_a_while(stack: Stack, admin: httpx.Client) -> None:
    first = make(admin, name="graceful")
    second = rotate(admin, first["id"], grace_s=3600)
    assert second["old_secret_until"] > second["rotated_at"]
    assert [refused(stack, one["secret"]) for one in (first, second)] == ["", ""]
    admin.patch(f"/keys/{first['id']}", json={"models": ["none"]}).raise_for_status()
    assert [refused(stack, one["secret"]) for one in (first, second)] == ["model_not_allowed"] * 2
    admin.patch(f"/keys/{first['id']}", json={"models": []}).raise_for_status()
    third = rotate(admin, first["id"], grace_s=3600)
    assert [refused(stack, one["secret"]) for one in (first, second, third)] == ["api_key_replaced", "", ""]
    admin.delete(f"/keys/{first['id']}").raise_for_status()
    assert [refused(stack, one["secret"]) for one in (second, third)] == ["api_key_revoked"] * 2
    assert admin.post(f"/keys/{first['id']}/rotate", json={}).status_code == 409


def test_a_grace_ends(stack: Stack, admin: httpx.Client) -> None:
    key = make(admin)
    rotate(admin, key["id"], grace_s=2)
    eventually(lambda: refused(stack, key["secret"]) == "api_key_replaced", "the grace is over")


@pytest.mark.parametrize("grace_s", [-1, 1.5, "1h", 10**9])
def test_a_wrong_grace_is_refused(admin: httpx.Client, grace_s: Any) -> None:
    key = make(admin)
    response = admin.post(f"/keys/{key['id']}/rotate", json={"grace_s": grace_s})
    assert (response.status_code, "grace_s" in response.json()["message"]) == (422, True)


def test_names_are_taken_wherever_ids_are(stack: Stack, admin: httpx.Client) -> None:
    key = make(admin, name="team ä & co")
    assert refused(stack, key.pop("secret")) == ""
    path = "/keys/team%20%C3%A4%20%26%20co"
    assert admin.get(path).json()["data"]["id"] == key["id"]
    assert admin.patch(path, json={"weight": 3}).json()["data"]["weight"] == 3
    assert {row["key_id"] for row in admin.get("/usage?key=team ä %26 co").json()["data"]["usage"]} == {key["id"]}
    twin = make(admin, name="team ä & co")
    for response in (admin.get(path), admin.delete(path), admin.get("/usage?key=team ä %26 co")):
        assert (response.status_code, response.json()["data"]["reason"]) == (409, "key_ambiguous")
        assert all(one["id"] in response.json()["message"] for one in (key, twin))
    assert admin.delete(f"/keys/{twin['id']}").json()["data"]["status"] == "revoked"
    assert admin.delete(path).json()["data"]["id"] == key["id"]


def test_grpc_does_the_same(stack: Stack, admin: httpx.Client) -> None:
    secret = admin.headers["Authorization"].removeprefix("Bearer ")
    with rpc_client(stack, secret) as rpc:
        made = rpc.call("CreateKey", pb.CreateKeyRequest(name="over grpc", requests_per_minute=500, models=["fake"]))
        assert refused(stack, made.secret) == ""
        path = f"/keys/{made.id}"

        def same(message: Any) -> bool:
            found = admin.get(path).json()["data"]
            message.ClearField("reset_s")
            del found["reset_s"]
            return bool(ParseDict(found, pb.Key()) == message)

        assert same(rpc.call("GetKey", pb.GetKeyRequest(key_id="over grpc")))
        changed = pb.UpdateKeyRequest(
            key_id="over grpc", models=pb.ModelIds(), requests_per_minute=0, weight=7, expires_at="2099-01-01T00:00:00Z"
        )
        told = rpc.call("UpdateKey", changed)
        assert same(told)
        assert (list(told.models), told.HasField("requests_per_minute"), told.weight) == ([], False, 7)
        assert not rpc.call("UpdateKey", pb.UpdateKeyRequest(key_id=made.id, expires_at="")).HasField("expires_at")
        next_one = rpc.call("RotateKey", pb.RotateKeyRequest(key_id="over grpc", grace_s=3600))
        assert [refused(stack, one.secret) for one in (made, next_one)] == ["", ""]
        last = rpc.call("RotateKey", pb.RotateKeyRequest(key_id="over grpc"))
        assert [refused(stack, one.secret) for one in (made, next_one, last)] == ["api_key_replaced"] * 2 + [""]
        usage = rpc.call("GetUsage", pb.GetUsageRequest(key_id="over grpc"))
        assert (usage.usage[0].key_name, usage.total.jobs) == ("over grpc", usage.usage[0].jobs)
        assert usage.total.jobs == admin.get("/usage", params={"key": made.id}).json()["data"]["total"]["jobs"] > 0
        assert made.id in {one.id for one in rpc.call("ListKeys", pb.ListKeysRequest()).keys}
        with rpc_client(stack, last.secret) as own:
            assert {row.key_id for row in own.call("GetUsage", pb.GetUsageRequest()).usage} == {made.id}
            assert own.call("GetKey", pb.GetKeyRequest(key_id="over grpc")).id == made.id
            for method, request in (
                ("ListKeys", pb.ListKeysRequest()),
                ("GetKey", pb.GetKeyRequest(key_id="operator")),
                ("CreateKey", pb.CreateKeyRequest(name="x", scopes=["admin"])),
                ("UpdateKey", pb.UpdateKeyRequest(key_id=made.id, weight=100)),
                ("RotateKey", pb.RotateKeyRequest(key_id=made.id)),
                ("RevokeKey", pb.RevokeKeyRequest(key_id=made.id)),
                ("GetUsage", pb.GetUsageRequest(key_id="operator")),
            ):
                assert code_of(own, method, request) is grpc.StatusCode.PERMISSION_DENIED
        revoked = rpc.call("RevokeKey", pb.RevokeKeyRequest(key_id="over grpc"))
        assert (revoked.status, refused(stack, last.secret)) == ("revoked", "api_key_revoked")
        assert code_of(rpc, "RotateKey", pb.RotateKeyRequest(key_id=made.id)) is grpc.StatusCode.FAILED_PRECONDITION
        assert code_of(rpc, "GetKey", pb.GetKeyRequest()) is grpc.StatusCode.NOT_FOUND
        assert code_of(rpc, "CreateKey", pb.CreateKeyRequest()) is grpc.StatusCode.INVALID_ARGUMENT


def code_of(rpc: Client, method: str, request: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        rpc.call(method, request)
    return caught.value.code()


def test_the_command_line_rotates(stack: Stack, admin: httpx.Client) -> None:
    key = make(admin, name="terminal")
    rotated = command(stack, "key", "rotate", "terminal", "--grace", "1h")
    assert rotated.returncode == 0, rotated.stderr
    assert "the old secret holds until 20" in rotated.stderr
    secret = rotated.stdout.strip()
    assert [refused(stack, one) for one in (key["secret"], secret)] == ["", ""]
    assert "the old secret has ended" in command(stack, "key", "rotate", "terminal").stderr
    assert refused(stack, secret) == "api_key_replaced"
    assert "terminal" in command(stack, "key", "show", "terminal").stdout
    usage = command(stack, "usage", "terminal").stdout
    assert usage == command(stack, "usage", "--key", "terminal").stdout
    assert usage.startswith("terminal")
    wrong = command(stack, "key", "rotate", "terminal", "--grace", "soon")
    assert (wrong.returncode, "45m, 12h, 7d" in wrong.stderr) == (2, True)


def test_the_setting_gives_the_bootstrap_key_another_secret(stack: Stack) -> None:
    """A process that still has the old one can't bring it back."""
    assert refused(stack, KEY) == ""
    before = Credentials(stack.redis).list()
    end(stack, "web")
    stack.start("web-next", settings=replace(stack.settings, bootstrap_key=NEXT))
    start_rpc(stack, "rpc-2", replace(stack.settings, bootstrap_key=NEXT, grpc_port=free_port()))
    eventually(lambda: _answers(stack), "it answers")
    assert (refused(stack, KEY), refused(stack, NEXT)) == ("api_key_replaced", "")
    end(stack, "web-next")
    stack.start("web-stale", settings=replace(stack.settings, bootstrap_key=KEY))
    eventually(lambda: _answers(stack), "it answers")
    assert (refused(stack, KEY), refused(stack, NEXT)) == ("api_key_replaced", "")
    assert [one.id for one in Credentials(stack.redis).list()] == [one.id for one in before]
    log = (stack.folder / "logs" / "web-stale.log").read_text()
    assert "HEADRACE_BOOTSTRAP_KEY: This secret was replaced by another one. Set it to a new secret." in log
    assert KEY not in log


@pytest.mark.parametrize("name", ["web", "rpc"])
def test_a_weak_bootstrap_key_is_refused_in_one_line(stack: Stack, name: str) -> None:
    weak = f"{name}-weak"
    stack.start(weak, settings=replace(stack.settings, bootstrap_key="abc", grpc_plaintext=True))
    assert stack.processes[weak].wait(60) == 1
    said = (stack.folder / "logs" / f"{weak}.log").read_text().splitlines()
    assert "at least 20 printable ASCII characters" in said[-1]
    assert not any("Traceback" in line for line in said)


@pytest.mark.slow
def test_what_to_do_about_a_revoked_bootstrap_key_is_said_at_once(tmp_path: Path) -> None:
    """`headrace up` goes on without it."""
    home = new_home(tmp_path)
    with up(home):
        before = secret_of(home)
        assert "is in" in home.command("key", "rotate", "bootstrap").stdout
        first = secret_of(home)
        assert "fake" in home.command("models").stdout
        assert "replaced" in home.command("models", HEADRACE_API_KEY=before).stdout
        assert home.command("key", "revoke", "bootstrap").returncode == 0
        failed = home.command("models")
        assert (failed.returncode, failed.stdout.count("\n")) == (1, 1), failed.stdout
        for part in ("was revoked", f"{home.data}/keys/bootstrap", "Remove that file", "--key"):
            assert part in failed.stdout
    with up(home):
        assert "the bootstrap key can't be used. This key, 'bootstrap', is revoked." in home.said
        assert "Remove that file" in home.said
        assert first not in home.said
        made = home.command("key", "create", "operator", "--scope", "admin").stdout.strip()
        assert "fake" in home.command("models", HEADRACE_API_KEY=made).stdout


@contextlib.contextmanager
def up(home: Home) -> Iterator[None]:
    """`headrace up`, until the end of the block."""
    process = home.start("up")
    try:
        eventually(lambda: "Ctrl-C ends everything" in home.said or process.poll() is not None, "it is up", UP_S)
        assert process.poll() is None, home.said
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def secret_of(home: Home) -> str:
    return (Path(home.data) / "keys" / "bootstrap").read_text().strip()


def end(stack: Stack, name: str) -> None:
    """A web process with its workers, which notice a moment later that it is gone."""
    stack.kill(name)
    eventually(lambda: not _answers(stack), "nobody answers")


class Using:
    """The stack, with another key."""

    def __init__(self, stack: Stack, secret: str) -> None:
        self._stack, self._secret = stack, secret

    def client(self) -> httpx.Client:
        return self._stack.client(self._secret)


def _answers(stack: Stack) -> bool:
    try:
        with stack.client("") as client:
            return client.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False
