"""OpenAI's protocol, by OpenAI's own SDK: also that of vLLM, DeepSeek, Mistral, and of Headrace itself below `/v1`."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any, cast

import numpy
import openai

from gateway.model import Provider
from workers.providers.base import Ask, Piece
from workers.providers.secrets import key_of

#: OpenAI's own server.
BASE_URL = "https://api.openai.com/v1"
#: What a request may say in the protocol's own words, if it says so.
_SAME = ("seed", "stop", "presence_penalty", "frequency_penalty", "user", "n")
_CHAT = ("tools", "tool_choice", "parallel_tool_calls")
#: Words that servers other than OpenAI's know.
_EXTRA = ("top_k", "repetition_penalty")


class OpenAIUpstream:
    """Asks one server that speaks OpenAI's protocol."""

    errors: tuple[type[Exception], ...] = (openai.OpenAIError,)

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._own = not provider.base_url
        self._client = openai.AsyncOpenAI(
            api_key=key_of(provider) or "none",
            base_url=provider.base_url or BASE_URL,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False, timeout=openai.Timeout(None, connect=provider.connect_timeout_s)
            ),
        )
        if not self._own:  # what the environment says of an account at OpenAI is no business of others
            self._client.organization = self._client.project = None

    def refusals(self, kind: str, request: Mapping[str, Any]) -> dict[str, list[str]]:
        """What would be lost on the way back."""
        found = {}
        if request.get("top_logprobs"):
            found["top_logprobs"] = ["Other likely tokens are not passed on; ask for logprobs of the chosen ones."]
        if request.get("echo") and request.get("logprobs"):
            found["echo"] = ["Log probabilities of the prompt are not passed on; leave out echo or logprobs."]
        return found

    def splits(self, ask: Ask) -> bool:
        """Prompts that are asked as chats are asked one by one."""
        return (
            ask.kind == "completion" and not self._has_completions(ask) and not isinstance(ask.request["prompt"], str)
        )

    def continues(self, kind: str) -> bool:
        """A completion is continued by its nature; a chat if the catalog says how."""
        return kind == "completion" or self._provider.continuation not in ("", "none")

    async def stream(self, ask: Ask) -> AsyncGenerator[Piece]:
        """See `base.py`."""
        if ask.kind == "embedding":
            async for piece in self._embed(ask):
                yield piece
            return
        if ask.kind == "completion" and self._has_completions(ask):
            events: Any = await self._client.completions.create(**self._completion(ask))
        else:
            events = await self._client.chat.completions.create(**self._chat(ask))
        async with events:
            async for event in events:
                for piece in _pieces(ask, event):
                    yield piece

    async def close(self) -> None:
        """See `base.py`."""
        await self._client.close()

    def _has_completions(self, ask: Ask) -> bool:
        """OpenAI's own server offers completions for few models; the catalog names them. Others offer them for all."""
        return not self._own or "completion" in ask.model.upstreams

    def _common(self, ask: Ask) -> dict[str, Any]:
        request = ask.request
        sent = {name: request[name] for name in _SAME if request.get(name)}
        # 1 is what both stand at; some models refuse to be told so.
        sent |= {name: request[name] for name in ("temperature", "top_p") if request.get(name, 1) != 1}
        if ask.before or len(ask.indexes) == 1:
            sent.pop("n", None)
        extra = {name: request[name] for name in _EXTRA if request.get(name) is not None}
        return {
            "model": ask.upstream,
            "stream": True,
            "stream_options": {"include_usage": True},
            **sent,
            **({"extra_body": extra} if extra else {}),
        }

    def _completion(self, ask: Ask) -> dict[str, Any]:
        request = ask.request
        prompt = request["prompt"] if ask.whole else ask.prompt + ask.before
        sent = {**self._common(ask), "prompt": prompt}
        if ask.max_tokens:
            sent["max_tokens"] = ask.max_tokens
        if request.get("logprobs"):
            sent["logprobs"] = 0
        return sent

    def _chat(self, ask: Ask) -> dict[str, Any]:
        request = ask.request
        messages = list(request["messages"]) if ask.kind == "chat" else [{"role": "user", "content": ask.prompt}]
        sent = self._common(ask) | {name: request[name] for name in _CHAT if request.get(name) is not None}
        if ask.max_tokens:
            sent["max_completion_tokens" if self._own else "max_tokens"] = ask.max_tokens
        if request.get("logprobs"):
            sent["logprobs"] = True
        if ask.before:
            begun: dict[str, Any] = {"role": "assistant", "content": ask.before}
            if self._provider.continuation == "prefix":
                begun["prefix"] = True
            if self._provider.continuation == "continue_final_message":
                sent.setdefault("extra_body", {}).update(continue_final_message=True, add_generation_prompt=False)
            messages.append(begun)
        return {**sent, "messages": messages}

    async def _embed(self, ask: Ask) -> AsyncGenerator[Piece]:
        sent = {"model": ask.upstream, "input": ask.request["input"], "encoding_format": "base64"}
        for name in ("dimensions", "user"):
            if ask.request.get(name):
                sent[name] = ask.request[name]
        answer = await self._client.embeddings.create(**sent)
        yield Piece(prompt_tokens=answer.usage.prompt_tokens if answer.usage else None)
        for item in answer.data:
            yield Piece(item.index, vector=_packed(cast(Any, item.embedding)))


def _pieces(ask: Ask, event: Any) -> Iterable[Piece]:
    """The pieces of one chunk."""
    if event.usage:
        yield Piece(prompt_tokens=event.usage.prompt_tokens, completion_tokens=event.usage.completion_tokens)
    elif not event.choices:
        yield Piece()
    for choice in event.choices:
        index, delta = ask.indexes[choice.index], getattr(choice, "delta", None)
        # A refusal is text of the model, too.
        text = (delta.content or getattr(delta, "refusal", None)) if delta else getattr(choice, "text", None)
        calls = [call.model_dump(exclude_none=True) for call in (delta.tool_calls if delta else None) or ()]
        yield Piece(index, text or "", calls, _logprobs(choice.logprobs), choice.finish_reason)


def _logprobs(found: Any) -> list[tuple[str, float]]:
    if found is None:
        return []
    if tokens := getattr(found, "tokens", None):
        return list(zip(tokens, found.token_logprobs or (), strict=False))
    return [(entry.token, entry.logprob) for entry in getattr(found, "content", None) or ()]


def _packed(vector: str | list[float]) -> bytes:
    """A server may ignore that base64 was asked for."""
    return base64.b64decode(vector) if isinstance(vector, str) else numpy.asarray(vector, "<f4").tobytes()
