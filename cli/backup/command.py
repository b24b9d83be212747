"""`headrace backup` and `restore`: what must last of an installation, to a file and back.

They work in this machine's Redis, which the embedded one is started for where it does not run.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import TextIO, cast

import click
import redis

from cli.output import counted, json_option, say, show_json
from cli.preflight import check_redis, wait_for_redis
from gateway.access.certificates import write
from gateway.access.secret_files import bootstrap_file
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
@json_option
@click.pass_obj
def backup(settings: Settings, path: Path, as_json: bool) -> None:
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
        tally = Tally()
        items = tally.of(counted(chain(store.snapshot(client), _files(settings)), "values"))
        try:
            with _draft(path) as file:
                file.writelines(store.lines(items, installation=installation, now_ms=1000 * seconds))
        except OSError as error:
            raise Unreadable(f"{path} can't be written: {error.strerror}.") from error
    _report(tally, f"{path}: {tally} of installation {installation}", as_json=as_json, file=path, of=installation)


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def restore(settings: Settings, path: Path, as_json: bool) -> None:
    """Begin a new installation with what FILE holds, before 'headrace up'. Refused where one is already."""
    with _opened(path) as file:
        header = store.check(file)
        file.seek(0)
        files = {_path(settings, item.name): item.value for item in store.items(file) if item.kind == "file"}
        for own, text in files.items():
            if own.exists() and own.read_text() != text:
                raise Conflict(f"{own} is of another installation. Restore into another data folder, or move it away.")
        with redis_of(settings) as client:
            store.require_empty(client)
            for own, text in files.items():
                private_folder(own.parent)
                write(own, text.encode(), private=True)
            file.seek(0)
            tally = Tally()
            items = tally.of(counted(store.items(file), "values"))
            store.restore(client, (item for item in items if item.kind != "file"))
    what = f"{tally} of installation {header.installation}, as of {iso(header.made_at)}"
    _report(tally, what, as_json=as_json, file=path, of=header.installation)


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """A backup that is read. Raises: Unreadable, naming the file, at whatever is wrong with it."""
    try:
        file = path.open(encoding="utf-8", newline="\n")
    except OSError as error:
        raise Unreadable(f"{path} can't be read: {error.strerror}.") from error
    with file:
        try:
            yield file
        except UnicodeDecodeError as error:
            raise Unreadable(f"{path}: It is no backup of Headrace.") from error
        except Unreadable as error:
            raise Unreadable(f"{path}: {error.message}") from error


@contextmanager
def _draft(path: Path) -> Iterator[TextIO]:
    """A file, its owner's alone, that is at `path` when it is whole, and on the disk."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    try:
        with os.fdopen(
            os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8", newline="\n"
        ) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


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
    tls = settings.tls_dir
    known = {
        "keys/bootstrap": bootstrap_file(settings),
        "tls/ca.key": tls / "ca.key",
        "tls/ca.pem": tls / "ca.pem",
    }
    if name not in known:
        raise Unreadable(f"The backup has a file {name!r:.80}, which is nothing that lasts.")
    return known[name]


@dataclass
class Tally:
    """What has passed by."""

    keys: int = 0
    models: int = 0
    replicas: int = 0
    days: set[str] = field(default_factory=set)

    def of(self, items: Iterable[Item]) -> Iterator[Item]:
        """Pass items on, counted."""
        for item in items:
            if item.name == keys.API_KEYS:
                self.keys = len(item.value)
            elif item.name == keys.CATALOG:
                self.models = len(item.value)
            elif item.name.startswith(store.DESIRED):
                self.replicas += len(item.value)
            elif item.name.startswith(store.LEDGER):
                self.days.add(item.name.rpartition(":")[2])
            yield item

    def __str__(self) -> str:
        days = len(self.days)
        return f"{self.keys} keys, {self.models} added models, {self.replicas} replicas and {days} days of usage"


def _report(tally: Tally, text: str, *, as_json: bool, file: Path, of: str) -> None:
    if as_json:
        found = {**asdict(tally), "days": len(tally.days), "installation": of, "file": str(file)}
        show_json(found)
    else:
        say(text)
