"""What a job needs before it may join the batch: prompts as token ids, a token limit, and places in the engine."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from gateway.errors import ContextTooLong, InvalidRequest
from gateway.models.catalog import Model
from workers.tokenizers.load import Tokenizer


def prompt_ids(request: Mapping[str, Any], tokenizer: Tokenizer, *, at_ms: int, most: int) -> list[list[int]]:
    """Token ids of each prompt, the same for each claim.

    `at_ms` is the job's own time in ms since the epoch, for templates that tell the date; `most` the model's context.

    Raises:
        InvalidRequest: the chat template refuses the messages, or a prompt is nothing.
        TemplateFailed: the chat template is wrong.
        ContextTooLong: a prompt is much too long. One that is not much too long is returned.
    """
    if "messages" in request:
        tools = None if request.get("tool_choice") == "none" else request.get("tools")
        prompts = [tokenizer.render_chat(list(request["messages"]), tools=tools, at_ms=at_ms, most=most)]
    else:
        prompt = request["prompt"]
        texts = [prompt] if isinstance(prompt, str) else prompt
        prompts = [tokenizer.encode_prompt(text, most=most) for text in texts]
    if not all(prompts):
        raise InvalidRequest("A prompt has no tokens, so there is nothing to go on from. Send some text.")
    return prompts


def token_limit(request: Mapping[str, Any], model: Model, *, prompt_tokens: int) -> int:
    """How many tokens one answer may have. Raises: ContextTooLong if prompt and answer don't fit."""
    wanted = request.get("max_tokens")
    room = model.context_length - prompt_tokens
    if room < 1 or (wanted is not None and wanted > room):
        raise ContextTooLong(
            f"The prompt has {prompt_tokens} tokens and the answer may have {wanted or 1}, but {model.id} has a "
            f"context of {model.context_length}. Shorten the prompt, or lower max_tokens to {max(room, 0)} or less."
        )
    return int(wanted or min(model.default_max_tokens, room))


class Places:
    """The places of one batch, counted in sequences. A job larger than the batch takes all of it.

    First come, first served: a job that needs many waits for those before it, and those behind it wait for it.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    def take(self, count: int) -> int:
        """Wait for so many free places. Returns how many were taken."""
        wanted, ticket = min(count, self.total), object()
        with self._changed:
            self._waiting.append(ticket)
            self._changed.wait_for(lambda: self._waiting[0] is ticket and self._free >= wanted)
            self._waiting.popleft()
            self._free -= wanted
            self._changed.notify_all()  # the next may have room as well
        return wanted

    def give_back(self, count: int) -> None:
        """Free places again."""
        with self._changed:
            self._free += count
            self._changed.notify_all()
