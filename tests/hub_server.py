"""A small hub: an HTTP server that speaks what huggingface_hub asks of one, and fails as networks and disks do.

Models' descriptions and small files come from the hub itself; files in Git LFS are redirected to a storage server of
another origin, as on the real hub. A test says what goes wrong by putting faults into `faults`, by file name: each
request for the bytes of that file takes one.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

#: Files that the hub keeps in Git LFS.
LFS_SUFFIXES = (".safetensors", ".gguf", ".bin")
TOKEN = "hf_token_of_the_test"
_MODELS = "/api/models"
_API = re.compile(r"/api/models/([^/]+/[^/]+?)(?:/revision/([^/]+)|(/refs))?")
_RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer; the fields can be combined."""

    #: Break the connection after so many bytes of this answer.
    cut_after: int | None = None
    #: Stop sending after so many bytes, and hold the connection until the server is told to go on.
    stall_after: int | None = None
    #: Send a few bytes at a time, with pauses of so many seconds.
    trickle_s: float = 0.0
    trickle_bytes: int = 1
    #: Answer with this status, and ask for a pause.
    status: int = 0
    retry_after: str = ""
    #: Take no notice of the range that was asked for.
    whole: bool = False
    #: Change the first byte.
    damage: bool = False


@dataclass
class Seen:
    """One request, as the server saw it."""

    method: str
    path: str
    range: str
    authorized: bool


@dataclass
class Repository:
    """The files of `main`, and of other commits. `claimed` are sizes that its list says instead of real ones."""

    revision: str
    files: dict[str, bytes]
    #: Only its files are kept from those who have not accepted its terms: everybody may see what there is.
    gated: bool = False
    #: Nobody else knows that it is there.
    private: bool = False
    claimed: dict[str, int] = field(default_factory=dict)
    #: What stands at the beginning of its README.
    card: dict[str, Any] = field(default_factory=dict)
    downloads: int = 0
    #: Commits by name, beside `main`; and the files of those commits.
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    others: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit of a branch, a tag or a commit, and its files."""
        commit = {"main": self.revision, **self.branches, **self.tags}.get(revision, revision)
        files = self.files if commit == self.revision else self.others.get(commit)
        return None if files is None else (commit, files)


class HubServer:
    """Both origins, and what tests want to know of them."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.seen: list[Seen] = []
        #: What stands between has this to say in place of a list of files.
        self.listing: bytes | None = None
        #: Set when an answer has stalled; set `go_on` to let stalled ones end.
        self.stalled = threading.Event()
        self.go_on = threading.Event()
        self._servers = [_Server(self, storage=storage) for storage in (False, True)]
        self.url, self.storage_url = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)
        self._threads = [
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            for server in self._servers
        ]

    def add(self, name: str, folder: Path, **about: Any) -> Repository:
        """Publish the files of a folder. The commit is made of their content."""
        commit, files = _committed(folder)
        self.repositories[name] = Repository(commit, files, **about)
        return self.repositories[name]

    def add_branch(self, name: str, branch: str, folder: Path) -> str:
        """Publish the files of a folder in a branch of a repository. Returns its commit."""
        commit, files = _committed(folder)
        self.repositories[name].others[commit] = files
        self.repositories[name].branches[branch] = commit
        return commit

    def requests(self, suffix: str) -> list[Seen]:
        """GET requests for the bytes of a file, from whoever had them."""
        return [seen for seen in self.seen if seen.method == "GET" and seen.path.endswith(suffix)]

    @contextmanager
    def running(self) -> Iterator[HubServer]:
        """Serve; at the end no request may hang."""
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self.go_on.set()
            for server in self._servers:
                server.shutdown()
                server.server_close()


