"""OpenAI's protocol, by OpenAI's own SDK: also that of vLLM, DeepSeek, Mistral, and of Headrace itself below `/v1`.

The SDK makes the calls; what comes back is read here, since it takes less than what such servers send.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import openai

from gateway.jobs.answer import extras
from gateway.jobs.journal import echoed_by_worker, is_several
from gateway.models.entry import Provider
from workers.providers.base import UpstreamDelta, UpstreamRequest
from workers.providers.failures import Said, UpstreamFailure
from workers.providers.protocols import wire
from workers.providers.protocols.chunks import Chunks
from workers.providers.protocols.vectors import vectors
from workers.providers.secrets import key_of

#: OpenAI's own server.
BASE_URL = "https://api.openai.com/v1"
#: What a request may say in the protocol's own words, if it says so.
_SAME = ("temperature", "top_p", "seed", "stop", "presence_penalty", "frequency_penalty", "user", "n")
_CHAT = ("tools", "tool_choice", "parallel_tool_calls")
#: Words that servers other than OpenAI's know.
_EXTRA = ("top_k", "repetition_penalty")
#: What the protocol knows of a turn, and of a call in it.
_TURN = ("role", "content", "name", "tool_calls", "tool_call_id")
_CALL = ("id", "type", "function")
#: Parts of an answer that the protocol takes back in no request.
_ANSWER_ONLY = ("annotations", extras.PROVIDER)


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
        if echoed_by_worker(request):
            found["echo"] = ["Only local models know the text of token ids; leave out echo."]
        return found

    def splits(self, ask: UpstreamRequest) -> bool:
        """Prompts that are asked as chats are asked one by one."""
        return ask.kind == "completion" and not self._has_completions(ask) and is_several(ask.request["prompt"])

    def continues(self, kind: str) -> bool:
        """A completion is continued by its nature; a chat if the catalog says how."""
        return kind == "completion" or self._provider.continuation not in ("", "none")

    async def stream(self, ask: UpstreamRequest) -> AsyncGenerator[UpstreamDelta]:
        """See `base.py`."""
        if ask.kind == "embedding":
            for piece in await self._embed(ask):
                yield piece
            return
        if ask.kind == "completion" and self._has_completions(ask):
            call = self._client.completions.with_streaming_response.create(**self._completion(ask))
        else:
            call = self._client.chat.completions.with_streaming_response.create(**self._chat(ask))
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

    def _has_completions(self, ask: UpstreamRequest) -> bool:
        """OpenAI's own server offers completions for few models; the catalog names them. Others offer them for all."""
        return not self._own or "completion" in ask.model.upstreams

    def _common(self, ask: UpstreamRequest) -> dict[str, Any]:
        sent = _given(ask.request, _SAME)
        if ask.before or len(ask.indexes) == 1:
            sent.pop("n", None)
        extra = _given(ask.request, _EXTRA)
        return {
            "model": ask.upstream,
            "stream": True,
            "stream_options": {"include_usage": True},
            **sent,
            **({"extra_body": extra} if extra else {}),
        }

    def _completion(self, ask: UpstreamRequest) -> dict[str, Any]:
        request = ask.request
        prompt = request["prompt"] if ask.whole else ask.prompt + ask.before if ask.before else ask.prompt
        sent = {**self._common(ask), "prompt": prompt}
        if ask.max_tokens:
            sent["max_tokens"] = ask.max_tokens
        if request.get("logprobs"):
            sent["logprobs"] = 0
        return sent

    def _chat(self, ask: UpstreamRequest) -> dict[str, Any]:
        request = ask.request
        if ask.kind == "chat":
            messages = [self._turn(turn, named=ask.named) for turn in request["messages"]]
        elif isinstance(ask.prompt, list):
            text = f"{ask.model.id} is asked as a chat, which has no token ids. Send the prompt as a text."
            raise UpstreamFailure("invalid_request", text, blame=False)
        else:
            messages = [{"role": "user", "content": ask.prompt}]
        sent = self._common(ask) | _given(request, _CHAT)
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

    def _turn(self, turn: Mapping[str, Any], *, named: bool) -> dict[str, Any]:
        """A turn as this provider is told it: with what it has put there itself, but not what others have."""
        sent = _given(turn, _TURN)
        calls = turn.get("tool_calls")
        if extras.belong(turn, self._provider.name, named=named):
            sent |= {name: value for name, value in turn.items() if name not in _ANSWER_ONLY}
            if isinstance(audio := turn.get("audio"), Mapping):
                sent["audio"] = _given(audio, ("id",))
        elif calls:
            sent["tool_calls"] = [_plain_call(call) for call in calls]
        if not sent["content"] and (calls or sent.get("refusal")):
            sent["content"] = None
        return sent

    async def _embed(self, ask: UpstreamRequest) -> list[UpstreamDelta]:
        sent = {"model": ask.upstream, "input": ask.request["input"], "encoding_format": "base64"}
        sent |= _given(ask.request, ("dimensions", "user"))
        async with self._client.embeddings.with_streaming_response.create(**sent) as response:
            answer = await wire.read_whole(response.iter_bytes())
        if isinstance(answer, Mapping) and answer.get("error"):
            raise Said(answer)
        return vectors(answer, ask.num_inputs)


def _given(request: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """What is said of some fields: also 0, false and an empty text."""
    return {name: request[name] for name in names if request.get(name) is not None}


def _plain_call(call: Mapping[str, Any]) -> dict[str, Any]:
    return {**_given(call, _CALL), "function": _given(call["function"], ("name", "arguments"))}
