"""The catalog: what the file may say, how mistakes are named, and how a running process follows the file."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import Conflict, InvalidRequest, InvalidSetting, ModelNotFound
from gateway.models import catalog as catalog_module
from gateway.models.catalog import Catalog, Pricing, Range, load_catalog
from gateway.settings import Settings

#: The document's four examples: id, provider, capabilities, and the status without keys or weights.
EXAMPLES = [
    ("gpt-4", "openai", ("chat", "completion", "embedding")),
    ("claude-3", "anthropic", ("chat", "completion")),
    ("deepseek-v3-14b", "local", ("chat", "completion", "code")),
    ("qwen3-7b", "local", ("chat", "completion", "tool_use")),
]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(config=tmp_path / "headrace.toml", data_dir=tmp_path / "var")


@pytest.fixture(autouse=True)
def look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "LOOK_S", -1.0)


def test_the_default_catalog_has_the_demo_models_and_the_documents_examples(settings: Settings) -> None:
    catalog = load_catalog(settings)
    assert catalog.get("smollm2-135m").has_weights
    assert catalog.get("all-minilm-l6-v2").capabilities == ("embedding",)
    assert catalog.get("fake").has_weights
    for model_id, provider, capabilities in EXAMPLES:
        model = catalog.get(model_id)
        assert (model.provider, model.capabilities) == (provider, capabilities)
        assert not (model.local and model.has_weights)
    assert catalog.get("gpt-4").pricing == Pricing(0.03, 0.06, "USD")
    assert catalog.get("gpt-4").upstream_for("embedding") == "text-embedding-ada-002"
    assert catalog.get("gpt-4").upstream_for("chat") == "gpt-4"


def test_credentials_are_looked_for_in_the_named_variable(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = load_catalog(settings).providers["openai"]
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert not provider.has_credentials
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    assert provider.has_credentials


def test_the_file_adds_changes_and_takes_out_models(settings: Settings) -> None:
    settings.config.write_text(
        """
        http_port = 9000
        [providers.own]
        protocol = "openai"
        base_url = "http://127.0.0.1:9/v1"
        [models."org/name:7b.q4"]
        capabilities = ["chat", "tool_use"]
        provider = "own"
        fallbacks = ["gpt-4"]
        temperature = { min = 0.1, max = 1, default = 0.5 }
        pricing = { input_per_1k_tokens = 2, currency = "CNY" }
        [models.gpt-4]
        max_tokens = 100
        [models.qwen3-7b]
        enabled = false
        """
    )
    catalog = load_catalog(settings)
    own = catalog.get("org/name:7b.q4")
    assert (own.name, own.provider, own.fallbacks) == ("org/name:7b.q4", "own", ("gpt-4",))
    assert own.temperature == Range(0.1, 1, 0.5)
    assert own.pricing == Pricing(2, 0, "CNY")
    assert own.upstream_for("chat") == "org/name:7b.q4"
    assert catalog.providers["own"].has_credentials
    changed = catalog.get("gpt-4")
    assert (changed.max_tokens, changed.name) == (100, "GPT-4")
    with pytest.raises(ModelNotFound, match="Known models: all-minilm"):
        catalog.get("qwen3-7b")


def test_variables_are_over_the_file(settings: Settings) -> None:
    settings.config.write_text("[models.fake]\nmax_tokens = 5\nversion = '7'\n")
    changed = replace(
        settings,
        models_json='{"fake": {"max_tokens": 6}}',
        providers_json='{"own": {"protocol": "anthropic", "api_key_env": "OWN"}}',
    )
    catalog = load_catalog(changed)
    assert (catalog.get("fake").max_tokens, catalog.get("fake").version) == (6, "7")
    assert catalog.providers["own"].api_key_env == "OWN"


BAD = [
    ("[models.x]\ncapabilities = [\n", r"line 3|end of document"),
    ("models = 1", r"line 1.*: models: Must hold tables"),
    ("\n[models.x]\n", r"line 2: models.x.capabilities: Missing"),
    (
        '[models.x]\ncapabilities = ["fly"]',
        r"line 2: models.x.capabilities.0: Got 'fly'; allowed: chat, completion",
    ),
    (
        '[models.x]\ncapabilities = ["chat"]\n\ncolour = 1',
        r"line 4: models.x.colour: Unknown field. Allowed: ",
    ),
    (
        '[models.x]\ncapabilities = ["chat"]\nmax_tokens = "5"',
        r"line 3: models.x.max_tokens: Got '5'; must be a whole",
    ),
    ('[models."a b"]\ncapabilities = ["chat"]', r"line 1.*: models.a b.id: Got 'a b'; an id has"),
    ('[models."local/x"]\ncapabilities = ["chat"]', r"line 1: .* would be the path of something else"),
    ('[models."x/chat"]\ncapabilities = ["chat"]', r"line 1: .* would be the path of something else"),
    ('[models."x/../y"]\ncapabilities = ["chat"]', r"line 1: .* an id has"),
    (
        '[models.x]\ncapabilities = ["chat"]\n[models.x.temperature]\nmin = 2\nmax = 1\ndefault = 1',
        r"line 3: models.x.temperature: Must have min <= default <= max",
    ),
    ('[models.gpt-4]\npricing.currency = "dollars"', r"line 2: models.gpt-4.pricing.currency: Got 'dollars'"),
    (
        '[models.gpt-4]\nprovider = "nobody"',
        r"line 2: .*no provider 'nobody'. Known providers: local, anthropic",
    ),
    (
        '[models.gpt-4]\nfallbacks = ["gpt-4"]',
        r"line 2: models.gpt-4.fallbacks: 'gpt-4' is not the id of another",
    ),
    (
        '[models.gpt-4]\nbase = "fake"\nadapter = "/a"',
        r"line 2: models.gpt-4.base: The engine 'fake' of 'fake' serves no adapters: vllm does",
    ),
    (
        '[providers.p]\nprotocol = "smoke"',
        r"line 2: providers.p.protocol: Got 'smoke'; allowed: openai, anthropic",
    ),
    (
        '[providers.p]\nprotocol = "openai"\nbase_url = "x"',
        r"line 3: providers.p.base_url: Got 'x'; must be an http",
    ),
]


@pytest.mark.parametrize(("text", "says"), BAD)
def test_a_mistake_is_named_with_its_line_column_and_reason(settings: Settings, text: str, says: str) -> None:
    settings.config.write_text(text)
    (problem,) = load_catalog(settings).problems
    assert re.search(says, re.sub(r", column \d+", "", str(problem))), str(problem)
    assert problem.source == str(settings.config)


def test_a_mistake_refuses_its_own_entry_alone(settings: Settings) -> None:
    settings.config.write_text(
        """
        [models.right]
        capabilities = ["chat"]
        [models.wrong]
          capabilities = ["fly"]
        [models.gpt-4]
        max_tokens = "7"
        [providers.broken]
        protocol = "smoke"
        [models.theirs]
        capabilities = ["chat"]
        provider = "broken"
        """
    )
    catalog = load_catalog(settings)
    assert catalog.get("right").capabilities == ("chat",)
    assert catalog.get("gpt-4").max_tokens == 8192, "of a table that is wrong nothing counts"
    with pytest.raises(ModelNotFound, match=r"no model 'wrong'. .*line 5, column 11: models.wrong.capabilities"):
        catalog.get("wrong")
    with pytest.raises(Conflict, match=r"models.gpt-4.max_tokens: Got '7'"):
        catalog.require_right("gpt-4")
    catalog.require_right("right")
    assert [problem.name for problem in catalog.problems] == ["broken", "gpt-4", "wrong", "theirs"]


def test_a_mistake_in_a_variable_is_named(settings: Settings) -> None:
    with pytest.raises(InvalidSetting, match="HEADRACE_MODELS_JSON is not valid JSON"):
        load_catalog(replace(settings, models_json="{"))
    (problem,) = load_catalog(replace(settings, models_json='{"x": {}}')).problems
    assert str(problem).startswith("HEADRACE_MODELS_JSON: models.x.capabilities: Missing")


def test_changes_are_picked_up_and_a_broken_file_changes_nothing(settings: Settings) -> None:
    catalog = load_catalog(settings)
    before = catalog.get("fake")
    settings.config.write_text('[models.new]\ncapabilities = ["chat"]\n')
    assert catalog.get("new").capabilities == ("chat",)
    settings.config.write_text('[models.new]\ncapabilities = ["chat"]\nmax_tokens = -1\n')
    assert catalog.get("new").max_tokens == 0
    assert "line 3, column 1: models.new.max_tokens: Got -1" in str(catalog.problems[0])
    settings.config.write_text("[models.fake]\nenabled = false\n")
    with pytest.raises(ModelNotFound):
        catalog.get("new")
    assert not catalog.problems
    assert catalog.latest(before) is before
    settings.config.unlink()
    assert catalog.get("fake") == before


def test_a_process_that_starts_while_the_file_is_broken_takes_the_last_good_one(settings: Settings) -> None:
    settings.config.write_text('[models.new]\ncapabilities = ["chat"]\n')
    load_catalog(settings)
    settings.config.write_text("[models.new\n")
    late = load_catalog(settings)
    assert late.get("new").capabilities == ("chat",)
    assert "line 1" in str(late.problems[0])
    settings.config.write_text('[models.newer]\ncapabilities = ["chat"]\n')
    assert late.get("newer").id == "newer"


def test_a_model_without_the_capability_says_what_it_offers(settings: Settings) -> None:
    catalog = load_catalog(settings)
    with pytest.raises(InvalidRequest, match="does not offer chat; it offers embedding") as caught:
        catalog.get("all-minilm-l6-v2").require("chat")
    assert caught.value.reason == "capability_not_supported"


def test_a_catalog_without_a_file_is_just_its_entries() -> None:
    assert list(Catalog([])) == []


def test_the_example_of_the_page_on_the_catalog_is_right(settings: Settings) -> None:
    text = (Path(__file__).parents[2] / "docs" / "catalog.md").read_text()
    settings.config.write_text(text.partition("```toml\n")[2].partition("```")[0])
    assert load_catalog(settings).get("team/assistant:large").provider == "mine"


def test_the_example_of_the_page_on_providers_is_right(settings: Settings) -> None:
    text = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()
    settings.config.write_text(text.partition("```toml\n")[2].partition("```")[0])
    catalog = load_catalog(settings)
    assert not catalog.problems
    assistant, qwen = catalog.get("team/assistant"), catalog.get("qwen")
    assert (assistant.provider, assistant.fallbacks) == ("openai", ("claude", "smollm2-135m"))
    assert (assistant.on_interrupt, qwen.on_interrupt, catalog.get("there").on_interrupt) == (
        *("continue", "restart"),
        "fail",
    )
    assert qwen.upstream_for("embedding") == "Qwen/Qwen3-Embedding-0.6B"
    assert catalog.providers["openai"].api_key_env == "OPENAI_API_KEY", "what the file does not say stays"
    assert catalog.providers["openai"].first_byte_timeout_s == 60
    assert catalog.providers["other-headrace"].max_retries == 1


BASE = """
[models.big]
capabilities = ["chat"]
engine = "vllm"
source = "/models/big"
context_length = 4096
tool_format = "hermes"
[models.small]
capabilities = ["chat"]
"""


def test_an_adapter_has_what_its_base_has(settings: Settings) -> None:
    settings.config.write_text(BASE + 'base = "big"\nadapter = "/adapters/small"\nmax_tokens = 100\n')
    catalog = load_catalog(settings)
    small, big = catalog.get("small"), catalog.get("big")
    assert (small.engine, small.context_length, small.tool_format) == ("vllm", 4096, "hermes")
    assert (small.max_tokens, small.adapter_path()) == (100, Path("/adapters/small"))
    assert (small.local, small.deployable, big.deployable) == (True, False, True)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('base = "nothing"\nadapter = "/a"', "base: 'nothing' is not the id of a local model"),
        ('base = "gpt-4"\nadapter = "/a"', "base: 'gpt-4' is not the id of a local model"),
        ('base = "small"\nadapter = "/a"', "base: 'small' is not the id of a local model"),
        ('adapter = "/a"', "base: '' is not the id of a local model"),
        ('base = "big"', "adapter: Got ''; must be a folder or package"),
        ('base = "big"\nadapter = "hub:a/b@0123456789012345678901234567890123456789"', "must be a folder or package"),
        ('base = "big"\nadapter = "/a"\nsource = "/b"', "source: An adapter has that of its base 'big'"),
        (
            'base = "big"\nadapter = "/a"\n[models.fake]\nfallbacks = ["small"]',
            "fallbacks: 'small' is an adapter; name",
        ),
    ],
)
def test_a_mistake_in_an_adapter_is_named(settings: Settings, table: str, says: str) -> None:
    settings.config.write_text(BASE + table)
    (problem,) = load_catalog(settings).problems
    assert says in str(problem)
