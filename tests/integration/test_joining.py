"""How machines are let in, and how they are not: tokens on both faces, and the port where they join, from outside."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import redis

from cli.cluster import exchange
from cli.cluster.exchange import CA, CERTIFICATE, KEY, Gateway, join, keep
from gateway.access.certificates import authority
from gateway.access.join_tokens import JoinTokens
from gateway.cluster.nodes import Nodes
from gateway.cluster.registry import Device
from gateway.errors import InvalidSetting, Unavailable
from gateway.joined import FOLDER, joined_path
from gateway.settings import Settings
from gateway.store.connection import connect
from schemas.cluster.joining import JoinAnswer, TokenParts
from tests.homes import new_home
from tests.rpc import client as rpc_client
from tests.rpc import start_rpc
from tests.stack import KEY as ADMIN
from tests.stack import PATIENCE_S, Stack, eventually, free_port, running
from web.rpc.stubs import model_pb2 as pb


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("s"), {}, listen=f"127.0.0.1:{free_port()}", drain_s=77.0) as stack:
        start_rpc(stack)
        stack.start("listener")
        yield stack


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


@pytest.fixture
def gateway(stack: Stack) -> Gateway:
    found = Gateway.parse(f"https://{stack.settings.listen}")
    eventually(lambda: is_listening(found.port), "the listener listens")
    return found


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    """The settings of a machine that has not joined."""
    return Settings(data_dir=tmp_path / "var", node="other")


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def make_token(client: httpx.Client, **body: Any) -> tuple[dict[str, Any], TokenParts]:
    response = client.post("/join-tokens", json=body)
    assert response.status_code == 201, response.text
    made = response.json()["data"]
    parts = TokenParts.parse(made["token"])
    assert parts
    return made, parts


def joined(settings: Settings, gateway: Gateway, client: httpx.Client, node: str = "other") -> JoinAnswer:
    """A machine that has joined, with what it was given."""
    answer = join(settings, gateway, make_token(client)[1], node=node)
    keep(settings, gateway, answer)
    return answer


def with_its_settings(settings: Settings) -> Settings:
    """As a process of that machine reads them."""
    return Settings.load({"HEADRACE_DATA_DIR": str(settings.data_dir), "HEADRACE_CONFIG": "/none"})


def pings(settings: Settings) -> bool:
    try:
        with connect(with_its_settings(settings)) as found:
            return bool(found.ping())
    except redis.exceptions.RedisError:
        return False


@contextmanager
def alive(stack: Stack, node: str) -> Iterator[None]:
    """The agent of a node tells that it lives."""
    device = Device(f"agent:{node}", node, "cpu0", pid=1, seen_ms=1)
    stack.registry.beat_device(device, lease_s=60)
    Nodes(stack.redis).note(device)
    try:
        yield
    finally:
        stack.registry.deregister(device.incarnation)


# -- tokens


def test_a_token_is_shown_once_kept_as_a_hash_and_says_who_has_used_it(
    stack: Stack, client: httpx.Client, gateway: Gateway, here: Settings
) -> None:
    made, parts = make_token(client, ttl_s=600, uses=2)
    assert made["url"] == gateway.url
    assert (made["status"], made["uses"], made["nodes"]) == ("active", 2, [])
    join(here, gateway, parts, node="first")
    listed = {one["id"]: one for one in client.get("/join-tokens").json()["data"]["tokens"]}
    assert listed[made["id"]] == {**{k: v for k, v in made.items() if k not in ("token", "url")}, "nodes": ["first"]}
    assert all(parts.secret not in str(value) for value in dump(stack))
    assert client.delete(f"/join-tokens/{made['id']}").json()["data"]["status"] == "revoked"
    assert client.delete(f"/join-tokens/{made['id']}").status_code == 200
    assert client.delete("/join-tokens/none").status_code == 404
    noted = client.get("/audit", params={"limit": 3}).json()["data"]["entries"]
    assert [(one["action"], one["target"]) for one in noted] == [
        *[("token.revoke", made["id"])] * 2,
        ("token.create", made["id"]),
    ]
    assert noted[-1]["details"] == {"ttl_s": 600, "uses": 2}


def dump(stack: Stack) -> Iterator[Any]:
    """All strings and hashes in Redis."""
    for name in stack.redis.scan_iter():
        kind = stack.redis.type(name)
        yield name
        yield stack.redis.hgetall(name) if kind == "hash" else stack.redis.get(name) if kind == "string" else ""


def test_both_faces_make_tokens(stack: Stack, client: httpx.Client) -> None:
    with rpc_client(stack) as rpc:
        made = rpc.call("CreateJoinToken", pb.CreateJoinTokenRequest(ttl_s=120))
        assert (made.uses, made.status) == (1, "active")
        assert TokenParts.parse(made.token)
        assert made.id in {one["id"] for one in client.get("/join-tokens").json()["data"]["tokens"]}
        assert made.id in {one.id for one in rpc.call("ListJoinTokens", pb.ListJoinTokensRequest()).tokens}
        assert rpc.call("RevokeJoinToken", pb.RevokeJoinTokenRequest(id=made.id)).status == "revoked"
        with pytest.raises(grpc.RpcError) as wrong:
            rpc.call("CreateJoinToken", pb.CreateJoinTokenRequest(ttl_s=1))
        assert wrong.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    for body in ({"ttl_s": 59}, {"uses": -1}, {"hours": 1}):
        assert client.post("/join-tokens", json=body).status_code == 422


def test_only_admins_make_tokens_and_only_where_machines_can_join(stack: Stack, client: httpx.Client) -> None:
    secret = client.post("/keys", json={"name": "k", "scopes": ["deploy"]}).json()["data"]["secret"]
    with stack.client(secret) as other:
        assert other.get("/join-tokens").status_code == 403
        assert other.post("/join-tokens", json={}).status_code == 403
    deaf = replace(stack.settings, listen="", http_port=free_port())
    stack.start("web-deaf", settings=deaf)
    url = f"http://127.0.0.1:{deaf.http_port}"
    eventually(lambda: is_listening(deaf.http_port), "it listens")
    headers = {"Authorization": f"Bearer {ADMIN}"}
    refused = httpx.post(f"{url}/join-tokens", json={}, headers=headers, timeout=PATIENCE_S)
    assert (refused.status_code, refused.json()["data"]["reason"]) == (409, "no_listener")
    assert "headrace up --listen" in refused.json()["message"]
    stack.kill("web-deaf")


# -- who is let in


def test_who_has_joined_reaches_redis_and_has_the_gateways_settings(
    stack: Stack, client: httpx.Client, gateway: Gateway, here: Settings
) -> None:
    joined(here, gateway, client)
    found = with_its_settings(here)
    assert (found.node, found.drain_s, found.lease_s) == ("other", 77.0, stack.settings.lease_s)
    assert found.redis_url.startswith(f"rediss://{stack.settings.listen}/0?ssl_ca_certs=")
    with connect(found) as theirs:
        assert theirs.get("hr:installation") == stack.redis.get("hr:installation")
        theirs.set("big", "x" * 3_000_000)
        assert stack.redis.strlen("big") == 3_000_000
        assert len(str(theirs.get("big"))) == 3_000_000
        stack.redis.delete("big")
    for name in (CA, CERTIFICATE, KEY):
        assert (here.data_dir / FOLDER / name).stat().st_mode & 0o077 == 0 or name != KEY
    assert joined_path(here.data_dir).stat().st_mode & 0o077 == 0


def test_joining_again_uses_nothing_up_and_needs_no_token(
    stack: Stack, client: httpx.Client, gateway: Gateway, here: Settings
) -> None:
    made, parts = make_token(client, uses=1)
    keep(here, gateway, join(here, gateway, parts, node="again"))
    key = (here.data_dir / FOLDER / KEY).read_bytes()
    with alive(stack, "again"):
        keep(here, gateway, join(here, gateway, parts, node="again"))
        keep(here, gateway, join(here, gateway, None, node="again"))
    assert (here.data_dir / FOLDER / KEY).read_bytes() == key
    assert pings(here)
    with pytest.raises(InvalidSetting, match=rf"Token {made['id']} has let in again, and lets in no more"):
        join(replace(here, data_dir=here.data_dir / "2"), gateway, parts, node="third")


def test_who_is_forgotten_is_cut_off_and_can_not_come_back(
    stack: Stack, client: httpx.Client, gateway: Gateway, here: Settings
) -> None:
    joined(here, gateway, client, node="leaving")
    with alive(stack, "leaving"), connect(with_its_settings(here)) as theirs:
        assert theirs.ping()
        connection = theirs.connection_pool.get_connection()
        assert client.delete("/nodes/leaving").status_code == 409
        stack.registry.deregister("agent:leaving")
        assert client.delete("/nodes/leaving").status_code == 200
        with pytest.raises(redis.exceptions.ConnectionError):
            connection.read_response(timeout=30)  # it is closed, though nothing was sent
    eventually(lambda: not pings(here), "nothing answers")
    with pytest.raises(Unavailable):
        join(here, gateway, None, node="leaving")


def test_a_name_belongs_to_the_machine_that_lives(
    stack: Stack, client: httpx.Client, gateway: Gateway, here: Settings
) -> None:
    joined(here, gateway, client, node="taken")
    second = replace(here, data_dir=here.data_dir / "2")
    with alive(stack, "taken"):
        with pytest.raises(InvalidSetting, match=r"A node 'taken' is alive already. Choose another name with --node"):
            join(second, gateway, make_token(client)[1], node="taken")
        with pytest.raises(
            InvalidSetting, match=r"The key in this data folder is that of node 'taken', which is alive"
        ):
            join(here, gateway, make_token(client)[1], node="copied")
        assert pings(here)
    joined(second, gateway, client, node="taken")
    assert pings(second)
    eventually(lambda: not pings(here), "the machine that was replaced is out")


# -- who is not


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("unknown", "does not know this token. Make one with 'headrace token create'"),
        ("expired", r"Token \w+ expired at \d{4}-"),
        ("revoked", r"Token \w+ was revoked"),
    ],
)
def test_a_token_that_is_not_good_lets_nobody_in(
    stack: Stack, client: httpx.Client, gateway: Gateway, here: Settings, state: str, said: str
) -> None:
    made, parts = make_token(client)
    if state == "unknown":
        parts = parts._replace(secret="0" * 40)
    elif state == "expired":
        ago = JoinTokens(stack.redis, lambda: time.time() - 7_200)
        parts = parts._replace(secret=ago.create(ttl_s=3_600, uses=0)[1])
    else:
        client.delete(f"/join-tokens/{made['id']}")
    with pytest.raises(InvalidSetting, match=said):
        join(here, gateway, parts, node="other")
    assert not (here.data_dir / FOLDER / CERTIFICATE).exists()


def test_a_token_is_not_sent_to_another_gateway(client: httpx.Client, gateway: Gateway, here: Settings) -> None:
    made, parts = make_token(client)
    with pytest.raises(InvalidSetting, match=r"another one than the token is for: .* The token was not sent"):
        join(here, gateway, parts._replace(ca_fingerprint="0" * 64), node="other")
    listed = {one["id"]: one for one in client.get("/join-tokens").json()["data"]["tokens"]}
    assert listed[made["id"]]["nodes"] == []


def test_what_is_no_gateway_is_told_apart(stack: Stack, client: httpx.Client, gateway: Gateway, here: Settings) -> None:
    _, parts = make_token(client)
    with pytest.raises(Unavailable, match=r"does not answer: .* Does 'headrace up --listen' run there"):
        join(here, Gateway("127.0.0.1", free_port()), parts, node="other")
    with pytest.raises(InvalidSetting, match="does not speak TLS as a gateway's listener does"):
        join(here, Gateway("127.0.0.1", stack.settings.http_port), parts, node="other")
    for text in ("http://a:1", "https://a:b", "https://a/path", "https://", "a b", "https://u@a"):
        with pytest.raises(InvalidSetting, match="it must be https://HOST:PORT"):
            Gateway.parse(text)
    assert Gateway.parse("https://[::1]:7").url == "https://[::1]:7"
    assert Gateway.parse("head").url == "https://head:6380"
    assert gateway.url.startswith("https://127.0.0.1:")


def test_another_version_and_another_time_are_refused(
    client: httpx.Client, gateway: Gateway, here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, parts = make_token(client)
    monkeypatch.setattr(exchange, "own_version", lambda: "9.8.1")
    with pytest.raises(
        InvalidSetting, match=r"This machine has headrace 9.8.1, the gateway .* pip install 'headrace=="
    ):
        join(here, gateway, parts, node="other")
    for by_s, how in ((1_000.0, "1000 s ahead of"), (-1_000.0, "1000 s behind")):
        with monkeypatch.context() as patch:
            patch.setattr(exchange, "time", Clock(by_s))
            with pytest.raises(
                InvalidSetting, match=rf"This machine's clock is (?:99\d|100\d) s {how.split(' ', 2)[2]}"
            ):
                join(here, gateway, parts, node="other")


class Clock:
    """As the module `time`, with a clock that is wrong."""

    def __init__(self, by_s: float) -> None:
        self._by_s = by_s

    def time(self) -> float:
        return time.time() + self._by_s


# -- the port itself


def context(settings: Settings, *, certificate: Path | None = None) -> ssl.SSLContext:
    """Trusts the gateway's CA."""
    found = ssl.create_default_context(cafile=str(settings.data_dir / "tls" / "ca.pem"))
    found.check_hostname = False
    if certificate:
        found.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return found


