"""OpenAI's protocol, by OpenAI's own SDK: also that of vLLM, DeepSeek, Mistral, and of Headrace itself below `/v1`.

The SDK makes the calls; what comes back is read here, since it takes less than what such servers send.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import openai

from gateway.jobs.journal import is_several
from gateway.models.entry import Provider
from gateway.models.protocols.openai import has_completions
from workers.providers.base import UpstreamDelta, UpstreamRequest
from workers.providers.failures import Said, shorten
from workers.providers.protocols import openai_bodies, wire
from workers.providers.protocols.chunks import Chunks
from workers.providers.protocols.vectors import vectors
from workers.providers.secrets import key_of

#: What the SDK's functions must be given by name; all else goes as it is.
_REQUIRED = ("model", "messages", "prompt", "input", "stream", "encoding_format")


class OpenAIUpstream:
    """Asks one server that speaks OpenAI's protocol."""

    errors: tuple[type[Exception], ...] = (openai.OpenAIError,)

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._client = openai.AsyncOpenAI(
            api_key=key_of(provider) or "none",
            base_url=provider.url,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False,
                timeout=openai.Timeout(None, connect=provider.connect_timeout_s),
                event_hooks={"response": [shorten]},
            ),
        )
        if provider.base_url:  # what the environment says of an account at OpenAI is no business of others
            self._client.organization = self._client.project = None

    def splits(self, ask: UpstreamRequest) -> bool:
        """Prompts that are asked as chats are asked one by one."""
        return ask.kind == "completion" and not has_completions(ask.model) and is_several(ask.request["prompt"])

    def continues(self, kind: str) -> bool:
        """A completion is continued by its nature; a chat if the catalog says how."""
        return kind == "completion" or self._provider.continuation not in ("", "none")

    async def stream(self, ask: UpstreamRequest) -> AsyncGenerator[UpstreamDelta]:
        """See `base.py`."""
        if ask.kind == "embedding":
            for piece in await self._embed(ask):
                yield piece
            return
        if ask.kind == "completion" and has_completions(ask.model):
            call = self._client.completions.with_streaming_response.create(
                **_arguments(ask, openai_bodies.completion(ask))
            )
        else:
            call = self._client.chat.completions.with_streaming_response.create(
                **_arguments(ask, openai_bodies.chat(ask))
            )
        chunks = Chunks(ask, self._provider.name)
        async with call as response, contextlib.aclosing(wire.events(response.iter_bytes())) as events:
            async for event in events:
                for piece in chunks.take(event):
                    yield piece
        for piece in chunks.end():
            yield piece

    async def close(self) -> None:
        """See `base.py`."""
        await self._client.close()

    async def _embed(self, ask: UpstreamRequest) -> list[UpstreamDelta]:
        call = self._client.embeddings.with_streaming_response.create(**_arguments(ask, openai_bodies.embedding(ask)))
        async with call as response:
            answer = await wire.read_whole(response.iter_bytes())
        if isinstance(answer, Mapping) and answer.get("error"):
            raise Said(answer)
        return vectors(answer, ask.num_inputs)


def _arguments(ask: UpstreamRequest, body: Mapping[str, Any]) -> dict[str, Any]:
    """A body as the SDK's functions take it: it must not look at what it may not know."""
    rest = {name: value for name, value in body.items() if name not in _REQUIRED}
    required = {name: body[name] for name in _REQUIRED if name in body}
    return {**required, "extra_body": rest, "extra_headers": ask.headers}
