"""A repository of the hub at the commit that its branch or tag is now."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.deployments.reasons import FailureReason, SourceFailed
from gateway.models.engines import formats_of
from gateway.models.names import HubName
from gateway.models.paths import hub_folder
from gateway.settings import Settings
from schemas.sources import HubRef
from workers.formats.files import Files
from workers.lookup.places import Place
from workers.sources.base import Log
from workers.sources.download_store import DownloadStore
from workers.sources.hub import MAX_LOOKS, RemoteFiles, relative_names
from workers.sources.hub_client import HubClient, Listing, NoSuchRepository, NoSuchRevision
from workers.sources.hub_search import near_repositories, near_revisions
from workers.sources.pump import run
from workers.sources.retry import Interrupted, Limits, retry

_COMMIT = re.compile(r"[0-9a-f]{40}")


def hub_place(
    name: HubName, *, settings: Settings, limits: Limits, is_cancelled: Callable[[], bool], log: Log
) -> Place:
    """Asks the hub what is there. Raises: SourceFailed."""
    limits = replace(limits, max_retries=min(limits.max_retries, MAX_LOOKS))
    owner, _, short = name.repository.partition("/")
    ref = HubRef(owner, short, name.revision)
    listing = _listing(ref, limits, is_cancelled, log)
    pinned = replace(ref, revision=listing.commit)
    client = HubClient(pinned, limits)
    prefix = f"hub:{name.repository}@{listing.commit}"

    def open_files(path: str) -> Files:
        files = [file for file in listing.files if not path or f"{file.name}/".startswith(f"{path}/")]
        return RemoteFiles(client, files, path, limits, is_cancelled, log)

    def require_space(path: str, names: Sequence[str], engine: str) -> None:
        model = replace(pinned, file=path)
        store = DownloadStore(hub_folder(settings.data_dir / "models", model, formats_of(engine)))
        there = relative_names(listing.files, model)
        if not store.complete():
            store.require_space([there[name] for name in names])

    return Place(
        title=name.repository,
        sizes={file.name: file.size for file in listing.files},
        open=open_files,
        source=lambda path: f"{prefix}/{path}" if path else prefix,
        path=name.file,
        quantization=name.quantization,
        revision=name.revision or "main",
        commit=listing.commit,
        license=listing.license,
        require_space=require_space,
    )


def _listing(ref: HubRef, limits: Limits, is_cancelled: Callable[[], bool], log: Log) -> Listing:
    """Raises: SourceFailed, with near names."""
    client = HubClient(ref, limits)
    try:
        listing = retry(lambda: run(client.listing, is_cancelled), limits, is_cancelled, log)
    except NoSuchRepository as error:
        raise SourceFailed(error.reason, f"{error.message}{meant(ref.repository, is_cancelled)}") from error
    except NoSuchRevision as error:
        near = run(lambda: near_revisions(ref.repository, ref.revision), is_cancelled)
        known = f" It has {', '.join(near)}." if near else ""
        raise SourceFailed(error.reason, f"{error.message}{known}") from error
    except SourceFailed as error:
        if not isinstance(error.__cause__, Interrupted):
            raise
        raise SourceFailed(
            error.reason,
            f"The hub ({client.endpoint}) can't be reached from this node. {error.message} Check the network and "
            "HF_ENDPOINT; a model that is on this machine can be named by its path.",
        ) from error
    if not _COMMIT.fullmatch(listing.commit):
        raise SourceFailed(
            FailureReason.SOURCE_UNREACHABLE, f"The hub does not say which commit {ref.repository} is at."
        )
    return listing


def meant(name: str, is_cancelled: Callable[[], bool]) -> str:
    """A sentence with names on the hub that are like one that is not there; empty if there are none."""
    near = run(lambda: near_repositories(name), is_cancelled)
    return f" Did you mean {' or '.join(near)}?" if near else ""