def told(gateway: Gateway, secured: ssl.SSLContext, text: bytes) -> bytes:
    """All that is answered to a text."""
    with socket.create_connection((gateway.host, gateway.port), 10) as plain, secured.wrap_socket(plain) as wrapped:
        wrapped.settimeout(30)
        wrapped.sendall(text)
        answer = b""
        while data := wrapped.recv(4_096):
            answer += data
        return answer


#: In Redis' protocol. The empty line behind it would end the head of a request.
PING = b"*1\r\n$4\r\nPING\r\n\r\n"


def test_no_byte_of_a_stranger_reaches_redis(stack: Stack, gateway: Gateway, tmp_path: Path) -> None:
    before = stack.redis.info("stats")["total_connections_received"]
    assert told(gateway, context(stack.settings), PING).startswith(b"HTTP/1.1 400 ")
    # A certificate of the same CA, for gRPC, was not made for a machine that has joined.
    with authority(stack.settings) as ca:
        certificate = ca.issue("client-somebody", "other")
    assert told(gateway, context(stack.settings, certificate=certificate), PING) == b""
    with authority(replace(stack.settings, data_dir=tmp_path)) as ca:
        foreign = ca.issue("client-other", "other")
    old = context(stack.settings)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    for refused in (context(stack.settings, certificate=foreign), old):
        with suppress(ssl.SSLError, ConnectionError):
            assert told(gateway, refused, PING) == b""
    # The listener's own look at who is admitted has no new connection each time.
    assert stack.redis.info("stats")["total_connections_received"] - before <= 2


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"GET /join HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /join HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 422),
        (b"POST /join HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n{", 400),
        (b"POST /join HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n" + b" " * 99_999, 413),
        (b"POST /join HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 50_000 + b"\r\n\r\n", 400),
        (b"\x00\xff" * 50, 400),
    ],
)
def test_what_is_no_request_to_join_gets_a_clear_answer(
    stack: Stack, gateway: Gateway, text: bytes, status: int
) -> None:
    answer = told(gateway, context(stack.settings), text)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (body["code"], bool(body["message"]), bool(body["data"]["reason"])) == (status, True, True)


