"""Entries of the catalog: models and providers, as frozen dataclasses. Does not know what runs where."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.errors import InvalidRequest
from gateway.models.engines import formats_of, is_weightless
from gateway.models.paths import hub_path, package_path
from schemas.catalog import MOST_TOKENS
from schemas.sources import FolderRef, HubRef, PackageRef, parse_source

#: Provider of the models that run on our own devices.
LOCAL = "local"


@dataclass(frozen=True)
class Range:
    """The range of a number, and its default."""

    min: float
    max: float
    default: float


@dataclass(frozen=True)
class Pricing:
    """The price of a thousand tokens."""

    input_per_1k_tokens: float = 0.0
    output_per_1k_tokens: float = 0.0
    currency: str = "USD"


#: The protocols' own servers.
SERVERS = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}


@dataclass(frozen=True)
class Provider:
    """A remote server of models. `protocol` is `openai` or `anthropic`; `api_key_env` names the variable with the key.

    An empty `base_url` means the protocol's own server; an empty `api_key_env` that it needs no key. Times are seconds.
    """

    name: str
    protocol: str
    base_url: str = ""
    api_key_env: str = ""
    #: Time-outs: to connect, until an answer begins, and between two pieces of it.
    connect_timeout_s: float = 5.0
    first_byte_timeout_s: float = 120.0
    between_timeout_s: float = 60.0
    #: Retries before any part of the answer has come. A long `Retry-After` ends them.
    max_retries: int = 2
    max_retry_wait_s: float = 20.0
    #: How a started chat answer is continued: `none`, `prefill`, `prefix`, `continue_final_message`; empty: as the
    #: protocol allows (Anthropic: prefill, OpenAI: none).
    continuation: str = ""
    #: How models of Anthropic's protocol are told to think: `budget` (a number of tokens) or `effort` (newer models).
    reasoning: str = "budget"

    @property
    def url(self) -> str:
        """Where its server is."""
        return self.base_url or SERVERS[self.protocol]

    @property
    def has_credentials(self) -> bool:
        """Whether the key is in this process' environment, or none is needed."""
        return not self.api_key_env or bool(os.environ.get(self.api_key_env))


@dataclass(frozen=True)
class Model:
    """One entry of the catalog. `source` is written as `schemas/sources.py` says; `max_tokens` caps one answer.

    A remote model has the name of its provider in `provider`, and in `upstream` the provider's own name for it.
    """

    id: str
    name: str
    description: str
    version: str
    capabilities: tuple[str, ...]
    provider: str = LOCAL
    upstream: str = ""
    #: The provider's names where they differ by capability: `{"embedding": "text-embedding-ada-002"}`.
    upstreams: Mapping[str, str] = field(default_factory=dict)
    #: Models that take over when this one fails, in this order.
    fallbacks: tuple[str, ...] = ()
    #: What to do if a remote answer breaks off: `fail`, `restart` or `continue`.
    on_interrupt: str = "continue"
    pricing: Pricing = Pricing()
    source: str = ""
    #: An adapter (LoRA) of another model, whose replicas serve it: that one's id, and the adapter's folder or package.
    base: str = ""
    adapter: str = ""
    engine: str = ""
    quantization: str = ""
    #: Length of the vectors of an embedding model; 0 = unknown.
    dimensions: int = 0
    #: A prefix of a vector is a smaller vector of the same text (Matryoshka).
    shortens_vectors: bool = False
    #: Tokens of prompt and answer together; 0 = as the model's files say, or its provider.
    context_length: int = 0
    #: The most tokens of one answer; 0 = what the context leaves.
    max_tokens: int = 0
    #: Caps an answer whose request does not; 0 = as `max_tokens`.
    default_max_tokens: int = 0
    temperature: Range = Range(0.0, 2.0, 1.0)
    top_p: Range = Range(0.0, 1.0, 1.0)
    #: None: the API's own limits, and off by default.
    top_k: Range | None = None
    presence_penalty: Range | None = None
    frequency_penalty: Range | None = None
    repetition_penalty: Range | None = None
    #: How a local model writes tool calls and reasoning (docs/tools.md). Empty: as its chat template shows; or `none`.
    tool_format: str = ""
    reasoning_format: str = ""
    #: Options for the engine of a local model.
    options: Mapping[str, object] = field(default_factory=dict)
    #: The folder of downloaded models on this machine; set by the catalog.
    models_dir: Path = field(default=Path("var/models"), compare=False)
    #: The provider of a remote model; set by the catalog.
    via: Provider | None = field(default=None, compare=False)

    @property
    def local(self) -> bool:
        """Whether it runs on our own devices."""
        return self.provider == LOCAL

    @property
    def deployable(self) -> bool:
        """Whether it has replicas of its own: an adapter is served by those of its base."""
        return self.local and not self.base

    @property
    def longest_answer(self) -> int:
        """The most tokens of one answer, as far as the catalog knows."""
        return min(filter(None, (self.max_tokens, self.context_length)), default=MOST_TOKENS)

    @property
    def told_answer(self) -> int:
        """The most tokens of one answer for a provider that must be told: all models allow the usual number."""
        return self.max_tokens or min(self.longest_answer, 4096)

    @property
    def ranges(self) -> dict[str, Range]:
        """The request parameters that this model limits, by name."""
        named = {name: getattr(self, name) for name in RANGED}
        return {name: limits for name, limits in named.items() if limits is not None}

    def upstream_for(self, capability: str) -> str:
        """The provider's name for this model when it is asked for a capability."""
        return self.upstreams.get(capability) or self.upstream or self.id

    def path(self) -> Path | None:
        """The path of the weights, or None if they are not on this machine."""
        ref = parse_source(self.source)
        match ref:
            case FolderRef():
                return Path(ref.path)
            case PackageRef():
                return package_path(ref)
            case HubRef():
                found = hub_path(self.models_dir, ref, formats_of(self.engine))
                return found if found.exists() else None
        return None

    def adapter_path(self) -> Path | None:
        """The folder of an adapter, or None if it can't be on this machine."""
        match parse_source(self.adapter):
            case FolderRef(path=path):
                return Path(path)
            case PackageRef() as ref:
                return package_path(ref)
        return None

    @property
    def has_weights(self) -> bool:
        """Whether a local model could be loaded on this machine now."""
        path = self.path()
        return is_weightless(self.engine) or (path is not None and path.exists())

    @property
    def downloadable(self) -> bool:
        """Whether a deployment can download missing weights."""
        return isinstance(parse_source(self.source), HubRef)

    def require(self, capability: str) -> None:
        """Raises: InvalidRequest if the model can't do it."""
        if capability not in self.capabilities:
            can = ", ".join(self.capabilities)
            raise InvalidRequest(
                f"Model {self.id!r} does not offer {capability}; it offers {can}.", reason="capability_not_supported"
            )


#: Fields that are ranges, named as in requests.
RANGED = ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "repetition_penalty")
