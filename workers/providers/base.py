"""The contract between the provider worker and a protocol: requests, and the deltas that come back.

A protocol knows its SDK, and neither jobs nor Redis. It raises what its SDK raises; `failures.py` says what that means.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.inference.estimates import estimate_tokens
from gateway.jobs.journal import Logprob, is_several
from gateway.models.entry import Model, Provider


@dataclass(frozen=True)
class UpstreamRequest:
    """One call of a provider, for some of the answers to a request."""

    #: `chat`, `completion` or `embedding`.
    kind: str
    model: Model
    #: As the job record has it: OpenAI's fields, checked, with the model's defaults.
    request: Mapping[str, Any]
    #: The answers to make: choice i of the call is answer `indexes[i]`.
    indexes: Sequence[int]
    #: The beginning of the answer, to be continued; then the call is for one answer.
    before: str = ""
    #: The client asked for this model itself, not for one whose fallback it is.
    named: bool = True
    #: Headers of the call, see `gateway/process/trace_context.py`.
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def provider(self) -> Provider:
        """Whom it is asked of."""
        assert self.model.via is not None, "the catalog gives each remote model its provider"
        return self.model.via

    @property
    def upstream(self) -> str:
        """The provider's name for the model."""
        return self.model.upstream_for(self.kind)

    @property
    def prompt(self) -> Any:
        """The prompt of a completion for one answer: a text, or token ids."""
        prompt = self.request["prompt"]
        return prompt[self.indexes[0] // int(self.request.get("n") or 1)] if is_several(prompt) else prompt

    @property
    def max_tokens(self) -> int:
        """The most tokens that are left for an answer; 0 = not set. The tokens of `before` are estimated."""
        wanted = int(self.request.get("max_tokens") or 0)
        return max(1, wanted - estimate_tokens(self.before)) if wanted and self.before else wanted

    @property
    def num_inputs(self) -> int:
        """How many vectors an embedding call must bring; a list of token ids is one input."""
        given = self.request["input"]
        return len(given) if isinstance(given, list) and not isinstance(given[0], int) else 1

    @property
    def whole(self) -> bool:
        """Whether it asks for all answers of the request, from the beginning."""
        return len(self.indexes) > 1 and not self.before


@dataclass(frozen=True)
class UpstreamDelta:
    """What one event of a provider's stream adds to one answer. One without content is a sign of life."""

    #: Number of the answer, or of the input.
    index: int = 0
    text: str = ""
    #: Fragments, see `gateway/jobs/answer/tool_calls.py`.
    tool_calls: Sequence[Mapping[str, Any]] = ()
    logprobs: Sequence[Logprob] = ()
    finish: str | None = None
    #: What the provider says beside them, see `gateway/jobs/answer/extras.py`.
    extra: Mapping[str, Any] = field(default_factory=dict)
    #: Tokens of this call so far, as the provider counts them; None = it has not said.
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    #: Cached tokens of the prompt, and reasoning tokens of the answer.
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    #: float32, little-endian.
    vector: bytes = b""


class Upstream(Protocol):
    """A provider's API."""

    #: What its SDK raises.
    errors: tuple[type[Exception], ...]

    def splits(self, ask: UpstreamRequest) -> bool:
        """Whether each answer of this request needs a call of its own."""

    def continues(self, kind: str) -> bool:
        """Whether it can continue a started answer."""

    def stream(self, ask: UpstreamRequest) -> AsyncGenerator[UpstreamDelta]:
        """Make the call. Closing the generator closes the connection."""

    async def close(self) -> None:
        """Close all connections."""
