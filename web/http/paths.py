"""Paths as proxies and some clients write them: below a root path, and below `/v1` with a slash at their end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


def without_last_slash(application: Wsgi) -> Wsgi:
    """An application for which `/v1/models/` is `/v1/models`. No model's id ends with a slash."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path.startswith("/v1/") and path.endswith("/"):
            environ["PATH_INFO"] = path.rstrip("/")
        return application(environ, start_response)

    return answer


def below_root(application: Wsgi, root: str) -> Wsgi:
    """An application whose paths begin with `root`, for a proxy that hands on the whole path, and for one that has
    taken `root` away.
    """

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["SCRIPT_NAME"] = root
        path = environ.get("PATH_INFO", "")
        if path == root or path.startswith(f"{root}/"):
            environ["PATH_INFO"] = path[len(root) :] or "/"
        return application(environ, start_response)

    return answer
