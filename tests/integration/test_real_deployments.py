"""Deployments of real weights, in a small model of random ones: to another quantization, and in two processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from gateway.models.catalog import load_catalog
from gateway.settings import Settings
from tests.deployments import deploy, ended
from tests.stack import Stack, chat, eventually, running
from tests.tiny_models import save_tiny_llama

CATALOG = """
[models.tiny]
name = "Tiny"
description = "Random weights"
version = "1.0"
capabilities = ["chat"]
engine = "transformers"
source = "{folder}"
context_length = 512
max_tokens = 256
"""
ASK = {"messages": [{"role": "user", "content": "What is water?"}], "temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """SmolLM2's tokenizer and chat template before a tiny model."""
    import transformers

    folder = tmp_path_factory.mktemp("tiny")
    source = load_catalog(Settings(config=folder / "none.toml", data_dir=folder)).get("smollm2-135m").path()
    assert source is not None
    tokenizer = transformers.AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    tokenizer.save_pretrained(folder)
    save_tiny_llama(folder, vocab_size=49_152, eos_token_id=2, bos_token_id=1)
    home = tmp_path_factory.mktemp("real")
    (home / "headrace.toml").write_text(CATALOG.format(folder=folder))
    with running(home, {"fake": {}}, drain_s=30.0) as stack:
        eventually(stack.registry.devices, "the agent lives")
        yield stack


def deploy_tiny(client: httpx.Client, **body: Any) -> None:
    """Deploy the tiny model, and wait until it serves."""
    data = ended(client, deploy(client, "tiny", **body), 150)
    assert data["status"] == "completed", data["error"]


@pytest.mark.slow
def test_a_roll_to_int8_under_load_and_two_processes(stack: Stack, client: httpx.Client, tmp_path: Path) -> None:
    deploy_tiny(client, deployment_config={"max_batch_size": 4})
    whole = answer(client)
    stop, errors, answered = threading.Event(), [], []

    def load() -> None:
        while not stop.is_set():
            stream = chat(stack, model="tiny", max_tokens=16).join()
            (errors if stream.error else answered).append(stream)

    clients = [threading.Thread(target=load) for _ in range(2)]
    for thread in clients:
        thread.start()
    try:
        deploy_tiny(client, quantization="int8", deployment_config={"max_batch_size": 4})
        before = len(answered)
        eventually(lambda: len(answered) > before + 3, "requests are answered after it as well")
    finally:
        stop.set()
        for thread in clients:
            thread.join()
    assert not errors
    (replica,) = stack.registry.replicas("tiny")
    assert replica.quantization == "int8"
    assert replica.effective["quantization"] == "int8"
    deploy_tiny(client, deployment_config={"max_batch_size": 4, "tensor_parallel_size": 2})
    (replica,) = stack.registry.replicas("tiny")
    family = psutil.Process(replica.pid).children(recursive=True)
    started = [word for process in family for word in process.cmdline() if word.startswith("workers.engines.")]
    assert sorted(started) == ["workers.engines.process", "workers.engines.pytorch.rank_process"]
    assert answer(client) == whole
    client.delete("/models/local/tiny")
    eventually(lambda: not any(p.is_running() for p in family), "all ranks have ended")


def answer(client: httpx.Client) -> str:
    response = client.post("/models/tiny/chat/completions", json=ASK)
    assert response.status_code == 200, response.text
    return str(response.json()["data"]["choices"][0]["message"]["content"])
