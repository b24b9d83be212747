"""Anthropic's Messages API, by Anthropic's own SDK. A completion is asked as a chat whose only turn is the prompt.

The SDK makes the calls; what comes back is read in `content_blocks.py`, what is sent is put together in
`anthropic_bodies.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import anthropic

from gateway.models.entry import Provider
from workers.providers.base import UpstreamDelta, UpstreamRequest
from workers.providers.failures import shorten
from workers.providers.protocols import anthropic_bodies, wire
from workers.providers.protocols.content_blocks import Blocks, PrefixJoiner
from workers.providers.secrets import key_of

#: The last version of the API that takes numbers for sampling: 2026-10-21, for which the SDK asks, refuses any value.
SAMPLING_VERSION = "2023-06-01"


class AnthropicUpstream:
    """Asks one server that speaks Anthropic's protocol."""

    errors: tuple[type[Exception], ...] = (anthropic.AnthropicError,)

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        key = key_of(provider) or "none"
        self._client = anthropic.AsyncAnthropic(
            api_key=key,
            base_url=provider.url,
            max_retries=0,
            # The SDK sends the key as a bearer; servers of others may know the older header only.
            default_headers={"X-Api-Key": key} if provider.base_url else None,
            http_client=anthropic.DefaultAsyncHttpxClient(
                follow_redirects=False,
                timeout=anthropic.Timeout(None, connect=provider.connect_timeout_s),
                event_hooks={"response": [shorten]},
            ),
        )

    def splits(self, ask: UpstreamRequest) -> bool:
        """A call has one answer."""
        return len(ask.indexes) > 1

    def continues(self, kind: str) -> bool:
        """By a last turn that the model goes on with (`prefill`), which newer models refuse: the catalog says so."""
        return self._provider.continuation in ("", "prefill")

    async def stream(self, ask: UpstreamRequest) -> AsyncGenerator[UpstreamDelta]:
        """See `base.py`."""
        seam = PrefixJoiner(ask.before)
        blocks = Blocks(ask, self._provider.name, seam)
        call = self._client.messages.with_streaming_response.create(**self._arguments(ask, seam.begun))
        async with call as response, contextlib.aclosing(wire.events(response.iter_bytes())) as events:
            async for event in events:
                for piece in blocks.take(event):
                    yield piece
        for piece in blocks.end():
            yield piece

    async def close(self) -> None:
        """See `base.py`."""
        await self._client.close()

    def _arguments(self, ask: UpstreamRequest, begun: str) -> dict[str, Any]:
        """The body as the SDK takes it, and the version of the API that knows it."""
        body, headers = anthropic_bodies.message(ask, begun), dict(ask.headers)
        if sampling := {name: body.pop(name) for name in anthropic_bodies.SAMPLING if name in body}:
            body["extra_body"] = sampling
            headers["anthropic-version"] = SAMPLING_VERSION
        return {**body, "extra_headers": headers}
