"""Where keys are kept: behind the HTTP API of a URL, or in this machine's Redis, which needs no admin key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote

import click
import httpx

from cli.api.connection import connect
from cli.client import raise_for_error
from cli.preflight import wait_for_redis
from gateway.access.api_keys import Credentials
from gateway.access.audit import AuditLog
from gateway.access.key_editor import KeyEditor
from gateway.access.key_record import KeyRecord
from gateway.access.secret_files import bootstrap_file, bootstrap_key, secret_file
from gateway.errors import Conflict
from gateway.jobs.control import cancel_all
from gateway.jobs.store import JobStore
from gateway.settings import Settings
from gateway.store.connection import connect as redis_client
from gateway.views.api_keys import shown
from gateway.views.usage import usage
from schemas.keys import KeyChange, KeyRequest
from schemas.usage import UsageQuery

#: The caller of a command that uses Redis itself: it may do all.
OPERATOR = KeyRecord(id="", name=f"uid:{os.getuid()}", prefix="", scopes=("admin",), created_at=0)


class Keys(Protocol):
    """Keys as the API shows them. Whoever names one may use its id or name."""

    def all(self) -> list[dict[str, Any]]:
        """All of them, oldest first."""

    def create(self, body: Mapping[str, Any], request: KeyRequest) -> dict[str, Any]:
        """A new one, with its secret. The body, and what it was loaded as."""

    def one(self, name: str) -> dict[str, Any]:
        """One of them."""

    def update(self, name: str, body: Mapping[str, Any], change: KeyChange) -> dict[str, Any]:
        """One of them, changed."""

    def rotate(self, name: str, grace_s: int) -> dict[str, Any]:
        """One of them, with its new secret."""

    def revoke(self, name: str) -> dict[str, Any]:
        """One of them, revoked, with the number of its jobs that were cancelled."""

    def usage(self, body: Mapping[str, Any], query: UsageQuery) -> dict[str, Any]:
        """The report."""

    def close(self) -> None:
        """End its connections."""


def keys_of(settings: Settings, url: str | None, key: str | None) -> Keys:
    """Those of the gateway at `url`; without one, those of this machine's Redis. Raises: StoreUnavailable."""
    return RemoteKeys(connect(settings, url, key)) if url else StoredKeys(settings)


class RemoteKeys:
    """Over the HTTP API."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.close = client.close

    def all(self) -> list[dict[str, Any]]:
        """As `Keys`."""
        return list(self._ask("GET", "/keys")["keys"])

    def create(self, body: Mapping[str, Any], request: KeyRequest) -> dict[str, Any]:
        """As `Keys`."""
        return self._ask("POST", "/keys", json=dict(body))

    def one(self, name: str) -> dict[str, Any]:
        """As `Keys`."""
        return self._ask("GET", _path(name))

    def update(self, name: str, body: Mapping[str, Any], change: KeyChange) -> dict[str, Any]:
        """As `Keys`."""
        return self._ask("PATCH", _path(name), json=dict(body))

    def rotate(self, name: str, grace_s: int) -> dict[str, Any]:
        """As `Keys`."""
        return self._ask("POST", f"{_path(name)}/rotate", json={"grace_s": grace_s})

    def revoke(self, name: str) -> dict[str, Any]:
        """As `Keys`."""
        return self._ask("DELETE", _path(name))

    def usage(self, body: Mapping[str, Any], query: UsageQuery) -> dict[str, Any]:
        """As `Keys`."""
        return self._ask("GET", "/usage", params=dict(body))

    def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """Raises: ServerError with the server's own text."""
        response = self._client.request(method, path, **request)
        raise_for_error(response)
        return dict(response.json()["data"])


class StoredKeys:
    """In Redis."""

    def __init__(self, settings: Settings) -> None:
        """Raises: StoreUnavailable."""
        self._settings = settings
        client = redis_client(settings, retries=1)
        wait_for_redis(client, settings.effective_redis_url, timeout_s=1)
        self._credentials = Credentials(client)
        self._editor = KeyEditor(self._credentials, AuditLog(client, "cli"))
        self._store = JobStore(client)
        self.close = client.close

    def all(self) -> list[dict[str, Any]]:
        """As `Keys`."""
        return [shown(record) for record in self._credentials.list()]

    def create(self, body: Mapping[str, Any], request: KeyRequest) -> dict[str, Any]:
        """As `Keys`."""
        record, secret = self._editor.create(request, by=OPERATOR)
        return {**shown(record), "secret": secret}

    def one(self, name: str) -> dict[str, Any]:
        """As `Keys`."""
        return shown(self._credentials.find(name))

    def update(self, name: str, body: Mapping[str, Any], change: KeyChange) -> dict[str, Any]:
        """As `Keys`."""
        return shown(self._editor.update(name, change, by=OPERATOR))

    def rotate(self, name: str, grace_s: int) -> dict[str, Any]:
        """As `Keys`. The bootstrap key in the data folder is written there, too."""
        key_id = self._credentials.find(name).id
        is_first = self._is_first(key_id)
        record, secret = self._editor.rotate(key_id, grace_s=grace_s, by=OPERATOR)
        if is_first and self._settings.bootstrap_key:
            click.echo("headrace | this is HEADRACE_BOOTSTRAP_KEY: set that to the new secret", err=True)
        elif is_first:
            secret_file(self._settings, "bootstrap", secret)
            click.echo(f"headrace | it is in {bootstrap_file(self._settings)} now", err=True)
        return {**shown(record), "secret": secret}

    def revoke(self, name: str) -> dict[str, Any]:
        """As `Keys`."""
        record = self._editor.revoke(name, by=OPERATOR)
        return {**shown(record), "cancelled_jobs": cancel_all(self._store, record.id)}

    def usage(self, body: Mapping[str, Any], query: UsageQuery) -> dict[str, Any]:
        """As `Keys`."""
        return usage(self._store.ledger, self._credentials, query, key=OPERATOR)

    def _is_first(self, key_id: str) -> bool:
        """Whether it is the bootstrap key of this machine."""
        try:
            record = self._credentials.of_secret(bootstrap_key(self._settings))
        except Conflict:
            return False
        return record is not None and record.id == key_id


def _path(name: str) -> str:
    return f"/keys/{quote(name, safe='')}"
