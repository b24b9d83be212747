"""Commands on another machine, which has nothing of the gateway but its URL and a key."""

from __future__ import annotations

import http.server
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.access.api_keys import Credentials
from tests.commands import Command, Said, run
from tests.stack import KEY, Stack, eventually, free_port, running

CATALOG = """
[models.echo]
capabilities = ["chat"]
engine = "fake"
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("s"), {"fake": {}}, catalog=CATALOG, root_path="/llm") as stack:
        eventually(lambda: readiness(stack)["keeper_trusted"], "the keeper judges")
        yield stack


class Elsewhere:
    """Another machine: a data folder with nothing in it, and no Redis."""

    def __init__(self, folder: Path, url: str, key: str = KEY) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        own = {"HEADRACE_DATA_DIR": str(folder / "var"), "HEADRACE_CONFIG": str(folder / "headrace.toml")}
        self.environ = {**kept, **own, "HEADRACE_URL": url, "HEADRACE_API_KEY": key}

    def run(self, *commands: Command) -> list[Said]:
        """One after the other."""
        return run(commands, self.environ)

    def says(self, *arguments: str, stdin: str = "", **environ: str) -> str:
        """What a command prints that must succeed."""
        (done,) = self.run(Command(arguments, environ, stdin))
        assert done.status == 0, done.stdout + done.stderr
        return done.stdout

    def fails(self, *commands: Command) -> list[str]:
        """The one line of each of these commands, which must fail."""
        found = self.run(*commands)
        assert [(done.status, done.stderr.count("\n")) for done in found] == [(1, 1)] * len(found), found
        return [done.stderr for done in found]


@pytest.fixture
def elsewhere(stack: Stack, tmp_path: Path) -> Elsewhere:
    return Elsewhere(tmp_path, f"{stack.url}/llm")


def readiness(stack: Stack) -> dict[str, Any]:
    with stack.client("") as client:
        return dict(client.get("/health/ready").json()["data"])


def test_keys_are_managed_from_elsewhere(stack: Stack, elsewhere: Elsewhere) -> None:
    secret = elsewhere.says("key", "create", "away", "--model", "fake", "--requests-per-minute", "9").strip()
    mine = {"HEADRACE_API_KEY": secret}
    chatted, listed, updated, usage, own, rotated, shown, by_id, revoked = elsewhere.run(
        Command(("chat", "fake", "--max-tokens", "2"), mine, "hi\n"),
        Command(("key", "list")),
        Command(("key", "update", "away", "--requests-per-minute", "0", "--expires", "9d")),
        Command(("usage", "away")),
        Command(("usage",), mine),
        Command(("key", "rotate", "away", "--grace", "1h")),
        Command(("key", "show", "away")),
        Command(("key", "show", Credentials(stack.redis).find("away").id)),
        Command(("key", "revoke", "away")),
    )
    assert "fake> " in chatted.stdout
    assert any(line.endswith(" away") and "active" in line for line in listed.stdout.splitlines())
    assert "no limit" in updated.stdout
    assert usage.stdout.startswith("away")
    assert own.stdout.startswith("away")
    assert shown.stdout == by_id.stdout
    assert "old_secret_until     20" in shown.stdout
    assert "revoked away" in revoked.stdout
    ended = [Command(("models",), {"HEADRACE_API_KEY": one}) for one in (secret, rotated.stdout.strip())]
    for said in elsewhere.fails(*ended):
        assert "was revoked. Ask for a new one. It came from --key" in said
    assert not (Path(elsewhere.environ["HEADRACE_DATA_DIR"]) / "keys").exists()


def test_models_are_deployed_from_elsewhere(elsewhere: Elsewhere) -> None:
    listed, planned, deployed, chatted, nodes, unloaded = elsewhere.run(
        Command(("models",)),
        Command(("deploy", "echo", "--dry-run")),
        Command(("deploy", "echo")),
        Command(("chat", "echo", "--max-tokens", "2"), stdin="hi\n"),
        Command(("nodes",)),
        Command(("unload", "echo")),
    )
    assert "fake" in listed.stdout
    assert '"fits": true' in planned.stdout
    assert "completed" in deployed.stdout
    assert "echo> " in chatted.stdout
    assert "n1" in nodes.stdout
    assert "echo: gone" in unloaded.stdout


def test_the_state_is_seen_from_elsewhere(stack: Stack, elsewhere: Elsewhere) -> None:
    (replica,) = readiness(stack)["replicas"]
    told, raw = elsewhere.run(Command(("status",), {"HEADRACE_API_KEY": ""}), Command(("status", "--json")))
    for part in (f"at {stack.url}/llm", "ready    yes (redis healthy, keeper healthy)", f"replica  {replica}: healthy"):
        assert part in told.stdout
    assert json.loads(raw.stdout)["replicas"] == {replica: "healthy"}


def test_the_doctor_looks_at_a_gateway_elsewhere(stack: Stack, elsewhere: Elsewhere) -> None:
    good, past = elsewhere.run(
        Command(("doctor", "--json")),
        # Past the path below which it says it is.
        Command(("doctor", "--json"), {"HEADRACE_URL": stack.url}),
    )
    found = json.loads(good.stdout)
    assert [one for one in found if one["level"] != "ok"] == []
    assert {one["check"] for one in found} == {
        *("answers", "transport", "links", "readiness"),
        *("nodes", "models", "metrics"),
    }
    assert any("fake has answered in" in one["found"] for one in found)
    (links,) = (one for one in json.loads(past.stdout) if one["check"] == "links")
    assert (past.status, links["level"], "/llm/docs/" in links["found"]) == (1, "problem", True)


def test_a_mistake_in_the_catalog_is_seen_from_elsewhere(stack: Stack, elsewhere: Elsewhere) -> None:
    stack.settings.config.write_text(f"{CATALOG}\n[models.broken]\ncapabilities = 7\n")
    try:
        eventually(lambda: readiness(stack)["catalog_problems"], "the mistake is found")
        status, doctor = elsewhere.run(Command(("status",)), Command(("doctor", "--json")))
        assert "  catalog  " in status.stdout
        assert [one["level"] for one in json.loads(doctor.stdout) if "catalog" in one["found"]] == ["warning"]
    finally:
        stack.settings.config.write_text(CATALOG)
        eventually(lambda: not readiness(stack)["catalog_problems"], "it is corrected")


def test_who_has_no_key_is_told_where_to_give_one(elsewhere: Elsewhere) -> None:
    commands = [("models",), ("key", "list"), ("usage",), ("nodes",), ("deploy", "fake"), ("chat", "fake")]
    for key, said in (("", "Give one with --key or HEADRACE_API_KEY."), ("hr-no-such-key", "This API key is unknown.")):
        for line in elsewhere.fails(*(Command(one, {"HEADRACE_API_KEY": key}) for one in commands)):
            assert said in line


def test_the_key_of_this_machine_is_not_sent_to_another(elsewhere: Elsewhere) -> None:
    """Its own bootstrap key; what listens on this machine gets it, as it may well be the gateway itself."""
    own = "hr-the-key-of-this-machine"
    for host, sent in (("127.0.0.1", True), (socket.gethostname(), False)):
        with listening(host) as (port, seen):
            environ = {"HEADRACE_API_KEY": "", "HEADRACE_BOOTSTRAP_KEY": own, "HEADRACE_URL": f"http://{host}:{port}"}
            elsewhere.run(Command(("models",), environ))
            assert seen == ([f"Bearer {own}"] if sent else [""])


def test_a_wrong_url_is_one_clear_line(elsewhere: Elsewhere) -> None:
    with listening("127.0.0.1") as (port, _):
        page, closed = f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}"
        urls = {
            "localhost:8000": "must begin with http:// or https://",
            "ftp://localhost": "must begin with http:// or https://",
            "http://[::1": "must begin with http:// or https://",
            f"http://{closed}": "does not answer",
            f"http://{page}/": "is not Headrace's API",
            f"http://{page}/moved": "redirects to https://elsewhere.example/.",
            f"https://{page}": "does not answer",
        }
        commands = [
            Command(arguments, {"HEADRACE_URL": url})
            for url in urls
            for arguments in (("models",), ("key", "list"), ("status",), ("doctor",))
        ]
        for command, line in zip(commands, elsewhere.fails(*commands), strict=True):
            assert urls[command.environ["HEADRACE_URL"]] in line


def test_a_gateway_that_is_not_ready_is_said_so(stack: Stack, elsewhere: Elsewhere) -> None:
    """The last test of this file."""
    stack.kill("keeper")
    eventually(lambda: readiness(stack)["keeper"] == "unhealthy", "the keeper's lease ends")
    status, doctor = elsewhere.run(Command(("status",)), Command(("doctor",)))
    assert (status.status, "ready    no" in status.stdout) == (1, True)
    assert (doctor.status, "not ready" in doctor.stdout) == (1, True)


@contextmanager
def listening(host: str) -> Iterator[tuple[int, list[str]]]:
    """Something else that speaks HTTP: its port, and the keys that it got."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            moved = self.path.startswith("/moved")
            self.send_response(301 if moved else 200)
            self.send_header(*(("Location", "https://elsewhere.example/") if moved else ("Content-Type", "text/html")))
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer((host, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], seen
        server.shutdown()
