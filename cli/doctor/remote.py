"""Checks of a gateway elsewhere, over its HTTP API (`headrace doctor --url`)."""

from __future__ import annotations

import datetime
import importlib.metadata
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
from cryptography import x509

from cli.api.connection import trusted
from cli.client import ServerError, message_of
from cli.doctor.checks import Finding, ok, problem, warning
from gateway.access.certificates import RENEW_DAYS
from gateway.access.plaintext import is_loopback
from gateway.models.entry import LOCAL
from gateway.settings import Settings

#: States of a model that is asked for one token.
ASKED = "active"
#: Most models that are asked, and seconds within which each must begin.
MAX_ASKED, PATIENCE_S = 20, 10
#: Seconds to connect.
CONNECT_S = 10.0


@dataclass(frozen=True)
class Remote:
    """A gateway, and how this machine reaches it."""

    settings: Settings
    client: httpx.Client

    def data(self, path: str) -> Any:
        """What is in the envelope of a GET. Raises: ServerError, httpx.TransportError."""
        response = self.client.get(path)
        if response.status_code not in (200, 503):
            raise ServerError(message_of(response))
        return response.json()["data"]


def answers(remote: Remote) -> Iterable[Finding]:
    """Whether it is there, and of which version."""
    theirs, ours = remote.data("/").get("version", "unknown"), importlib.metadata.version("headrace")
    if theirs != ours:
        yield warning(f"version {theirs} at {remote.client.base_url}; this command is {ours}", "Install the same here.")
    else:
        yield ok(f"version {theirs} at {remote.client.base_url}")


def transport(remote: Remote) -> Iterable[Finding]:
    """Whether others can read along, and when the certificate ends."""
    url = remote.client.base_url
    if url.scheme != "https":
        if is_loopback(url.host):
            yield ok("plain HTTP on this machine")
        else:
            yield warning("plain HTTP: keys and prompts can be read on the way", "Use TLS; see docs/security.md.")
        return
    address = url.host, url.port or 443
    with socket.create_connection(address, CONNECT_S) as plain:
        context = trusted(remote.settings)
        with context.wrap_socket(plain, server_hostname=url.host) as secured:
            certificate = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
    days = (certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)).days
    if days < RENEW_DAYS:
        yield warning(f"the certificate ends in {days} days", "Renew it; no restart is needed.")
    else:
        yield ok(f"a trusted certificate, good for {days} days")


def links(remote: Remote) -> Iterable[Finding]:
    """Whether its links lead to itself, where a proxy shows it below a path."""
    root, docs = remote.client.base_url.path.rstrip("/"), str(remote.data("/").get("docs", ""))
    if docs == f"{root}/docs/":
        yield ok(f"begin with {root or '/'}")
    else:
        yield problem(f"its documentation is said to be at {docs}", f"Set HEADRACE_ROOT_PATH={root or '/'} there.")


def readiness(remote: Remote) -> Iterable[Finding]:
    """Redis, keeper, catalog, replicas and providers."""
    data = remote.data("/health/ready")
    if data["status"] != "healthy":
        yield problem(f"not ready: Redis {data['redis']}, keeper {data['keeper']}", "Run 'headrace doctor' there.")
    elif not data["keeper_trusted"]:
        yield warning("the keeper recovers nothing yet", "It has just reached Redis; look again in a minute.")
    for text in data.get("catalog_problems", ()):
        yield warning(f"catalog: {text}", "Correct it there; 'headrace check' says whether it is good.")
    for kind in ("replicas", "providers"):
        for name, health in data[kind].items():
            if health not in ("healthy", "asleep"):
                yield warning(f"{name} is {health}", "See its log.")
    if data["status"] == "healthy":
        yield ok(f"takes requests; {len(data['replicas'])} replicas, {len(data['providers'])} providers")


def nodes(remote: Remote) -> Iterable[Finding]:
    """Machines that are gone, or run another version."""
    response = remote.client.get("/nodes")
    if response.status_code == 403:
        yield ok("not looked at: the key lacks the scope deploy")
        return
    if not response.is_success:
        raise ServerError(message_of(response))
    found = response.json()["data"]["nodes"]
    version = remote.data("/").get("version", "")
    for node in found:
        if node["state"] != "gone" and node["version"] not in ("", version):
            remedy = "They work together while you update; bring all to one version."
            yield warning(f"{node['name']} runs {node['version']}, the gateway {version}", remedy)
        if node["state"] == "gone":
            yield warning(f"{node['name']} is gone, last seen {node['last_seen']}", "See 'headrace nodes'.")
    yield ok(f"{sum(node['state'] != 'gone' for node in found)} of {len(found)} are there")


def metrics(remote: Remote) -> Iterable[Finding]:
    """Whether this key may read them."""
    response = remote.client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    if response.is_success:
        yield ok(f"{sum(not line.startswith('#') for line in response.text.splitlines())} values")
    elif response.status_code == 404:
        yield ok("off (HEADRACE_METRICS)")
    else:
        yield ok(f"for keys with the scope metrics, which this one is not: {message_of(response)}")


def models(remote: Remote) -> Iterable[Finding]:
    """A request for one token to each local model that serves; others may cost money."""
    found = [one for one in remote.data("/models")["models"] if one["status"] == ASKED and one["provider"] == LOCAL]
    for model in found[:MAX_ASKED]:
        began, (path, body) = time.monotonic(), _smallest(model["capabilities"])
        response = remote.client.post(f"/models/{quote(model['id'])}/{path}", json={**body, "timeout": PATIENCE_S})
        if response.is_success:
            yield ok(f"{model['id']} has answered in {time.monotonic() - began:.2f} s")
        else:
            yield problem(f"{model['id']}: {message_of(response)}", "See 'headrace models' and its log there.")
    if not found:
        yield warning("none serves", "Deploy one: headrace deploy MODEL")


def _smallest(capabilities: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Path behind the model, and body, of the smallest request."""
    if "completion" in capabilities:
        return "completions", {"prompt": "1", "max_tokens": 1}
    if "chat" in capabilities:
        return "chat/completions", {"messages": [{"role": "user", "content": "1"}], "max_tokens": 1}
    return "embeddings", {"input": ["1"]}


CHECKS: tuple[Callable[[Remote], Iterable[Finding]], ...] = (
    answers,
    transport,
    links,
    readiness,
    nodes,
    metrics,
    models,
)
