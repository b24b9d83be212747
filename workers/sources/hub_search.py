"""What may have been meant: names on the hub that are like one that is not there. Never fails: then it finds none."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice

from httpx2 import HTTPError
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from workers.sources.hub_client import hub_api

log = logging.getLogger(__name__)

#: Names that are proposed, and names that are compared with.
PROPOSED, COMPARED = 3, 200
#: How alike names must be, from 0 to 1.
LIKENESS = 0.6


def near_repositories(name: str) -> Sequence[str]:
    """Repositories whose names are like `OWNER/NAME`, or like one word; the likeliest first."""
    return _quietly(partial(_near_repositories, name=name))


def near_revisions(repository: str, revision: str) -> Sequence[str]:
    """Branches and tags of a repository, the ones that are like `revision` first."""
    return _quietly(partial(_near_revisions, repository=repository, revision=revision))


def _near_repositories(api: HfApi, name: str) -> Sequence[str]:
    owner, _, short = name.rpartition("/")
    words = re.split(r"[^A-Za-z0-9.]+", short)
    searches: list[dict[str, str]] = [{"search": short.replace(":", "-")}]
    searches += [{"author": owner}] if owner else []
    searches += [{"search": words[0]}] if words[0] != short else []
    found: dict[str, None] = {}
    for asked in searches:
        found |= dict.fromkeys(_listed(api, asked))
        if near := _like(name if owner else short, found, whole=bool(owner)):
            return near
    return []


def _near_revisions(api: HfApi, repository: str, revision: str) -> Sequence[str]:
    refs = api.list_repo_refs(repository)
    found = [str(ref.name) for ref in (*refs.branches, *refs.tags)][:COMPARED]
    near = difflib.get_close_matches(revision, found, PROPOSED, LIKENESS)
    return [*near, *(name for name in found if name not in near)][: 2 * PROPOSED]


def _listed(api: HfApi, asked: Mapping[str, str]) -> Iterable[str]:
    models = api.list_models(search=asked.get("search"), author=asked.get("author"), sort="downloads", limit=COMPARED)
    return [str(model.id) for model in islice(models, COMPARED)]


def _quietly(ask: Callable[[HfApi], Iterable[str]]) -> Sequence[str]:
    """The names that the hub answers; none if it does not."""
    try:
        return [name for name in ask(hub_api()) if name.isprintable() and len(name) <= 200]
    except (HTTPError, HfHubHTTPError, OfflineModeIsEnabled) as error:
        log.debug("the hub finds nothing: %s", error)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        log.debug("the hub does not answer as it does: %r", error)
    return []


def _like(name: str, others: Iterable[str], *, whole: bool) -> list[str]:
    """Those that are alike in whole or, if it has no owner, behind their owner; and those that begin so."""
    spelled = {other: _plain(other if whole else other.rpartition("/")[2]) for other in others}
    wanted = _plain(name)
    likeness = {
        other: difflib.SequenceMatcher(None, wanted, plain).ratio() + plain.startswith(wanted)
        for other, plain in spelled.items()
    }
    near = [other for other, ratio in likeness.items() if ratio >= LIKENESS]
    return sorted(near, key=lambda other: -likeness[other])[:PROPOSED]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9/.]+", "-", name.lower())