def test_strangers_who_say_nothing_keep_nobody_out(
    stack: Stack, client: httpx.Client, gateway: Gateway, here: Settings
) -> None:
    joined(here, gateway, client)
    with connect(with_its_settings(here)) as theirs:
        assert theirs.ping()
        silent = [socket.create_connection((gateway.host, gateway.port)) for _ in range(300)]
        try:
            # Those beyond what one address may have are closed at once.
            eventually(lambda: sum(map(is_closed, silent)) >= 300 - 128, "most are turned away")
            assert theirs.ping()
        finally:
            for one in silent:
                one.close()
    eventually(lambda: pings(here), "new connections are taken again")


def is_closed(one: socket.socket) -> bool:
    one.setblocking(False)
    try:
        return one.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_while_redis_is_away_nobody_is_let_in_and_then_all_goes_on(
    stack: Stack, client: httpx.Client, gateway: Gateway, here: Settings
) -> None:
    joined(here, gateway, client)
    _, parts = make_token(client)
    with connect(with_its_settings(here)) as theirs:
        assert theirs.ping()
        stack.kill("redis")
        with pytest.raises(redis.exceptions.RedisError):
            theirs.ping()
        with pytest.raises(InvalidSetting, match="does not let this machine in: The job store does not answer"):
            join(replace(here, data_dir=here.data_dir / "2"), gateway, parts, node="late")
        stack.start_redis()
        eventually(lambda: pings(here), "Redis is reached again")
        join(replace(here, data_dir=here.data_dir / "2"), gateway, parts, node="late")


