"""Why the transformers engine can't load a folder, and weights that stay with the host. Tiny models."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.models.engines import SPECS
from tests.tiny_models import save_tiny_llama
from workers.engines.base import EngineConfig, Sampling, SequenceRequest
from workers.engines.failures import LoadFailed, Reason


def change(folder: Path, **values: Any) -> None:
    """Change the config of a model."""
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def cut(folder: Path) -> None:
    """Damage the header of the weights."""
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])


@pytest.mark.parametrize(
    ("harm", "reason", "text"),
    [
        (lambda folder: change(folder, model_type="steam"), Reason.UNSUPPORTED_ARCHITECTURE, "'steam'"),
        (lambda folder: change(folder, model_type="vit"), Reason.UNSUPPORTED_ARCHITECTURE, "continue text"),
        (lambda folder: change(folder, num_hidden_layers=3), Reason.MISSING_FILE, "lack tensors"),
        (lambda folder: (folder / "config.json").unlink(), Reason.MISSING_FILE, "no config.json"),
        (
            lambda folder: (folder / "model.safetensors").unlink(),
            Reason.MISSING_FILE,
            "no file named model.safetensors",
        ),
        (cut, Reason.CHECKSUM, "damaged"),
    ],
)
def test_a_folder_that_cannot_be_loaded_has_a_reason(
    tmp_path: Path, harm: Callable[[Path], object], reason: Reason, text: str
) -> None:
    harm(save_tiny_llama(tmp_path))
    error = refused(EngineConfig("transformers", str(tmp_path), "CPU", 2, 64))
    assert error.reason is reason
    assert text in str(error)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"quantization": "int3"}, Reason.BAD_QUANTIZATION),
        ({"quantization": "int8", "tensor_parallel_size": 2}, Reason.BAD_QUANTIZATION),
        ({"cpu_offload": True}, Reason.UNSUPPORTED_OPTION),
        ({"device": "cuda:12"}, Reason.UNSUPPORTED_OPTION),
        ({"device": "tpu0"}, Reason.UNSUPPORTED_OPTION),
    ],
)
def test_options_that_cannot_be_honoured_are_refused(tmp_path: Path, options: dict[str, Any], reason: Reason) -> None:
    save_tiny_llama(tmp_path)
    config = {"engine": "transformers", "model_path": str(tmp_path), "device": "CPU", **options}
    error = refused(EngineConfig(max_batch_size=2, context_length=64, **config))
    assert error.reason is reason


def test_rows_that_have_no_whole_number_of_groups_are_refused_in_int4(tmp_path: Path) -> None:
    save_tiny_llama(tmp_path, intermediate_size=100)
    error = refused(EngineConfig("transformers", str(tmp_path), "CPU", 2, 64, quantization="int4"))
    assert error.reason is Reason.BAD_QUANTIZATION
    assert "down_proj has rows of 100" in str(error)


def test_weights_outside_of_linear_layers_are_refused_in_int8(tmp_path: Path) -> None:
    import transformers

    shape = transformers.GPT2Config(vocab_size=512, n_embd=64, n_layer=1, n_head=2, n_positions=64)
    transformers.GPT2LMHeadModel(shape).save_pretrained(tmp_path)
    error = refused(EngineConfig("transformers", str(tmp_path), "CPU", 2, 64, quantization="int8"))
    assert error.reason is Reason.BAD_QUANTIZATION
    assert "c_attn" in str(error)


def test_layers_that_are_kept_on_the_host_compute_the_same(tmp_path: Path) -> None:
    import torch
    import transformers

    from workers.engines.pytorch.offload import keep_on_host

    model = transformers.AutoModelForCausalLM.from_pretrained(save_tiny_llama(tmp_path))
    ids = torch.tensor([[1, 2, 3]])
    expected = model(ids).logits
    kept = keep_on_host(model, torch.device("cpu"))
    assert kept.device.type == "cpu"
    assert {p.device.type for p in kept.base_model.layers.parameters()} == {"meta"}
    assert torch.equal(kept(ids).logits, expected)


def refused(config: EngineConfig) -> LoadFailed:
    from workers.engines.pytorch.loading import check_shares, load_causal_lm

    with pytest.raises(LoadFailed) as caught:
        (check_shares if config.tensor_parallel_size > 1 else load_causal_lm)(config)
    return caught.value


@pytest.mark.parametrize(("has_flash", "tokens", "blocks"), [(True, 4096, 9), (False, 1024, 0)])
def test_settings_of_a_cuda_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_flash: bool, tokens: int, blocks: int
) -> None:
    """Pages that flash attention takes, steps that fill the device, graphs where no mask is needed."""
    import torch

    from workers.engines.pytorch import loading

    monkeypatch.setattr(loading, "device_of", lambda config: torch.device("cuda", 0))
    monkeypatch.setattr(loading, "_has_flash_attention", lambda device: has_flash)
    config = EngineConfig("transformers", str(tmp_path), "cuda:0", 64, 2100, kv_capacity_tokens=100_000)
    found = loading._batching(config)
    assert (found.page_size, found.num_blocks) == (SPECS["transformers"].kv_block_tokens["cuda"], 391)
    assert (found.max_batch_tokens, found.max_blocks_per_request) == (tokens, blocks)
    assert max(tokens, 4096) == SPECS["transformers"].step_tokens["cuda"]
    assert (found.max_requests_per_batch, found.use_cuda_graph) == (64, has_flash)
    assert not loading._batching(replace(config, use_flash_attention=False)).use_cuda_graph
    assert not loading._batching(replace(config, cpu_offload=True)).use_cuda_graph


def test_pages_and_scores_of_a_cuda_device_give_the_same_answers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the CPU can show: pages of 256, and scores that are taken from where a graph would leave them."""
    import torch

    from workers.engines.pytorch import loading
    from workers.engines.pytorch.transformers import TransformersEngine

    config = EngineConfig("transformers", str(save_tiny_llama(tmp_path)), "CPU", 4, 512)
    prompts = [[7, 300, 12], [(37 * i) % 500 for i in range(300)]]
    wanted = Sampling(8, seed=3, top_p=0.9, logprobs=True)

    def answers(*, as_on_cuda: bool) -> list[list[int]]:
        engine = TransformersEngine(config)
        if as_on_cuda:
            stepping = engine._manager.batch_processor.model_runner.compute_batch.__self__
            stepping._left = torch.empty((4, 512))
        for i, prompt in enumerate(prompts):
            engine.add(SequenceRequest(i, prompt, wanted))
        made: list[list[int]] = [[] for _ in prompts]
        while engine.has_work():
            for output in engine.step():
                made[output.sequence_id] += output.token_ids
        engine.close()
        return made

    plain = answers(as_on_cuda=False)
    monkeypatch.setattr(loading, "PAGE_TOKENS", loading.CUDA_PAGE_TOKENS)
    assert answers(as_on_cuda=True) == plain
    assert [len(one) for one in plain] == [8, 8]