def _committed(folder: Path) -> tuple[str, dict[str, bytes]]:
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return hashlib.sha1(b"".join(name.encode() + text for name, text in sorted(files.items()))).hexdigest(), files


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: HubServer, *, storage: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Storage if storage else _Hub)
        self.hub = hub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        authorized = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        self.server.hub.seen.append(Seen(self.command, unquote(path), self.headers.get("Range", ""), authorized))
        self.answer(path, authorized)

    def answer(self, path: str, authorized: bool) -> None:
        raise NotImplementedError

    def refuse(self, status: int, code: str, message: str, **headers: str) -> None:
        """An error as the hub writes them."""
        body = json.dumps({"error": message}).encode()
        self.begin(status, len(body), {"X-Error-Code": code, "X-Error-Message": message, **headers})
        self.body(body)

    def begin(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()

    def body(self, content: bytes) -> None:
        if self.command != "HEAD":
            self.wfile.write(content)

    def content(self, name: str, content: bytes, headers: dict[str, str]) -> None:
        """The bytes of a file, as the next fault for it wants."""
        hub = self.server.hub
        faults = hub.faults[name] if self.command == "GET" else deque()
        fault = faults.popleft() if faults else Fault()
        if fault.status:
            self.refuse(fault.status, "", "out of order", **{"Retry-After": fault.retry_after})
            return
        total, start, status = len(content), 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted and not fault.whole:
            start, end = int(wanted[1]), int(wanted[2] or total - 1)
            if start >= total:
                self.refuse(416, "", "range not satisfiable", **{"Content-Range": f"bytes */{total}"})
                return
            content, status = content[start : end + 1], 206
            headers = {**headers, "Content-Range": f"bytes {start}-{start + len(content) - 1}/{total}"}
        if fault.damage:
            content = bytes([content[0] ^ 1]) + content[1:]
        self.begin(status, len(content), {**headers, "Accept-Ranges": "bytes"})
        self._send(content, fault)

    def _send(self, content: bytes, fault: Fault) -> None:
        hub = self.server.hub
        if fault.trickle_s:
            for i in range(0, len(content), fault.trickle_bytes):
                self.body(content[i : i + fault.trickle_bytes])
                if hub.go_on.wait(fault.trickle_s):
                    break
            self.close_connection = True
            return
        stop = fault.cut_after if fault.cut_after is not None else fault.stall_after
        self.body(content if stop is None else content[:stop])
        if fault.stall_after is not None:
            hub.stalled.set()
            hub.go_on.wait(60)
            self.body(content[fault.stall_after :])
        self.close_connection = fault.cut_after is not None


class _Hub(_Handler):
    """Lists and small files; redirects to the storage."""

    def answer(self, path: str, authorized: bool) -> None:
        """The path is as it was sent: a revision with a slash in it is quoted."""
        if self.headers.get("Authorization") and not authorized:
            self.refuse(401, "", "Invalid credentials in Authorization header")
            return
        if path == _MODELS:
            self._search(parse_qs(urlsplit(self.path).query), authorized)
            return
        listed, resolved = _API.fullmatch(path), _RESOLVE.fullmatch(path)
        match = listed or resolved
        name = unquote(match[1]) if match else ""
        repository = self.server.hub.repositories.get(name)
        if match is None or repository is None or (repository.private and not authorized):
            # Who has shown no token is not told which of the two it is.
            self.refuse(404 if authorized else 401, "RepoNotFound", "Repository not found")
        elif listed and listed[3]:
            self._refs(repository)
        elif not (found := repository.at(unquote(match[2] or "main"))):
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {unquote(match[2])}")
        elif listed:
            self._list(name, repository, *found)
        elif repository.gated and not authorized:
            self.refuse(401, "GatedRepo", f"Access to model {name} is restricted. Please log in.")
        else:
            self._resolve(unquote(match[3]), *found)

    def json(self, value: Any) -> None:
        """An answer of the API."""
        body = self.server.hub.listing or json.dumps(value).encode()
        self.begin(200, len(body), {"Content-Type": "application/json; charset=utf-8"})
        self.body(body)

    def _search(self, asked: dict[str, list[str]], authorized: bool) -> None:
        """Repositories whose names hold a text, those of an owner, the most wanted first."""
        (search,), (author,), (limit,) = (asked.get(key, [""]) for key in ("search", "author", "limit"))
        found = [
            (name, repository)
            for name, repository in self.server.hub.repositories.items()
            if search.lower() in name.lower()
            and author.lower() in ("", name.partition("/")[0].lower())
            and (authorized or not repository.private)
        ]
        found.sort(key=lambda pair: -pair[1].downloads)
        self.json([_about(name, repository) for name, repository in found[: int(limit or 1000)]])

    def _refs(self, repository: Repository) -> None:
        branches = {"main": repository.revision, **repository.branches}
        kinds = {"heads": branches, "tags": repository.tags}
        found = {
            kind: [
                {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit} for name, commit in refs.items()
            ]
            for kind, refs in kinds.items()
        }
        self.json({"branches": found["heads"], "tags": found["tags"], "converts": []})

    def _list(self, name: str, repository: Repository, commit: str, files: dict[str, bytes]) -> None:
        siblings = []
        for file, content in files.items():
            entry: dict[str, Any] = {"rfilename": file}
            if "blobs" in parse_qs(urlsplit(self.path).query):
                size = repository.claimed.get(file, len(content))
                entry |= {"size": size, "blobId": git_sha1(content)}
                if file.endswith(LFS_SUFFIXES):
                    sha256 = hashlib.sha256(content).hexdigest()
                    entry["lfs"] = {"sha256": sha256, "size": size, "pointerSize": 134}
            siblings.append(entry)
        self.json({**_about(name, repository), "sha": commit, "siblings": siblings})

    def _resolve(self, file: str, commit: str, files: dict[str, bytes]) -> None:
        content = files.get(file)
        headers = {"X-Repo-Commit": commit}
        if content is None:
            self.refuse(404, "EntryNotFound", "Entry not found", **headers)
            return
        if not file.endswith(LFS_SUFFIXES):
            self.content(file, content, {**headers, "ETag": f'"{git_sha1(content)}"'})
            return
        sha256 = hashlib.sha256(content).hexdigest()
        linked = {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{sha256}"'}
        location = f"{self.server.hub.storage_url}/{sha256}/{file}"
        self.begin(302, 0, {**headers, **linked, "Location": location})


def _about(name: str, repository: Repository) -> dict[str, Any]:
    """What the API says of a repository wherever it names it."""
    license_tag = [f"license:{repository.card['license']}"] if "license" in repository.card else []
    return {
        "_id": git_sha1(name.encode())[:24],
        "id": name,
        "modelId": name,
        "private": repository.private,
        "gated": "manual" if repository.gated else False,
        "downloads": repository.downloads,
        "likes": 0,
        "tags": license_tag,
        "cardData": repository.card,
    }


class _Storage(_Handler):
    """The bytes of files in Git LFS, by their checksum."""

    def answer(self, path: str, authorized: bool) -> None:
        sha256, _, file = unquote(path).lstrip("/").partition("/")
        for repository in self.server.hub.repositories.values():
            for files in (repository.files, *repository.others.values()):
                content = files.get(file, b"")
                if hashlib.sha256(content).hexdigest() == sha256:
                    self.content(file, content, {"ETag": f'"{sha256[:32]}"'})
                    return
        self.refuse(404, "", "No such key")


def git_sha1(content: bytes) -> str:
    """The name that git gives to a file of this content."""
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
