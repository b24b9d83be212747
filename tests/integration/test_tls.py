"""REST over TLS of its own, with the certificate of gRPC; both faces take a renewed one without a restart."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from gateway.settings import Settings
from tests.rpc import start_rpc
from tests.stack import KEY, REPOSITORY, Stack, chat, eventually, free_port, running

PATH = "/models/fake/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("s")
    with running(folder, {"fake": {"step_s": 0.01}}, http_tls="on") as stack:
        start_rpc(stack)
        yield stack


def headrace(settings: Settings, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *args],
        cwd=REPOSITORY,
        env={**settings.environ(), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def presented(stack: Stack, port: int) -> bytes:
    """The certificate that a new connection gets."""
    context = ssl.create_default_context(cafile=str(stack.settings.data_dir / "tls" / "ca.pem"))
    context.set_alpn_protocols(["h2"])
    with connected(port) as plain, context.wrap_socket(plain, server_hostname="localhost") as secured:
        found = secured.getpeercert(binary_form=True)
    assert found
    return found


def ports(stack: Stack) -> tuple[int, int]:
    return stack.settings.http_port, stack.settings.grpc_port


def test_answers_and_streams_come_over_tls(stack: Stack, client: httpx.Client) -> None:
    assert client.base_url.scheme == "https"
    assert client.post(PATH, json=BODY).json()["data"]["usage"]["completion_tokens"] == 5
    stream = chat(stack, max_tokens=50).join()
    assert (len(stream.text.split()), stream.reconnects, stream.error) == (50, 0, None)
    large = json.dumps(BODY).ljust(stack.settings.max_body_bytes)
    headers = {"Content-Type": "application/json"}
    assert client.post(PATH, content=large, headers=headers).status_code == 200
    assert client.post(PATH, content=f"{large} ", headers=headers).status_code == 413


def test_a_client_that_leaves_is_noticed(stack: Stack) -> None:
    with stack.client() as leaving, pytest.raises(httpx.ReadTimeout):
        leaving.post(PATH, json={**BODY, "max_tokens": 90_000}, timeout=2)
    eventually(lambda: not stack.running(), "its job is cancelled")


def test_who_speaks_no_tls_is_told_so(stack: Stack) -> None:
    found = httpx.get(f"http://127.0.0.1:{stack.settings.http_port}/models", headers={"Authorization": f"Bearer {KEY}"})
    assert (found.status_code, found.json()["data"]["reason"]) == (400, "bad_request")
    assert "https://" in found.json()["message"]


@pytest.mark.slow
def test_who_says_nothing_is_disconnected(stack: Stack) -> None:
    with connected(stack.settings.http_port) as silent:
        assert silent.recv(1) == b""


def test_old_versions_of_tls_are_refused(stack: Stack) -> None:
    context = ssl.create_default_context(cafile=str(stack.settings.data_dir / "tls" / "ca.pem"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with connected(stack.settings.http_port) as plain, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(plain, server_hostname="localhost")


def test_a_renewed_certificate_needs_no_restart(stack: Stack) -> None:
    before = [presented(stack, port) for port in ports(stack)]
    assert before[0] == before[1]
    stream = chat(stack, max_tokens=90_000)
    eventually(lambda: stream.text, "the stream has begun")
    made = headrace(stack.settings, "cert", "--name", "gateway.example.org")
    assert made.returncode == 0, made.stderr
    for port in ports(stack):
        eventually(lambda port=port: presented(stack, port) not in before, "a new connection gets the new one")
    assert presented(stack, ports(stack)[0]) == presented(stack, ports(stack)[1])
    seen = len(stream.ids)
    eventually(lambda: len(stream.ids) > seen, "the stream goes on")
    with stack.client() as client:
        client.delete(f"/jobs/{stream.job_id}")
    assert stream.join().reconnects == 0


def test_a_broken_certificate_leaves_the_good_one(stack: Stack) -> None:
    """Half of a pair, as while it is being replaced; and then the whole."""
    files = [stack.settings.data_dir / "tls" / name for name in ("server.pem", "server.key")]
    good, kept = presented(stack, ports(stack)[0]), [path.read_bytes() for path in files]
    web, rpc = (stack.folder / "logs" / f"{name}.log" for name in ("web", "rpc"))
    files[0].write_text("-----BEGIN CERTIFICATE-----\nhalf")

    def complained() -> bool:
        assert [presented(stack, port) for port in ports(stack)] == [good, good]
        return all("certificate of TLS stays as it was" in log.read_text() for log in (web, rpc))

    eventually(complained, "both say so")
    for path, content in zip(files, kept, strict=True):
        path.write_bytes(content)
    assert [presented(stack, port) for port in ports(stack)] == [good, good]


def test_the_command_line_trusts_the_development_ca(stack: Stack, tmp_path: Path) -> None:
    settings = replace(stack.settings, bootstrap_key=KEY)
    here = headrace(settings, "models")
    assert (here.returncode, "fake" in here.stdout) == (0, True), here.stderr
    elsewhere = replace(Settings(), data_dir=tmp_path, config=tmp_path / "headrace.toml")
    remote = ("models", "--url", f"https://localhost:{settings.http_port}", "--key", KEY)
    refused = headrace(elsewhere, *remote)
    assert refused.returncode == 1
    assert "HEADRACE_CA_FILE" in refused.stderr
    trusting = replace(elsewhere, ca_file=str(settings.data_dir / "tls" / "ca.pem"))
    found = headrace(trusting, *remote)
    assert (found.returncode, "fake" in found.stdout) == (0, True), found.stderr
    nowhere = headrace(replace(elsewhere, ca_file=str(tmp_path / "none.pem")), *remote)
    assert (nowhere.returncode, nowhere.stderr.count("\n")) == (1, 1)
    assert "none.pem" in nowhere.stderr


def test_plaintext_beyond_this_machine_is_said_in_one_line(stack: Stack) -> None:
    for number, (word, lines) in enumerate((("off", 1), ("proxy", 0))):
        settings = replace(stack.settings, http_tls=word, http_host="0.0.0.0", http_port=free_port())
        name = f"web-{number}"
        stack.start(name, settings=settings)
        url = f"http://127.0.0.1:{settings.http_port}/health/live"
        eventually(lambda url=url: _answers(url), "it answers")
        log = (stack.folder / "logs" / f"{name}.log").read_text()
        assert log.count("without TLS") == lines
        stack.kill(name)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
