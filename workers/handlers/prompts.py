"""Prompts as token ids, and the token limit of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.errors import ContextTooLong, InvalidRequest
from gateway.jobs.journal import is_several
from gateway.models.catalog import Model
from workers.answers.described import described
from workers.answers.of_model import tools_of
from workers.tokenizers.conversation import variables_of
from workers.tokenizers.load import Tokenizer


def prompt_ids(
    request: Mapping[str, Any], tokenizer: Tokenizer, *, at_ms: int, most: int, describes: bool = False
) -> list[list[int]]:
    """Token ids of each prompt, the same for each claim.

    `at_ms` is the job's own time in ms since the epoch, for templates that tell the date; `most` the model's context.
    `describes`: the template has no place for tools.

    Raises:
        InvalidRequest: the chat template refuses the messages, or a prompt is empty.
        TemplateFailed: the chat template is wrong.
        ContextTooLong: a prompt is much too long. `token_limit` checks exactly.
    """
    if "messages" in request:
        tools = tools_of(request) or None
        turns, told = list(request["messages"]), variables_of(request)
        if describes and (tools or any(turn.get("tool_calls") for turn in turns)):
            turns, tools = described(turns, tools or ()), None
        prompts = [tokenizer.render_chat(turns, tools=tools, variables=told, at_ms=at_ms, most=most)]
    else:
        prompt = request["prompt"]
        several = prompt if is_several(prompt) else [prompt]
        prompts = [list(one) if isinstance(one, list) else tokenizer.encode_prompt(one, most=most) for one in several]
    if not all(prompts):
        raise InvalidRequest(
            "A prompt has no tokens, so there is nothing to go on from. Send some text: this model has no token that "
            "begins every text (BOS), from which it could go on without one."
        )
    return prompts


def context_text(most: int, *, prompt_tokens: int, wanted: int) -> str:
    """The error of prompt and answer that don't fit, in the words that clients look for: many send less then."""
    text = f"This model's maximum context length is {most} tokens, but"
    if prompt_tokens >= most:
        return f"{text} the prompt is too long: it has {prompt_tokens} tokens. Shorten it."
    return (
        f"{text} the prompt has {prompt_tokens} tokens and the answer may have {wanted}. Shorten the prompt, or lower "
        f"max_tokens to {most - prompt_tokens} or less."
    )


def token_limit(request: Mapping[str, Any], model: Model, *, prompt_tokens: int) -> int:
    """The most tokens of one answer. Raises: ContextTooLong if prompt and answer don't fit."""
    wanted = request.get("max_tokens")
    room = model.context_length - prompt_tokens
    if room < (1 if wanted is None else wanted):
        wanted = 1 if wanted is None else wanted
        raise ContextTooLong(context_text(model.context_length, prompt_tokens=prompt_tokens, wanted=wanted))
    return int(min(model.default_max_tokens or model.longest_answer, room) if wanted is None else wanted)
