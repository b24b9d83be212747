"""What a person types to name a model: a repository of the hub, a path, or an installed package. Knows no files.

One rule tells them apart, whatever lies in the current folder: a path begins with `/`, `./`, `../`, `~` or `folder:`,
or ends in `.gguf` and has no more than one `/`; OWNER/NAME is a repository of the hub; one word is a package.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from schemas.sources import FolderRef, PackageRef, folder_or_gguf, inside, parse_source

#: What a name may look like, for people.
NAME_NOTATION = (
    "OWNER/NAME of the hub, with @REVISION, :QUANTIZATION or /FILE.gguf behind it if wanted; ./FOLDER or a path to a "
    "GGUF file; or an installed package"
)
#: Hosts of the public hub, whose addresses are names, too.
HUB_HOSTS = ("huggingface.co", "hf.co", "www.huggingface.co")
#: A longer name is none.
MAX_NAME_CHARACTERS = 1024
_PATH = re.compile(r"[/~]|\.{1,2}(/|$)")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
#: Some branches of the hub have names of several parts.
_REVISION = re.compile(r"(refs/(?:pr|convert|heads|tags)/[^/:]+|[^/:]+)(.*)", re.DOTALL)
_QUANTIZATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
#: Parts of the addresses of the hub's pages: behind them come a revision and a path.
_PAGES = ("tree", "blob", "resolve", "raw")


@dataclass(frozen=True)
class HubName:
    """A repository of the hub. Empty: the default branch, all of it."""

    repository: str
    #: A branch, a tag or a commit.
    revision: str = ""
    #: A file or folder in it.
    file: str = ""
    #: Which GGUF file of it: a part of its name such as `Q4_K_M`.
    quantization: str = ""


@dataclass(frozen=True)
class PackageName:
    """An installed Python package by the name that `pip` has for it."""

    name: str


ModelName = FolderRef | PackageRef | PackageName | HubName


def parse_name(text: str, *, hosts: tuple[str, ...] = ()) -> ModelName:
    """What a name means; `hosts` are those of other hubs, beside the public one.

    Raises:
        ValueError: it is none; the text says what to write.
    """
    text = text.strip()
    if not text or len(text) > MAX_NAME_CHARACTERS or not text.isprintable():
        raise ValueError(f"{text[:80]!r} names no model; write {NAME_NOTATION}")
    text, is_hub = _without_host(text, (*HUB_HOSTS, *hosts))
    if not is_hub:
        if text.startswith("folder:"):
            return FolderRef(_path(text.removeprefix("folder:")))
        if text.startswith("package:"):
            return _package(text)
        if _PATH.match(text) or (text.endswith(".gguf") and text.count("/") < 2):
            return FolderRef(_path(text))
        if "/" not in text:
            return _one_word(text)
    return _hub(text)


def is_path(text: str) -> bool:
    """Whether a name is a path of the machine where it was typed."""
    try:
        return isinstance(parse_name(text), FolderRef)
    except ValueError:
        return False


def _without_host(text: str, hosts: tuple[str, ...]) -> tuple[str, bool]:
    """The name without `hub:` or the hub's address, and whether it had one. Raises: ValueError for another address."""
    if text.startswith("hub:"):
        return text.removeprefix("hub:"), True
    if re.match(r"https?://", text):
        address = urlsplit(text)
        if address.hostname not in hosts:
            raise ValueError(
                f"{address.hostname or text[:80]!r} is not the hub; known: {', '.join(hosts)}, and where HF_ENDPOINT "
                "of the node leads"
            )
        return _of_page(unquote(address.path)), True
    host, _, rest = text.partition("/")
    return (_of_page(rest), True) if host in hosts else (text, False)


def _of_page(path: str) -> str:
    """The name for the path of a page: OWNER/NAME/tree/main/FOLDER."""
    owner, _, rest = path.strip("/").partition("/")
    name, _, rest = rest.partition("/")
    page, _, rest = rest.partition("/")
    pinned = f"@{rest}" if page in _PAGES and rest else ""
    return f"{owner}/{name}{pinned}" if page in _PAGES or not page else f"{owner}/{name}/{page}/{rest}".rstrip("/")


def _hub(text: str) -> HubName:
    match = _REPOSITORY.match(text)
    if match is None or ".." in match[0]:
        raise ValueError(f"{text[:80]!r} is not a repository of the hub; write OWNER/NAME")
    rest = text[match.end() :]
    revision = quantization = ""
    if rest.startswith("@"):
        pinned = _REVISION.fullmatch(rest[1:])
        if pinned is None or not _is_revision(pinned[1]):
            raise ValueError(f"{rest[:80]!r} names no revision; write OWNER/NAME@ and a branch, a tag or a commit")
        revision, rest = pinned[1], pinned[2]
    if rest.startswith(":"):
        quantization, rest = rest[1:], ""
        if not _QUANTIZATION.fullmatch(quantization):
            raise ValueError(f"{quantization[:80]!r} is not a quantization; write OWNER/NAME:Q4_K_M or the like")
        # As Ollama writes it for whatever is the default.
        quantization = "" if quantization == "latest" else quantization
    if rest and not rest.startswith("/"):
        raise ValueError(f"{text[:80]!r} is not a repository of the hub: {rest[:40]!r} is too much; write OWNER/NAME")
    file = folder_or_gguf(inside(rest[1:]))
    return HubName(match[0], revision, file, quantization)


def _is_revision(text: str) -> bool:
    """Whether git could have such a branch or tag."""
    return len(text) <= 255 and ".." not in text and not re.search(r"[\s~^:?*\[\\@]", text)


def _package(text: str) -> PackageRef:
    found = parse_source(text)
    assert isinstance(found, PackageRef)
    return found


def _one_word(text: str) -> PackageName:
    if not _WORD.fullmatch(text):
        raise ValueError(f"{text[:80]!r} names no model; write {NAME_NOTATION}")
    return PackageName(text)


def _path(path: str) -> str:
    """Raises: ValueError for one that is only a part of a model."""
    if not path or "\0" in path:
        raise ValueError(f"{path[:80]!r} is not a path")
    found = parse_source(path if _PATH.match(path) else f"./{path}")
    assert isinstance(found, FolderRef)
    return found.path
