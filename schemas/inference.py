"""What a client may ask of a model: dataclass and marshmallow schema side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import ValidationError, fields, post_load, pre_load, validates_schema

from schemas.base.custom_tools import OrCustom, custom_tool
from schemas.base.fields import Boolean, Integer, Items, Number, StrictSchema, Text, Word, as_text, shaped, shown
from schemas.base.forms import FormSchema, with_form
from schemas.base.reasoning import ReasoningSchema
from schemas.base.tool_choice import MAX_TOOLS, ToolChoice, chosen
from schemas.chat import MessageSchema, NullFreeSchema, ToolSchema, with_ids, with_tools
from schemas.prompts import MAX_PROMPTS, Prompt, Prompts

#: Stop strings in one request, and characters in each.
MAX_STOPS, MAX_STOP_LENGTH = 16, 256
#: Turns in one conversation.
MAX_MESSAGES = 16_384
#: Answers to one request.
MAX_CHOICES = 8
#: Prompts times answers to each.
MAX_ANSWERS = MAX_CHOICES * MAX_PROMPTS
#: The longest that a request may wait by its own wish, in seconds.
MAX_TIMEOUT_S = 86_400
#: Other likely tokens that may be asked for.
MAX_TOP_LOGPROBS = 20


#: Tokens in one `logit_bias`, and how much each may be pushed.
MAX_BIASES, MAX_BIAS = 1_024, 100
_TOKEN_ID = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What all requests share. None = not given."""

    #: `interactive` jobs are served before `background` ones.
    priority: str = "interactive"
    #: Go on when the client leaves.
    detach: bool = False
    #: False: the job record keeps no prompt after the end.
    store: bool = True
    user: str | None = None
    #: Seconds within which it must begin; it is of no use later.
    timeout: float | None = None
    stream: bool = False
    #: Fields of OpenAI's and other servers that nobody here reads: the provider of a remote model may.
    passed_on: Mapping[str, Any] | None = None

    def given(self) -> dict[str, Any]:
        """The fields that differ from their defaults, as the job record keeps them."""
        return {name: value for name, value in vars(self).items() if value != getattr(type(self), name, None)}