# -- the command


def test_the_command_says_in_one_line_what_is_wrong(client: httpx.Client, gateway: Gateway, tmp_path: Path) -> None:
    home = new_home(tmp_path)

    def said(*args: str, **environ: str) -> str:
        result = home.command("join", *args, **environ)
        assert result.returncode != 0
        lines = [line for line in result.stdout.splitlines() if line.startswith("Error:")]
        assert len(lines) == 1, result.stdout
        assert "Traceback" not in result.stdout
        return lines[0]

    made, _ = make_token(client)
    assert "has not joined a gateway yet: headrace join URL TOKEN" in said()
    assert "a token is needed" in said(gateway.url)
    assert "This is no join token: it begins with hrj-" in said(gateway.url, "abc")
    assert "it must be https://HOST:PORT" in said("http://x:1", made["token"])
    assert "HEADRACE_REDIS_URL is set here" in said(gateway.url, made["token"], HEADRACE_REDIS_URL="redis://x")
    assert "--node is 'a b'" in said(gateway.url, made["token"], "--node", "a b")
    assert "HEADRACE_DEVICE is 'tpu7'" in said(gateway.url, made["token"], "--device", "tpu7")
    assert "a label is KEY=VALUE" in said(gateway.url, made["token"], "--label", "x")
    done = home.command("join", gateway.url, made["token"], "--node", "by-hand", "--no-start")
    assert done.returncode == 0, done.stdout
    assert re.search(rf"this machine is node by-hand of {gateway.url}", done.stdout)
    with closing(redis.Redis.from_url(with_its_settings(Settings(data_dir=Path(home.data))).redis_url)) as theirs:
        assert theirs.ping()
