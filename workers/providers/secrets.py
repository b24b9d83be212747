"""Providers' keys: read from the environment when they are needed, and taken out of any text that leaves the worker."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable

from gateway.models.entry import Provider

#: Loggers of libraries that may show requests and addresses.
_TALKATIVE = ("openai", "anthropic", "httpx2", "httpcore2", "httpx", "httpcore")
#: What stands in the place of a key.
MASK = "[key]"
#: What looks like a key of anybody: a provider may speak of one of its own.
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
    """Whatever the log level is: the libraries that hold the keys say nothing below a warning."""
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
