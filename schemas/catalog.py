"""Models and providers as `headrace.toml` declares them."""

from __future__ import annotations

import re
from typing import Any

from marshmallow import ValidationError, fields, post_load, validate, validates, validates_schema

from schemas.base.fields import Boolean, Integer, Number, StrictSchema, Text, Word, shown
from schemas.sources import parse_source

CAPABILITIES = ("chat", "completion", "embedding", "code", "tool_use")
PROTOCOLS = ("openai", "anthropic")
ON_INTERRUPT = ("fail", "restart", "continue")
#: The ways in which a provider's server continues a started chat answer.
CONTINUATIONS = ("none", "prefill", "prefix", "continue_final_message")
#: How models of Anthropic's protocol are told to think.
REASONING = ("budget", "effort")
#: How local models write tool calls, and reasoning; see docs/tools.md.
TOOL_FORMATS = (
    "none",
    "hermes",
    "qwen-xml",
    "glm",
    "llama",
    "mistral",
    "pythonic",
    "deepseek",
    "deepseek-dsml",
    "kimi",
    "gpt-oss",
)
REASONING_FORMATS = ("none", "think", "mistral", "seed", "gemma")
#: Largest number of tokens in the catalog.
MOST_TOKENS = 2**31 - 1
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
#: First and last parts of an id that would make it another path.
RESERVED_FIRST, RESERVED_LAST = ("local", "deploy", "deployments"), ("chat", "completions", "embeddings")


class RangeSchema(StrictSchema):
    """The range of a number."""

    min = Number(-1e9, 1e9, required=True)
    max = Number(-1e9, 1e9, required=True)
    default = Number(-1e9, 1e9, required=True)

    @validates_schema
    def _in_order(self, data: dict[str, Any], **_: Any) -> None:
        if missing := [name for name in ("min", "max", "default") if data.get(name) is None]:
            raise ValidationError({name: ["Missing data for required field."] for name in missing})
        if not data["min"] <= data["default"] <= data["max"]:
            raise ValidationError("Must have min <= default <= max.")


class PricingSchema(StrictSchema):
    """What a thousand tokens cost."""

    input_per_1k_tokens = Number(0, 1e9)
    output_per_1k_tokens = Number(0, 1e9)
    currency = Text(
        validate=validate.Regexp(r"[A-Z]{3}\Z", error="Got {input!r}; must be an ISO 4217 code such as USD.")
    )

    @post_load
    def _given(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {name: value for name, value in data.items() if value is not None}


class ProviderEntrySchema(StrictSchema):
    """A table `[providers.NAME]`."""

    protocol = Word(PROTOCOLS, required=True)
    base_url = Text(validate=validate.Regexp(r"https?://.+", error="Got {input!r}; must be an http or https address."))
    connect_timeout_s = Number(0.01, 600)
    first_byte_timeout_s = Number(0.01, 3600)
    between_timeout_s = Number(0.01, 3600)
    max_retries = Integer(0, 10)
    max_retry_wait_s = Number(0, 600)
    continuation = Word(CONTINUATIONS)
    reasoning = Word(REASONING)
    api_key_env = Text(validate=validate.Regexp(r"\w*\Z", error="Got {input!r}; must be the name of a variable."))


class ModelEntrySchema(StrictSchema):
    """A table `[models."ID"]`. Missing fields have the defaults of `gateway/models/entry.py`."""

    id = Text(required=True)
    enabled = Boolean()
    name = Text(required=True)
    description = Text(load_default="")
    version = Text(load_default="1.0")
    capabilities = fields.List(Word(CAPABILITIES), required=True, validate=validate.Length(1))
    provider = Text()
    upstream = Text()
    upstreams = fields.Dict(Word(CAPABILITIES), Text())
    fallbacks = fields.List(Text())
    on_interrupt = Word(ON_INTERRUPT)
    pricing = fields.Nested(PricingSchema)
    source = Text()
    base = Text()
    adapter = Text()
    engine = Text()
    quantization = Text()
    dimensions = Integer(1, MOST_TOKENS)
    shortens_vectors = Boolean()
    context_length = Integer(0, MOST_TOKENS)
    max_tokens = Integer(0, MOST_TOKENS)
    default_max_tokens = Integer(1, MOST_TOKENS)
    temperature = fields.Nested(RangeSchema)
    top_p = fields.Nested(RangeSchema)
    top_k = fields.Nested(RangeSchema)
    presence_penalty = fields.Nested(RangeSchema)
    frequency_penalty = fields.Nested(RangeSchema)
    repetition_penalty = fields.Nested(RangeSchema)
    tool_format = Word(TOOL_FORMATS)
    reasoning_format = Word(REASONING_FORMATS)
    options = fields.Dict(Text())

    @validates("source", "adapter")
    def _readable(self, value: str | None, **_: Any) -> None:
        try:
            parse_source(value or "")
        except ValueError as error:
            raise ValidationError(f"Got {shown(value)}: {error}.") from error

    @validates("id")
    def _routable(self, value: str, **_: Any) -> None:
        parts = value.split("/")
        if not _ID.fullmatch(value) or any(part in ("", ".", "..") for part in parts):
            raise ValidationError(f"Got {shown(value)}; an id has letters, digits and . _ : / @ + - only.")
        if parts[0] in RESERVED_FIRST or parts[-1] in RESERVED_LAST:
            raise ValidationError(
                f"Got {shown(value)}, which would be the path of something else: an id does not begin with "
                f"{', '.join(f'{part}/' for part in RESERVED_FIRST)} nor end with "
                f"{', '.join(f'/{part}' for part in RESERVED_LAST)}. Choose another one."
            )
