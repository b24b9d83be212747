"""Lets machines in: what one that joins is given, and why another one is not. Knows no socket and no terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.access.admitted import Admissions
from gateway.access.certificates import authority, digest_of
from gateway.access.join_tokens import JoinTokens
from gateway.access.plaintext import is_loopback
from gateway.cluster.registry import Registry
from gateway.errors import Conflict, InvalidRequest, InvalidSetting, Unauthenticated
from gateway.process.version import own_version
from gateway.settings import Settings
from gateway.store.redis_url import sentinels, url_options
from schemas.cluster.joining import JoinAnswer, JoinRequest, TokenParts

#: Settings that workers and faces of all machines must have alike.
ALIKE = (
    *("job_ttl_s", "background_ttl_s", "grace_s", "lease_s", "stall_s", "engine_stall_s", "max_attempts"),
    *("queue_limit", "background_queue_limit", "key_max_jobs", "key_max_bytes", "queue_timeout_s"),
    *("background_share", "preemption", "max_preemptions", "max_batch_size", "drain_s", "load_timeout_s"),
    *("node_gone_s", "load_on_demand", "load_on_demand_idle_s", "load_on_demand_fetch"),
    *("breaker_failures", "breaker_window_s", "breaker_open_s", "stream_interval_s", "stream_interval_max_s"),
)
#: Options of a URL that name files.
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class Joining:
    """Answers machines that join."""

    def __init__(self, settings: Settings, client: redis.Redis, tokens: JoinTokens) -> None:
        self._settings = settings
        self._tokens = tokens
        self._registry = Registry(client)
        self.admissions = Admissions(client)

    def join(self, request: JoinRequest, *, known_as: str = "") -> JoinAnswer:
        """Let a machine in. `known_as`: it comes with the certificate of that machine, in the place of a token.

        Raises:
            Unauthenticated: its token is not valid.
            Conflict: its version is another one, or another machine has its name.
            InvalidRequest: its certificate request can't be used.
        """
        _require_version(request.version)
        wanted = _certificate_request(request.request)
        digest = digest_of(wanted.public_key())
        self._require_own_name(request.node, digest)
        if not known_as:
            parts = TokenParts.parse(request.token)
            if parts is None:
                raise Unauthenticated("This is no join token.", reason="invalid_join_token")
            self._tokens.redeem(parts.secret, request.node)
        with authority(self._settings) as ca:
            certificate = ca.sign(wanted, request.node)
        self.admissions.admit(digest, request.node)
        values = {name: str(getattr(self._settings, name)) for name in ALIKE}
        return JoinAnswer(request.node, certificate.decode(), settings=values, **_redis(self._settings.redis_url))

    def _require_own_name(self, node: str, digest: str) -> None:
        """Raises: Conflict if another machine that is alive has this name, or this key."""
        known = self.admissions.all()
        alive = {device.node for device in self._registry.devices()}
        mine = known.get(digest)
        if node in alive and mine != node:
            raise Conflict(
                f"A node {node!r} is alive already. Choose another name with --node, or end that one first.",
                reason="node_alive",
            )
        if mine and mine != node and mine in alive:
            raise Conflict(
                f"The key in this data folder is that of node {mine!r}, which is alive. Use another data folder "
                "(HEADRACE_DATA_DIR) for another node.",
                reason="node_alive",
            )


def reach(redis_url: str) -> tuple[str, int] | str | None:
    """How a listener on this machine reaches a Redis for others: an address on loopback or the path of a socket; None:
    others reach it themselves. Raises: InvalidSetting.
    """
    if sentinels(redis_url):
        return None
    options = url_options(redis_url)
    if "path" in options:
        return str(options["path"])
    host, port = str(options.get("host", "localhost")), int(options.get("port", 6379))
    return (host, port) if is_loopback(host) and redis_url.startswith("redis://") else None


def _redis(redis_url: str) -> dict[str, Any]:
    """The fields of an answer about Redis."""
    if not redis_url:
        return {}
    if reach(redis_url) is None:
        found = sentinels(redis_url)
        options: Mapping[str, Any] = found.options if found else url_options(redis_url)
        return {"redis_url": redis_url, "redis_files": {n: _content(n, options[n]) for n in _FILES if n in options}}
    options = url_options(redis_url)
    return {name: options[name] for name in ("username", "password", "db") if options.get(name)}


def _content(name: str, path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{name} of HEADRACE_REDIS_URL is {path!r}, which can't be read: {error}.") from error


def _require_version(theirs: str) -> None:
    """Raises: Conflict unless both are of the same release, since they share records."""
    ours = own_version()
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        raise Conflict(
            f"This machine has headrace {theirs or '(unknown)'}, the gateway {ours}. Install the same here: "
            f"pip install 'headrace=={ours}'.",
            reason="version_mismatch",
        )


def _certificate_request(pem: str) -> x509.CertificateSigningRequest:
    try:
        found = x509.load_pem_x509_csr(pem.encode())
        if not found.is_signature_valid or not isinstance(found.public_key(), ec.EllipticCurvePublicKey):
            raise ValueError("it must have an elliptic curve key, and its signature")
    except ValueError as error:
        raise InvalidRequest.of({"request": [f"It must be a certificate request in PEM: {error}."]}) from error
    return found


def as_json(answer: JoinAnswer) -> dict[str, Any]:
    """An answer as it is sent."""
    return dataclasses.asdict(answer)
