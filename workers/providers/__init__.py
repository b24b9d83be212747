"""The protocols of remote providers, each in a module of its own that is loaded when it is needed."""

from __future__ import annotations

import importlib
import importlib.util
from typing import cast

from gateway.errors import InvalidSetting
from gateway.models.entry import Provider
from workers.providers.base import Upstream

#: Protocol -> module and class.
UPSTREAMS = {
    "anthropic": "workers.providers.protocols.anthropic:AnthropicUpstream",
    "openai": "workers.providers.protocols.openai:OpenAIUpstream",
}


#: The error where a provider worker can't run.
NOT_INSTALLED = "remote models need more packages: pip install 'headrace[providers]'"


def is_installed() -> bool:
    """Whether a provider worker can run here: the base install lacks the HTTP library that all protocols need."""
    return importlib.util.find_spec("httpx2") is not None


def connect(provider: Provider) -> Upstream:
    """A client of the provider, with the key from the environment. Nothing is sent yet.

    Raises:
        InvalidSetting: there is no such protocol, or its SDK is not installed.
    """
    if provider.protocol not in UPSTREAMS:
        known = ", ".join(sorted(UPSTREAMS))
        raise InvalidSetting(f"There is no protocol {provider.protocol!r}. Known protocols: {known}.")
    module, _, name = UPSTREAMS[provider.protocol].partition(":")
    try:
        return cast(Upstream, getattr(importlib.import_module(module), name)(provider))
    except ImportError as error:
        raise InvalidSetting(
            f"The SDK of protocol {provider.protocol} is not installed ({error}). "
            "Run: pip install 'headrace[providers]'."
        ) from error
