"""What of an installation must last, out of Redis and back, as plain JSON: any version and kind of Redis takes it.

Jobs are not in it: their clients went with the system that they had asked, and to run them again would do twice what
was done. Nor is what is found out anew: heartbeats, windows of limits, lines, statistics. Knows no files.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain, islice, pairwise
from typing import Any, cast

import redis

from gateway.errors import Conflict, Unreadable
from gateway.process.version import own_version
from gateway.store import keys
from gateway.store.checks import is_time
from gateway.store.codec import dumps, load_as
from gateway.store.connection import pipeline

#: Of the form of backups; one of another is refused.
FORMAT, VERSION = "headrace-backup", 1
#: How often the snapshot is tried again, if keys, nodes or tokens are added at that moment.
TRIES = 20
#: Hashes of the ledger that are read in one round trip.
BATCH = 1_000
#: What lasts under a name of its own, and its type.
NAMES = {
    keys.INSTALLATION: "string",
    keys.API_KEYS: "hash",
    keys.BOOTSTRAP_KEYS: "hash",
    keys.CATALOG: "hash",
    keys.CATALOG_FILE: "string",
    keys.CATALOG_VERSION: "string",
    keys.DISCARDED: "set",
    keys.DESIRED_DEVICES: "set",
    keys.NODES: "set",
    keys.JOIN_TOKENS: "hash",
    keys.ADMITTED: "hash",
    keys.AUDIT: "stream",
}
#: The indexes among these: they name the hashes that last, too.
INDEXES = (keys.API_KEYS, keys.DESIRED_DEVICES, keys.NODES, keys.JOIN_TOKENS)
#: What the names of those hashes, and of the ledger, begin with.
DESIRED, LEDGER = keys.desired("", "")[:-1], keys.usage("", "").partition("{")[0]
HASHES = (*(name("") for name in (keys.api_key, keys.join_token, keys.node)), DESIRED, LEDGER)
#: Without any of these an installation is empty.
BEGUN = (keys.INSTALLATION, keys.API_KEYS, keys.CATALOG, keys.DESIRED_DEVICES)

_READ = {"string": ("GET",), "hash": ("HGETALL",), "set": ("SMEMBERS",), "stream": ("XRANGE", "-", "+")}


@dataclass(frozen=True)
class Header:
    """A backup's first line."""

    format: str
    version: int
    #: The version of Headrace that made it, the id of its installation, and when, in ms since the epoch.
    headrace: str
    installation: str
    made_at: int


@dataclass(frozen=True)
class Item:
    """One value that lasts."""

    name: str
    #: As Redis calls its type; `file` for one of a data folder.
    kind: str
    value: Any
    #: Milliseconds since the epoch; 0: never.
    expires_at: int = 0


@dataclass(frozen=True)
class Footer:
    """A backup's last line, without which it is not whole."""

    items: int
    #: Of all lines before.
    sha256: str


def snapshot(client: redis.Redis) -> Iterator[Item]:
    """All that lasts. All but the ledger is of one moment; each day of the ledger is of one before that.

    Raises: NOT_NOW; Conflict if keys, nodes or tokens are added all the time.
    """
    yield from _ledger(client)
    for _ in range(TRIES):
        try:
            yield from _rest(client)
        except redis.exceptions.WatchError:
            continue
        return
    raise Conflict("Keys, nodes or join tokens were added all the time. Try again.")


def _ledger(client: redis.Redis) -> Iterator[Item]:
    found = set(client.scan_iter(match=keys.usage("*", "*"), count=BATCH))
    names = sorted(cast("set[str]", found))
    for at in range(0, len(names), BATCH):
        yield from _read(client.pipeline(transaction=True), dict.fromkeys(names[at : at + BATCH], "hash"))


def _rest(client: redis.Redis) -> list[Item]:
    """Raises: WatchError if an index changes meanwhile."""
    with client.pipeline(transaction=True) as pipe:
        pipe.watch(*INDEXES)
        found = pipe.hvals(keys.API_KEYS), pipe.smembers(keys.DESIRED_DEVICES), pipe.smembers(keys.NODES)
        digests, devices, nodes = cast("tuple[list[str], set[str], set[str]]", found)
        tokens = cast("list[str]", pipe.hvals(keys.JOIN_TOKENS))
        old = pipeline(client, [("HGET", keys.api_key(digest), "old_digest") for digest in digests])
        hashes = [
            *(keys.api_key(digest) for digest in [*digests, *filter(None, old)]),
            *(keys.join_token(digest) for digest in tokens),
            *(keys.node(name) for name in sorted(nodes)),
            *(keys.desired(*member.split(" ", 1)) for member in sorted(devices)),
        ]
        pipe.multi()
        return _read(pipe, NAMES | dict.fromkeys(hashes, "hash"))


def _read(pipe: redis.client.Pipeline, kinds: Mapping[str, str]) -> list[Item]:
    for name, kind in kinds.items():
        command, *bounds = _READ[kind]
        pipe.execute_command(command, name, *bounds)
        pipe.execute_command("PEXPIRETIME", name)
    replies = iter(pipe.execute())
    found = [
        Item(name, kind, sorted(value) if kind == "set" else value, max(0, expires_at))
        for (name, kind), value, expires_at in zip(kinds.items(), replies, replies, strict=True)
    ]
    return [item for item in found if item.value]


