"""`headrace backup` and `restore`: what must last of an installation, to a file and back.

They work in this machine's Redis, which the embedded one is started for where it does not run.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import cast

import click
import redis

from cli.output import say
from cli.preflight import bootstrap_file, check_redis, wait_for_redis
from gateway.access.certificates import tls_folder, write
from gateway.errors import Conflict, StoreUnavailable, Unreadable
from gateway.process.start import module_command, private_folder
from gateway.settings import Settings
from gateway.store import backup as store
from gateway.store import keys
from gateway.store.backup import Item
from gateway.store.connection import connect
from gateway.store.embedded import is_served, socket_path
from schemas.base.times import iso

#: How long the embedded Redis may take to write everything to its disk at its end.
END_S = 60.0


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.pass_obj
def backup(settings: Settings, path: Path) -> None:
    """Write what must last to FILE: keys, catalog, desired state, usage, join tokens, audit log, and the secrets of the
    data folder. Also while everything runs. The file is its owner's alone; keep it as you keep a key.
    """
    if path.exists():
        raise Conflict(f"{path} exists already. Name another file, or remove it.")
    with redis_of(settings) as client:
        installation = cast("str | None", client.get(keys.INSTALLATION))
        if installation is None:
            raise StoreUnavailable("There is nothing to back up: Redis holds no installation.")
        seconds, _ = client.time()
        items = list(chain(store.snapshot(client), _files(settings)))
    try:
        write(
            path, "".join(store.lines(items, installation=installation, now_ms=1000 * seconds)).encode(), private=True
        )
    except OSError as error:
        raise Unreadable(f"{path} can't be written: {error.strerror}.") from error
    say(f"{path}: {_counted(items)} of installation {installation}")


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.pass_obj
def restore(settings: Settings, path: Path) -> None:
    """Begin a new installation with what FILE holds, before 'headrace up'. Refused where one is already."""
    try:
        header, items = store.parse(path.read_text().splitlines(keepends=True))
    except OSError as error:
        raise Unreadable(f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path}: It is no backup of Headrace.") from error
    except Unreadable as error:
        raise Unreadable(f"{path}: {error.message}") from error
    files = {file: item.value for item in items if item.kind == "file" for file in [_path(settings, item.name)]}
    for file, text in files.items():
        if file.exists() and file.read_text() != text:
            raise Conflict(f"{file} is of another installation. Restore into another data folder, or move it away.")
    with redis_of(settings) as client:
        store.require_empty(client)
        for file, text in files.items():
            private_folder(file.parent)
            write(file, text.encode(), private=True)
        store.restore(client, [item for item in items if item.kind != "file"])
    say(f"{_counted(items)} of installation {header.installation}, as of {iso(header.made_at)}")


@contextmanager
def redis_of(settings: Settings) -> Iterator[redis.Redis]:
    """A client of this machine's Redis. The embedded one runs meanwhile, if it does not yet.

    Raises:
        StoreUnavailable, InvalidSetting.
    """
    with ExitStack() as stack:
        if not settings.redis_url and not is_served(socket_path(settings.data_dir)):
            private_folder(settings.data_dir)
            environ = {**os.environ, **settings.environ()}
            command = module_command("gateway.store.embedded")
            server = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            stack.callback(server.wait, END_S)
            stack.callback(server.terminate)
        client = stack.enter_context(connect(settings, retries=1))
        wait_for_redis(client, settings.effective_redis_url)
        check_redis(client)
        yield client


def _files(settings: Settings) -> Iterator[Item]:
    """The secrets of the data folder without which the rest is not the same installation."""
    for name in ("keys/bootstrap", "tls/ca.key", "tls/ca.pem"):
        if (path := _path(settings, name)).exists():
            yield Item(name, "file", path.read_text())


def _path(settings: Settings, name: str) -> Path:
    """Raises: Unreadable."""
    tls = tls_folder(settings)
    known = {
        "keys/bootstrap": bootstrap_file(settings),
        "tls/ca.key": tls / "ca.key",
        "tls/ca.pem": tls / "ca.pem",
    }
    if name not in known:
        raise Unreadable(f"The backup has a file {name!r:.80}, which is nothing that lasts.")
    return known[name]


def _counted(items: Sequence[Item]) -> str:
    values = {item.name: item.value for item in items}
    num_keys, models = (len(values.get(name, ())) for name in (keys.API_KEYS, keys.CATALOG))
    replicas = sum(len(value) for name, value in values.items() if name.startswith(store.DESIRED))
    days = len({name.rpartition(":")[2] for name in values if name.startswith(store.LEDGER)})
    return f"{num_keys} keys, {models} added models, {replicas} replicas and {days} days of usage"
