"""A client of the hub, on top of huggingface_hub: lists the files of a repository, and streams them.

`HF_ENDPOINT` is read when a client is made, `HF_TOKEN` and the token of `hf auth login` at each request. Files come by
plain HTTP, not by the hub's chunk protocol (Xet). `huggingface_hub.hf_hub_download` is no replacement (2.4, measured):
it can't be cancelled, compares no checksum, and begins a file anew in each process, leaving the earlier part behind.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import httpx2
from huggingface_hub import HfApi, ModelInfo, constants, get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # public, but not in its `__all__`

from gateway.deployments.reasons import FailureReason, SourceFailed
from schemas.base.retry_after import retry_after_s
from schemas.sources import HubRef, inside
from workers.sources.card import license_of
from workers.sources.remote_file import RemoteFile
from workers.sources.retry import Interrupted, Limits

#: How this node shows the hub who asks. What is kept by a log-in is read at each use.
LOG_IN = "run `hf auth login` where this node runs, or start it with HF_TOKEN"
#: Transient HTTP statuses, besides all from 500 on.
_PASSING = (408, 425, 429)
#: An answer that is no file: the longest, and how long it may take. A list of 100,000 files has some 25 MB.
MOST_BYTES, LONGEST_S = 32 << 20, 120.0
#: What is read of an error.
ERROR_BYTES, ERROR_S = 1 << 16, 5.0
#: Marks a request for a file, whose length and pace are known to who reads it.
_FILE = "headrace.file"


@dataclass(frozen=True)
class Listing:
    """A repository at one commit."""

    commit: str
    files: Sequence[RemoteFile]
    #: As its card says it: an SPDX identifier in lower case, or a name; empty if it does not.
    license: str = ""


class NoSuchRepository(SourceFailed):
    """There is none of that name, or it is private."""


class NoSuchRevision(SourceFailed):
    """The repository has no branch, tag or commit of that name."""


class HubClient:
    """One repository at one commit; or at a branch or tag, an empty one is the default branch."""

    def __init__(self, ref: HubRef, limits: Limits) -> None:
        self._ref = ref
        self._limits = limits
        self.endpoint = endpoint()
        silence = limits.silence_timeout_s or float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
        self._timeout = httpx2.Timeout(silence, connect=limits.connect_timeout_s)

    def files(self) -> Sequence[RemoteFile]:
        """All files of the commit that have a checksum. Raises: SourceFailed, Interrupted."""
        listing = self.listing()
        if listing.commit != self._ref.revision:
            raise SourceFailed(
                FailureReason.MISSING_FILE,
                f"The hub answers for commit {listing.commit}, not for {self._ref.revision}.",
            )
        return listing.files

    def listing(self) -> Listing:
        """What the revision is now, and all of its files that have a checksum. Raises: SourceFailed, Interrupted."""
        revision, silence = self._ref.revision or None, self._timeout.read
        try:
            info = hub_api().model_info(self._ref.repository, revision=revision, files_metadata=True, timeout=silence)
            return Listing(str(info.sha), _files(info), license_of(info.card_data))
        except (httpx2.HTTPError, HfHubHTTPError, OfflineModeIsEnabled) as error:
            raise self._translated(error, "The list of files") from error
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            # Such as the page of a proxy, with status 200.
            raise SourceFailed(
                FailureReason.SOURCE_UNREACHABLE,
                f"{self.endpoint} does not answer as the hub does ({type(error).__name__}). Check HF_ENDPOINT, and "
                "what stands between this node and the hub.",
            ) from error

    def stream(self, name: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes of a file from `start` to before `end`, as they come. Raises: SourceFailed, Interrupted."""
        url = hf_hub_url(self._ref.repository, name, revision=self._ref.revision, endpoint=self.endpoint)
        headers = {**build_hf_headers(library_name="headrace"), "Accept-Encoding": "identity"}
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        try:
            file = {_FILE: True}
            with _session().stream("GET", url, headers=headers, timeout=self._timeout, extensions=file) as response:
                hf_raise_for_status(response)
                yield from self._paced(_from(response, start), name)
        except (httpx2.HTTPError, HfHubHTTPError, OfflineModeIsEnabled) as error:
            raise self._translated(error, name) from error

    def _paced(self, chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
        """Raises: Interrupted if they come too slowly: a trickle would never time out."""
        limits = self._limits
        since, brought = time.monotonic(), 0
        for chunk in chunks:
            brought += len(chunk)
            yield chunk
            passed = time.monotonic() - since
            if passed < limits.slow_window_s:
                continue
            if brought < limits.slow_bytes_per_s * passed:
                raise Interrupted(f"{name} comes at {brought / passed:.0f} bytes a second.")
            since, brought = time.monotonic(), 0

    def _translated(self, error: Exception, what: str) -> Exception:
        """Interrupted for a transient failure, else SourceFailed with what to do."""
        ref = self._ref
        match error:
            case GatedRepoError():
                return SourceFailed(
                    FailureReason.SOURCE_UNREACHABLE,
                    f"{ref.repository} is only for those who have accepted its terms. Accept them on "
                    f"{self.endpoint}/{ref.repository}, and {LOG_IN}.",
                )
            case RevisionNotFoundError():
                return NoSuchRevision(
                    FailureReason.MISSING_FILE, f"{ref.repository} has no branch, tag or commit {ref.revision}."
                )
            case RepositoryNotFoundError():
                return NoSuchRepository(
                    FailureReason.MISSING_FILE,
                    f"The hub has no repository {ref.repository}, or it is private: then {LOG_IN}.",
                )
            case EntryNotFoundError():
                return SourceFailed(
                    FailureReason.MISSING_FILE, f"{ref.repository} has no {what} at {ref.revision[:12]}."
                )
            case HfHubHTTPError():
                status = error.response.status_code
                if status in (401, 403):
                    return SourceFailed(
                        FailureReason.SOURCE_UNREACHABLE,
                        f"The hub refuses this node's token for {ref.repository} ({status} {error.server_message or ''}"
                        f"): {LOG_IN}.",
                    )
                if status in _PASSING or status >= 500:
                    return Interrupted(
                        f"{what}: the hub answers with status {status}.", retry_after_s(error.response.headers) or 0.0
                    )
                return SourceFailed(
                    FailureReason.SOURCE_UNREACHABLE,
                    f"{what}: the hub refuses with status {status} {error.server_message or ''}".strip() + ".",
                )
            case httpx2.TransportError():
                return Interrupted(f"{what}: {str(error).rstrip('.') or type(error).__name__}.")
        return SourceFailed(FailureReason.SOURCE_UNREACHABLE, f"{what}: {error}")


def endpoint() -> str:
    """The URL of the hub."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT


def hub_api() -> HfApi:
    """The hub's own client, none of whose answers is endless."""
    _session()
    return HfApi(endpoint=endpoint(), library_name="headrace")


def _session() -> httpx2.Client:
    """What all requests of huggingface_hub go through."""
    session = get_session()
    hooks = session.event_hooks
    if _bound not in hooks["response"]:
        session.headers["Accept-Encoding"] = "identity"
        session.event_hooks = {**hooks, "response": [*hooks["response"], _bound]}
    return session


def _bound(response: httpx2.Response) -> None:
    """Of an error the beginning is read. Raises: httpx2.DecodingError for what would be unpacked, without bounds."""
    body = cast(httpx2.SyncByteStream, response.stream)
    if not response.is_success:
        response.stream = _Bounded(body, ERROR_BYTES, ERROR_S, is_error=True)
    elif _FILE not in response.request.extensions:
        if (coding := response.headers.get("Content-Encoding", "identity")) != "identity":
            raise httpx2.DecodingError(f"its answer is packed ({coding[:20]}), though that was not asked for")
        response.stream = _Bounded(body, MOST_BYTES, LONGEST_S, is_error=False)


@dataclass
class _Bounded(httpx2.SyncByteStream):
    """A body that ends at a size and a time. Iterating raises: httpx2.DecodingError, unless it is that of an error."""

    body: httpx2.SyncByteStream
    most_bytes: int
    longest_s: float
    is_error: bool

    def __iter__(self) -> Iterator[bytes]:
        until, brought = time.monotonic() + self.longest_s, 0
        for chunk in self.body:
            brought += len(chunk)
            if brought > self.most_bytes or time.monotonic() > until:
                if self.is_error:
                    return
                most = f"{self.most_bytes >> 20} MiB, or takes more than {self.longest_s:.0f} s"
                raise httpx2.DecodingError(f"its answer has more than {most}")
            yield chunk

    def close(self) -> None:
        self.body.close()


def _files(info: ModelInfo) -> list[RemoteFile]:
    """Raises: SourceFailed for a list that makes no sense, or is not safe."""
    found = []
    for sibling in info.siblings or []:
        if sibling.size is None or not (sibling.lfs or sibling.blob_id):
            continue
        sha256 = sibling.lfs.sha256 if sibling.lfs else ""
        if type(sibling.size) is not int or sibling.size < 0 or not isinstance(sibling.rfilename, str):
            raise SourceFailed(
                FailureReason.SOURCE_UNREACHABLE,
                f"The hub lists a file {str(sibling.rfilename)[:100]!r} of {str(sibling.size)[:100]!r} bytes.",
            )
        found.append(RemoteFile(_checked(sibling.rfilename), sibling.size, sha256, sibling.blob_id or ""))
    return found


def _from(response: httpx2.Response, start: int) -> Iterator[bytes]:
    """The bytes from `start`, also if the server ignored the range. Raises: Interrupted for another range."""
    skip = start
    if response.status_code == 206:
        value = response.headers.get("Content-Range", "")
        if not value.startswith(f"bytes {start}-"):
            raise Interrupted(f"The hub sent the range {value!r} instead of bytes from {start}.")
        skip = 0
    for chunk in response.iter_bytes():
        rest, skip = chunk[skip:], max(0, skip - len(chunk))
        if rest:
            yield rest


def _checked(name: str) -> str:
    """Raises: SourceFailed for a name that would lead out of the folder."""
    try:
        return inside(name)
    except ValueError as error:
        raise SourceFailed(
            FailureReason.UNSAFE_FILE, f"The repository has a file whose name is not safe: {error}."
        ) from error
