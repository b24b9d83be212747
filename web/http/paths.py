"""Paths below `/v1` with slashes at their end, as some clients write them."""

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
