"""Providers' keys: read from the environment when needed, and removed from any text that leaves the worker."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable

from gateway.models.entry import Provider

#: Loggers of libraries that may log requests and addresses.
_TALKATIVE = ("openai", "anthropic", "httpx2", "httpcore2", "httpx", "httpcore")
#: Replaces a key.
MASK = "[key]"
#: Texts that look like a key: a provider may quote one of its own.
_KEY_LIKE = re.compile(r"\b(?:sk|pk|rk|gsk|xai|hf|AIza)[-_]?[A-Za-z0-9_-]{20,}|(?<=[Bb]earer )[^\s\"',;]{8,}")


def key_of(provider: Provider) -> str:
    """The provider's key; empty if it needs none, or has none."""
    return os.environ.get(provider.api_key_env, "").strip() if provider.api_key_env else ""


def redacted(text: str, providers: Iterable[Provider]) -> str:
    """The text without any key."""
    for key in {key_of(provider) for provider in providers} - {""}:
        text = text.replace(key, MASK)
    return _KEY_LIKE.sub(MASK, text)


def quiet_libraries() -> None:
    """Let the libraries that hold keys log nothing below a warning, at any log level."""
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