@dataclass(frozen=True, kw_only=True)
class InferenceRequest(JobRequest):
    """What chat and completion share. None = not given: the model's default holds."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    n: int | None = None
    seed: int | None = None
    stop: list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    #: Added to the scores of tokens, by their ids as texts.
    logit_bias: Mapping[str, float] | None = None
    #: Tokens are left out that are less likely than this part of the likeliest one.
    min_p: float | None = None
    logprobs: bool = False
    #: How many other likely tokens to return for each token.
    top_logprobs: int | None = None
    stream_options: Mapping[str, Any] | None = None
    #: Should it be interrupted, it goes on as if nothing had happened, or not at all.
    require_exact_resume: bool = False
    #: What the answer must look like: OpenAI's object (None for text).
    response_format: Mapping[str, Any] | None = None
    #: The same as vLLM says it: one of json, regex, choice, grammar, json_object.
    structured_outputs: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class ChatRequest(InferenceRequest):
    """A conversation to go on with."""

    messages: list[dict[str, Any]]
    #: Functions that the model may call.
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | Mapping[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    #: How much the model is to think: an effort; yes or no; and variables of its chat template.
    reasoning_effort: str | None = None
    enable_thinking: bool | None = None
    thinking: bool | Mapping[str, Any] | None = None
    chat_template_kwargs: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class CompletionRequest(InferenceRequest):
    """A text, or several, to go on with."""

    prompt: Prompts
    echo: bool = False


class Stop(fields.Field[list[str]]):
    """One stop string, or a list of them."""

    def __init__(self, **kwargs: Any) -> None:
        one = {"type": "string", "minLength": 1, "maxLength": MAX_STOP_LENGTH}
        super().__init__(**shaped(kwargs, one, {"type": "array", "items": one, "maxItems": MAX_STOPS}))

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> list[str]:
        stops = [value] if isinstance(value, str) else value
        if not isinstance(stops, list) or len(stops) > MAX_STOPS:
            got = f"{len(stops)} of them" if isinstance(stops, list) else shown(value)
            raise ValidationError(f"Got {got}; must be a text or a list of at most {MAX_STOPS} texts.")
        for stop in stops:
            if not isinstance(stop, str) or not 1 <= len(stop) <= MAX_STOP_LENGTH:
                raise ValidationError(f"Got {shown(stop)}; each must be a text of 1 to {MAX_STOP_LENGTH} characters.")
            as_text(stop)
        return stops


class NumberOfLogprobs(fields.Field[int | None]):
    """How many other likely tokens to give for each one: 0 (or true) gives the chosen tokens only."""

    def __init__(self, **kwargs: Any) -> None:
        number = {"type": "integer", "minimum": 0, "maximum": MAX_TOP_LOGPROBS}
        super().__init__(**shaped(kwargs, {"type": "boolean"}, number))

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int | None:
        if isinstance(value, bool):
            return 0 if value else None
        if not isinstance(value, int) or not 0 <= value <= MAX_TOP_LOGPROBS:
            raise ValidationError(
                f"Got {shown(value)}; must be true, false, or a whole number from 0 to {MAX_TOP_LOGPROBS}."
            )
        return value


class LogitBias(fields.Field[Mapping[str, float] | None]):
    """An object that maps token ids to numbers from -100 (never) to 100 (always)."""

    def __init__(self, **kwargs: Any) -> None:
        numbers = {"type": "number", "minimum": -MAX_BIAS, "maximum": MAX_BIAS}
        shape = {"type": "object", "propertyNames": {"pattern": _TOKEN_ID.pattern}, "additionalProperties": numbers}
        super().__init__(**shaped(kwargs, {**shape, "maxProperties": MAX_BIASES}))

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Mapping[str, float] | None:
        if not isinstance(value, dict) or len(value) > MAX_BIASES:
            got = f"{len(value)} of them" if isinstance(value, dict) else shown(value)
            raise ValidationError(f"Got {got}; must be an object of at most {MAX_BIASES} token ids and numbers.")
        for name, bias in value.items():
            if not _TOKEN_ID.fullmatch(name):
                raise ValidationError(f'Got {shown(name)}; each key must be a token id, such as "50256".')
            if isinstance(bias, bool) or not isinstance(bias, int | float) or not -MAX_BIAS <= bias <= MAX_BIAS:
                raise ValidationError(f"{name}: got {shown(bias)}; must be a number from {-MAX_BIAS} to {MAX_BIAS}.")
        return {str(int(name)): float(bias) for name, bias in value.items()} or None


class StreamOptionsSchema(NullFreeSchema):
    """What a stream carries besides the text."""

    include_usage = Boolean(load_default=False)


class JobRequestSchema(StrictSchema):
    """Fields that all requests share."""

    priority = Word(("interactive", "background"), load_default="interactive")
    detach = Boolean(load_default=False)
    store = Boolean(load_default=True, allow_none=True)
    user = Text(allow_none=True, load_default=None)
    timeout = Number(
        0.001,
        MAX_TIMEOUT_S,
        metadata={"description": "Seconds within which it must begin; refused at once if that can't be expected"},
    )


class InferenceRequestSchema(JobRequestSchema, FormSchema):
    """Fields that chat and completion share."""

    max_tokens = Integer(1, 2**31 - 1)
    temperature = Number(0, 100)
    top_p = Number(0, 1)
    top_k = Integer(0, 2**31 - 1)
    n = Integer(1, MAX_CHOICES)
    seed = Integer(0, 2**32 - 1 - MAX_CHOICES)
    stop = Stop(allow_none=True, load_default=None)
    presence_penalty = Number(-2, 2)
    frequency_penalty = Number(-2, 2)
    repetition_penalty = Number(0.1, 10)
    logit_bias = LogitBias(allow_none=True, load_default=None)
    min_p = Number(0, 1, metadata={"description": "Leaves out tokens less likely than this part of the likeliest one"})
    stream = Boolean(load_default=False, allow_none=True)
    stream_options = fields.Nested(StreamOptionsSchema, allow_none=True, load_default=None)
    require_exact_resume = Boolean(
        load_default=False,
        metadata={"description": "Refused unless an interrupted answer would go on as if nothing had happened"},
    )


class ChatRequestSchema(InferenceRequestSchema, ReasoningSchema):
    """Body of a chat request."""

    messages = Items(fields.Nested(MessageSchema), least=1, most=MAX_MESSAGES, required=True)
    logprobs = Boolean(load_default=False, allow_none=True)
    top_logprobs = Integer(0, MAX_TOP_LOGPROBS)
    tools = Items(OrCustom(ToolSchema, custom_tool), least=1, most=MAX_TOOLS, allow_none=True, load_default=None)
    tool_choice = ToolChoice(allow_none=True, load_default=None)
    parallel_tool_calls = Boolean(allow_none=True, load_default=None)
    #: The newer name of max_tokens.
    max_completion_tokens = Integer(1, 2**31 - 1)

    @pre_load
    def _with_ids(self, data: Any, **_: Any) -> Any:
        turns = data.get("messages") if isinstance(data, dict) else None
        return {**data, "messages": with_ids(turns)} if isinstance(turns, list) else data

    @validates_schema
    def _one_limit(self, data: dict[str, Any], **_: Any) -> None:
        limits = {data.get("max_tokens"), data.get("max_completion_tokens")} - {None}
        if len(limits) > 1:
            raise ValidationError("Differs from max_tokens; give one of them.", "max_completion_tokens")

    @validates_schema
    def _fits_together(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("top_logprobs") and not data.get("logprobs"):
            raise ValidationError("Needs logprobs to be true.", "top_logprobs")
        if data.get("tool_choice") not in (None, "none") and not data.get("tools"):
            raise ValidationError("Needs tools to choose from.", "tool_choice")
        names = {tool[tool["type"]]["name"] for tool in data.get("tools") or ()}
        for name in chosen(data.get("tool_choice")) or ():
            if name not in names:
                raise ValidationError(f"Got {shown(name)}; allowed: one of the tools.", "tool_choice")

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> ChatRequest:
        newer = data.pop("max_completion_tokens", None)
        data = with_form(data)
        messages, wanted = with_tools(data["messages"]), data["max_tokens"]
        data |= {"messages": messages, "max_tokens": newer if wanted is None else wanted}
        return ChatRequest(**data)


class CompletionRequestSchema(InferenceRequestSchema):
    """Body of a completion request."""

    prompt = Prompt(required=True)
    echo = Boolean(load_default=False, allow_none=True)
    logprobs = NumberOfLogprobs(load_default=None, allow_none=True)

    @validates_schema
    def _few_answers(self, data: dict[str, Any], **_: Any) -> None:
        prompts, n = data.get("prompt"), data.get("n") or 1
        several = len(prompts) if isinstance(prompts, list) and not isinstance(next(iter(prompts), 0), int) else 1
        if n * several > MAX_ANSWERS:
            raise ValidationError(
                f"Got {n} for each of {several} prompts; all prompts together may have {MAX_ANSWERS} answers.", "n"
            )

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> CompletionRequest:
        others = data.pop("logprobs")
        data = with_form(data)
        data |= {"logprobs": others is not None, "top_logprobs": others or None}
        return CompletionRequest(**data)
