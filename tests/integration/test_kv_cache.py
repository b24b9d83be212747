"""The KV cache that is planned is the one that real engines make, and sequences wait for room in it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import pytest

from gateway.deployments.memory import GIB, Load, MemoryPlan, plan
from tests.deployments import deploy, ended
from tests.engines import loaded_engine
from tests.stack import Stack, eventually, running
from tests.tiny_models import demo_path, save_tiny_gguf, save_tiny_ir, save_tiny_llama
from workers.engines.base import Engine, EngineConfig, EngineRequestError, Sampling, SequenceOutput, SequenceRequest
from workers.sources.model_footprint import read_footprint

CATALOG = """
[models.small]
name = "Small"
description = "A tiny model with a cache of two sequences"
version = "1.0"
capabilities = ["chat"]
engine = "openvino"
source = "{tiny}"
context_length = 512
max_tokens = 256
options = {{ cache_tokens = 1024 }}

[models.cramped]
name = "Cramped"
description = "The demo model with a cache that is too small for it"
version = "1.0"
capabilities = ["chat"]
engine = "openvino"
source = "{demo}"
context_length = 8192
max_tokens = 256
options = {{ cache_gib = 0.05 }}
"""
#: Sequences at once, and tokens of the cache that is too small for them.
SEQUENCES, CAPACITY = 32, 512


@dataclass(frozen=True)
class Case:
    """A model on an engine."""

    engine: str
    #: Made by `tests/tiny_models.py`.
    model: str
    config: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)


CASES = {
    "gguf": Case("openvino", "gguf"),
    "exact gguf": Case("openvino", "gguf", properties={"EXECUTION_MODE_HINT": "ACCURACY"}),
    # It says that it wants its keys and values in 16 bits.
    "ir": Case("openvino", "ir"),
    "llama": Case("transformers", "llama"),
    "llama in int8": Case("transformers", "llama", {"quantization": "int8"}),
    "llama in two processes": Case("transformers", "llama", {"tensor_parallel_size": 2}),
}


SAVE = {"llama": save_tiny_llama, "ir": save_tiny_ir}


@dataclass(frozen=True)
class Loaded:
    """An engine, and the plan by which it was loaded."""

    plan: MemoryPlan
    config: EngineConfig
    engine: Engine


#: Other tests show in short what is special about each.
COSTLY = ("exact gguf", "llama in int8", "llama in two processes")


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.slow] * (name in COSTLY)) for name in CASES]
)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    case = CASES[request.param]
    folder = tmp_path_factory.mktemp(case.model)
    path = save_tiny_gguf(folder / "tiny.gguf") if case.model == "gguf" else SAVE[case.model](folder)
    options = {"cache_tokens": CAPACITY, "properties": case.properties}
    wanted = {"max_batch_size": SEQUENCES, "context_length": CAPACITY // 2, **case.config}
    found = plan(
        read_footprint(path), Load.from_config(case.engine, {**wanted, "device": "cpu0", "options": options}), GIB
    )
    config = EngineConfig(
        case.engine, str(path), "CPU", options=options, kv_capacity_tokens=found.kv_capacity_tokens, **wanted
    )
    with closing(loaded_engine(config)) as engine:
        yield Loaded(found, config, engine)


def test_the_engine_makes_the_cache_that_was_planned(loaded: Loaded) -> None:
    effective = loaded.engine.info.effective
    assert effective["kv_capacity_tokens"] == loaded.plan.kv_capacity_tokens == CAPACITY
    # Of this process; on a CPU the plan counts them all.
    assert effective["kv_cache_bytes"] * loaded.config.tensor_parallel_size == loaded.plan.kv_cache_bytes
    if loaded.config.engine == "openvino":
        # It does not count its blocks, but says which share of them the warm-up has taken: one.
        usage = cast(Any, loaded.engine)._pipeline.get_metrics().max_cache_usage
        assert usage == pytest.approx(100 * 32 / CAPACITY)


def test_sequences_that_outgrow_the_cache_together_wait_and_end_well(loaded: Loaded) -> None:
    numbers = random.Random(0)
    for i in range(SEQUENCES):
        prompt = [numbers.randrange(100, 500) for _ in range(40)]
        loaded.engine.add(SequenceRequest(i, prompt, Sampling(12, temperature=0.0)))
    assert SEQUENCES * (40 + 12) > 3 * CAPACITY
    assert ends(loaded.engine) == dict.fromkeys(range(SEQUENCES), (12, "length"))


def test_what_of_a_prompt_is_in_the_cache_is_told_once(loaded: Loaded) -> None:
    prompt = [200 + i % 90 for i in range(100)]
    told = []
    for i in range(2):
        loaded.engine.add(SequenceRequest(i, prompt, Sampling(3, temperature=0.0)))
        outputs: list[SequenceOutput] = []
        while loaded.engine.has_work():
            outputs += loaded.engine.step()
        told.append([output.cached for output in outputs if output.cached])
    shares = loaded.config.engine == "openvino"  # the other computes each prompt
    assert told == [[], [96] if shares else []], "whole blocks of 32 tokens"


def test_the_longest_sequence_that_fits_ends_well(loaded: Loaded) -> None:
    for i in range(2):
        loaded.engine.add(SequenceRequest(i, [100 + i] * (CAPACITY - 4), Sampling(4, temperature=0.0)))
    assert ends(loaded.engine) == dict.fromkeys(range(2), (4, "length"))
    with pytest.raises(EngineRequestError, match="may take 513 tokens, and the KV cache of this engine has 512"):
        loaded.engine.add(SequenceRequest(3, [7] * 500, Sampling(13, temperature=0.0)))


def ends(engine: Engine) -> dict[int, tuple[int, str]]:
    """How many tokens each sequence has made, and why it ended."""
    made: dict[int, int] = {}
    found: dict[int, tuple[int, str]] = {}
    while engine.has_work():
        for output in engine.step():
            made[output.sequence_id] = made.get(output.sequence_id, 0) + len(output.token_ids)
            if output.finish_reason:
                found[output.sequence_id] = (made[output.sequence_id], output.finish_reason)
    return found


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("kv")
    catalog = CATALOG.format(demo=demo_path(), tiny=save_tiny_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf"))
    with running(folder, {"fake": {}}, catalog=catalog, max_batch_size=SEQUENCES) as stack:
        yield stack


def measured(client: httpx.Client, model: str, **body: Any) -> dict[str, Any]:
    """What a deployment would take, once the agent has measured the model."""

    def look() -> Any:
        response = client.post("/models/local/deploy", json={"model_type": model, "dry_run": True, **body})
        return response.json()["data"]["memory_plan"]["n1.cpu0"]

    found = eventually(look, f"{model} is measured")
    assert isinstance(found, dict)
    return found


def serves(client: httpx.Client, stack: Stack, model: str, **body: Any) -> dict[str, Any]:
    """Deploy it; the KV cache is what was planned. Returns the deployment at its end."""
    dry = measured(client, model, **body)
    data = ended(client, deploy(client, model, **body), 90)
    assert data["status"] == "completed", data["error"]
    assert data["memory_plan"]["n1.cpu0"]["kv_cache_bytes"] == dry["kv_cache_bytes"]
    (replica,) = [one for one in stack.registry.replicas() if one.deployment_id == data["deployment_id"]]
    assert replica.effective["kv_cache_bytes"] == dry["kv_cache_bytes"]
    return data


@pytest.mark.slow
def test_the_demo_model_takes_a_gib_at_most(stack: Stack, client: httpx.Client) -> None:
    dry = measured(client, "smollm2", model_size="135m")
    assert 0.99 * GIB < dry["kv_cache_bytes"] <= GIB
    # 30 layers, 3 heads, 64 numbers; 1.25 bytes for each key and 1.125 for each value.
    assert dry["kv_cache_full_bytes"] == SEQUENCES * 8192 * 30 * 3 * 64 * 19 // 8
    data = serves(client, stack, "smollm2", model_size="135m")
    assert any("KV cache: 78464 tokens, 9.6 sequences of 8192" in line["message"] for line in data["logs"])
    models = {one["id"]: one for one in client.get("/models/local").json()["data"]["models"]}
    assert models["smollm2-135m"]["deployment"]["effective_config"]["kv_capacity_tokens"] == 78_464
    client.delete("/models/local/smollm2-135m")


@pytest.mark.slow
def test_chats_that_outgrow_the_cache_together_end_well(stack: Stack, client: httpx.Client) -> None:
    serves(client, stack, "small")

    def ask(i: int) -> httpx.Response:
        messages = [{"role": "user", "content": f"Tell me of {i} " + "green lakes and rivers " * 8}]
        return client.post(
            "/models/small/chat/completions", json={"messages": messages, "max_tokens": 24, "temperature": 0}
        )

    with ThreadPoolExecutor(SEQUENCES) as pool:
        answers = list(pool.map(ask, range(SEQUENCES)))
    assert [answer.status_code for answer in answers] == [200] * SEQUENCES
    used = [answer.json()["data"]["usage"]["total_tokens"] for answer in answers]
    assert sum(used) > 2 * 1024  # the cache's tokens


@pytest.mark.slow
def test_a_deployments_context_is_in_force(stack: Stack, client: httpx.Client) -> None:
    serves(client, stack, "small", deployment_config={"context_length": 64, "max_batch_size": 2})
    ask = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 64}
    answer = client.post("/models/small/chat/completions", json=ask).json()["data"]
    assert answer["reason"] == "context_length_exceeded"


def test_a_cache_that_is_too_small_is_refused_before_anything_is_loaded(stack: Stack, client: httpx.Client) -> None:
    def refused(**config: int) -> httpx.Response:
        return client.post("/models/local/deploy", json={"model_type": "cramped", "deployment_config": config})

    measured(client, "cramped", deployment_config={"context_length": 2048})
    response = refused()
    assert response.status_code == 422
    data = response.json()["data"]
    assert data["reason"] == "option_not_supported"
    (text,) = data["errors"]["options.cache_gib"]
    assert "cache_gib 0.05 holds 3904 tokens" in text
    assert "lower context_length to 3904 or less" in text
    assert not stack.registry.replicas("cramped")