def lines(items: Iterable[Item], *, installation: str, now_ms: int) -> Iterator[str]:
    """A backup, line by line."""
    digest, header = hashlib.sha256(), Header(FORMAT, VERSION, own_version(), installation, now_ms)
    count = 0
    for one in chain([asdict(header)], map(asdict, items)):
        line = dumps(one) + "\n"
        digest.update(line.encode())
        count += 1
        yield line
    yield dumps(asdict(Footer(count - 1, digest.hexdigest()))) + "\n"


def check(text: Iterable[str]) -> Header:
    """The header of a whole backup, from its lines. Raises: Unreadable, saying what is wrong with it."""
    rest = iter(text)
    last = next(rest, "")
    header = _header(last)
    digest, count = hashlib.sha256(), -1
    for line in rest:
        digest.update(last.encode())
        last, count = line, count + 1
    try:
        footer = load_as(Footer, last)
    except Unreadable as error:
        raise Unreadable("It is cut off: its last line is missing. Take another copy.") from error
    if digest.hexdigest() != footer.sha256 or count != footer.items:
        raise Unreadable("It was changed, or is damaged: its checksum is another one. Take another copy.")
    return header


def items(text: Iterable[str]) -> Iterator[Item]:
    """What is in a backup that was checked, one by one. Raises: Unreadable at one that is nothing that lasts."""
    rest = islice(text, 1, None)
    for line, behind in pairwise(chain(rest, [""])):
        if behind:
            yield _item(line)


def _header(line: str) -> Header:
    try:
        header = load_as(Header, line)
    except Unreadable as error:
        raise Unreadable("It is no backup of Headrace.") from error
    if header.format != FORMAT:
        raise Unreadable(f"It is no backup of Headrace, but says that it is {header.format!r:.80}.")
    if header.version != VERSION:
        raise Unreadable(
            f"It is of version {header.version}, made by Headrace {header.headrace}; this is Headrace {own_version()}, "
            f"which reads version {VERSION}. Restore it with the one that made it."
        )
    if not is_time(header.made_at):
        raise Unreadable(f"It says that it was made at {header.made_at}, which is no time.")
    return header


def _item(line: str) -> Item:
    item = load_as(Item, line)
    if item.kind != "file" and item.kind != NAMES.get(item.name, "hash" if item.name.startswith(HASHES) else ""):
        raise Unreadable(f"It has {item.name!r:.80} of the type {item.kind!r:.40}, which is nothing that lasts.")
    if not _fits(item.kind, item.value) or not is_time(item.expires_at):
        raise Unreadable(f"Its {item.name!r:.80} is no value of the type {item.kind!r}.")
    return item


def _fits(kind: str, value: Any) -> bool:
    if kind in ("string", "file"):
        return isinstance(value, str)
    if kind == "hash":
        return isinstance(value, dict) and bool(value) and _are_texts(value.values())
    if kind == "set":
        return isinstance(value, list) and bool(value) and _are_texts(value)
    return isinstance(value, list) and all(map(_is_entry, value))


def _is_entry(value: Any) -> bool:
    """Whether it is one of a stream: its id, and its fields."""
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):
        return False
    return bool(re.fullmatch(r"\d{1,15}-\d{1,10}", value[0], re.ASCII)) and _fits("hash", value[1])


def _are_texts(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def require_empty(client: redis.Redis) -> None:
    """Raises: Conflict if there is an installation."""
    if there := [name for name in BEGUN if client.exists(name)]:
        raise Conflict(
            f"Redis holds an installation already ({', '.join(there)}). Restore into an empty Redis: another data "
            "folder, or another database of HEADRACE_REDIS_URL."
        )


def restore(client: redis.Redis, found: Iterable[Item]) -> None:
    """Write all of it. The ledger goes first, a part at a time; without the rest, which is written at once, nobody
    sees it. So one that was interrupted can be begun again. Raises: Conflict if the installation is not empty; NOT_NOW.
    """
    require_empty(client)
    rest = []
    with client.pipeline(transaction=True) as pipe:
        for item in found:
            if not item.name.startswith(LEDGER):
                rest.append(item)
                continue
            _write(pipe, item)
            if len(pipe) > BATCH:
                pipe.execute()
        pipe.execute()
        pipe.watch(*BEGUN)
        require_empty(client)
        pipe.multi()
        for item in rest:
            _write(pipe, item)
        try:
            pipe.execute()
        except redis.exceptions.WatchError as error:
            raise Conflict("Another installation has begun in this Redis at this moment.") from error


def _write(pipe: redis.client.Pipeline, item: Item) -> None:
    pipe.delete(item.name)
    for command in _written(item):
        pipe.execute_command(*command)
    if item.expires_at:
        pipe.pexpireat(item.name, item.expires_at)


def _written(item: Item) -> Iterator[tuple[Any, ...]]:
    if item.kind == "string":
        yield ("SET", item.name, item.value)
    elif item.kind == "hash":
        yield ("HSET", item.name, *chain.from_iterable(item.value.items()))
    elif item.kind == "set":
        yield ("SADD", item.name, *item.value)
    else:
        yield from (("XADD", item.name, entry, *chain.from_iterable(fields.items())) for entry, fields in item.value)
